"""Write a bake definition and run `docker buildx bake` on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jetpare.base import process
from jetpare.base.files import json_object, write_atomically
from jetpare.base.process import command_line
from jetpare.engine.model import Engine
from jetpare.project.naming import definition_file

# Targets that are only linked to would be exported as untagged images otherwise: seconds, and gigabytes in the lists.
ENVIRONMENT = {"BUILDX_NO_DEFAULT_LOAD": "1"}


def command(docker: str, file: Path, targets: tuple[str, ...]) -> list[str]:
    """The argv that builds *targets* of the definition in *file*; to be run in the project's folder."""
    # Provenance would change the top digest at every build.
    return [docker, "buildx", "bake", "--file", str(file), "--provenance=false", *targets]


def echo(running: Engine, argv: list[str]) -> str:
    """Return the line that announces *argv*, with the environment that it needs in a shell of the user's."""
    return command_line(argv, {**running.overrides, **ENVIRONMENT})


def write_definition(root: Path, state: Path, content: Mapping[str, Any], name: str = "bake") -> Path:
    """Write the definition, and the folders that it names, below *root*; its path is relative to *root*."""
    (root / state / "empty").mkdir(parents=True, exist_ok=True)
    file = definition_file(state, name)
    # Bake reads JSON through HCL, to which ${...} and %{...} are templates.
    text = json.dumps(content, indent=2).replace("${", "$${").replace("%{", "%%{")
    write_atomically(root / file, text + "\n")
    return file


def run(
    argv: list[str], *, root: Path, env: Mapping[str, str], metadata: Path, on_chunk: Callable[[bytes], None]
) -> tuple[int, dict[str, Any]]:
    """Run bake, with its event stream going to *on_chunk* in chunks. Return its exit status and metadata by target.

    The metadata is empty where bake has failed, or did not write any.
    """
    metadata.unlink(missing_ok=True)  # buildx wants a path that does not exist yet
    extra = ["--progress=rawjson", f"--metadata-file={metadata}"]
    status = process.stream([*argv, *extra], on_chunk, env={**env, **ENVIRONMENT}, cwd=root)
    return status, json_object(metadata)

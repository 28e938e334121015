"""Keep build secrets on disk only while a build runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from jetpare.base.files import write_atomically
from jetpare.build import network
from jetpare.project import naming
from jetpare.project.project import Project


@contextmanager
def build_secrets(project: Project, settings: network.NetworkSettings) -> Iterator[None]:
    """Keep the files of the build secrets on disk while the block runs, and no longer, however it ends.

    The definition that the block leaves does not name them any more, so that the command that was echoed can be pasted.
    """
    try:
        network.write_secrets(settings, root=project.root, state=project.state)
        yield
    finally:
        folder = project.state_path / "secrets"
        for name in naming.SECRETS:  # each by name: the folder may be a link, which rmtree leaves alone
            with suppress(OSError):
                (folder / name).unlink()
        shutil.rmtree(folder, ignore_errors=True)
        file = project.root / naming.definition_file(project.state)
        with suppress(OSError, ValueError):  # the secrets are gone, and that is what matters
            write_atomically(file, json.dumps(without_secrets(json.loads(file.read_text())), indent=2) + "\n")


def without_secrets(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return *definition* without the build secrets, whose files are there only while a build of ours runs."""
    gone = tuple(f"id={name}," for name in naming.SECRETS)
    return {
        "target": {
            name: {**target, "secret": [each for each in target["secret"] if not each.startswith(gone)]}
            if "secret" in target
            else target
            for name, target in definition["target"].items()
        }
    }

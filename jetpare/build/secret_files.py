"""Keep build secrets on disk only while a build runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jetpare.build import network
from jetpare.project import naming
from jetpare.project.project import Project


@contextmanager
def build_secrets(project: Project, settings: network.NetworkSettings) -> Iterator[None]:
    """Keep the files of the build secrets on disk while the block runs, and no longer, however it ends."""
    try:
        network.write_secrets(settings, root=project.root, state=project.state)
        yield
    finally:
        shutil.rmtree(project.state_path / "secrets", ignore_errors=True)


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

"""Give a checked image its tag, and find what its base resolved to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from jetpare.base.errors import EngineError
from jetpare.build import ownership
from jetpare.config.values import IMAGE_REFERENCE
from jetpare.engine import image_store
from jetpare.engine.model import Engine


def replace_tag(running: Engine, image_id: str, reference: str, *, state: Path) -> str:
    """Give the image the name *reference*, and remove the image that had it before if a run in *state* made that.

    It stays where something else holds it. Returns the id of an image that stays because no run in *state* made it, so
    most likely one of another checkout of this project, which a private engine cannot have; '' where there is none.
    """
    before = image_store.inspect_image(running, reference)
    image_store.tag_image(running, image_id, reference)
    if before is None or before.id == image_id:
        return ""
    if not running.private and before.id not in ownership.made_ids(state):
        return before.id
    with suppress(EngineError):  # a container uses it, or it has another name: it stays
        image_store.remove_image(running, before.id)
    return ""


def resolved_digest(image: str, steps: Iterable[str]) -> str | None:
    """Return the digest to which BuildKit resolved the reference *image*, from the names of its *steps*.

    Those read '[stage 1/2] FROM docker.io/library/debian:12@sha256:…' or '[context base] docker-image://…@sha256:…'.
    """
    wanted = _full_name(image)
    for step in steps:
        for word in step.split():
            reference, _, digest = word.removeprefix("docker-image://").partition("@")
            known = re.fullmatch(r"sha256:[0-9a-f]{64}", digest) and IMAGE_REFERENCE.fullmatch(reference)
            if known and _full_name(reference) == wanted:
                return digest
    return None


def _full_name(reference: str) -> tuple[str, str, str]:
    """Return registry, path and tag of an image reference, with what it leaves out filled in."""
    from docker.auth import resolve_repository_name
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(reference)
    registry, path = resolve_repository_name(repository)
    return registry, path if "/" in path or registry != "docker.io" else f"library/{path}", tag or "latest"

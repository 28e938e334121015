"""Read the report on an image's versions and checks that scripts/image/probe.py writes into it.

An image may be anybody's, so the report is validated as a whole. One that is missing or damaged was not made.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from jetpare.base.versions import ImageCheck

PLACE = "/usr/share/jetpare/checks.json"  # in the image


class ProbeReport(Struct, frozen=True):
    """What the probe measured. ``versions``: by component, None where it could not be measured."""

    versions: dict[str, str | None]
    checks: tuple[ImageCheck, ...] = ()


def parsed(text: str | bytes) -> ProbeReport | None:
    """Return the report in *text*; None where it is not one."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    try:
        return msgspec.json.decode(data, type=ProbeReport)
    except (msgspec.DecodeError, RecursionError):
        return None


def load(path: Path) -> ProbeReport | None:
    """Return the report in the file *path*; None where that is missing or damaged."""
    try:
        return parsed(path.read_bytes())
    except OSError:
        return None

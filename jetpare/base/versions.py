"""Compare declared versions with measured ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

MATCH, DIFFERS, NOT_MEASURED = "ok", "differs", "not measured"


# --- of one image


@dataclass(frozen=True, kw_only=True)
class VersionRow:
    """One component of one image: what build.toml expects and what was measured in the image."""

    component: str
    expected: str | None
    measured: str | None

    @property
    def status(self) -> str:
        """'ok', 'differs', or 'not measured'; 'ok' too where nothing is expected and something was measured."""
        if self.measured is None:
            return NOT_MEASURED
        return MATCH if self.expected is None or version_matches(self.measured, self.expected) else DIFFERS


@dataclass(frozen=True, kw_only=True)
class ImageCheck:
    """One check that ran in the image: ok, failed, or not measured."""

    name: str
    status: str
    detail: str = ""
    seconds: float | None = None


# --- what their figures mean


def version_matches(measured: str, expected: str) -> bool:
    """Whether *measured* is *expected* or a longer form of it: '3.10' is met by '3.10.12', not by '3.1' or '3.100'.

    A local part is left aside unless it is expected: '2.8.0' is met by '2.8.0+cu126'.
    """
    try:
        have, want = Version(measured), Version(expected)
    except InvalidVersion:
        return measured == expected
    if want.local and want.local != have.local:
        return False
    if want.is_prerelease or want.is_postrelease:
        return have.public == want.public
    # A build of before or after a release (2.8.0a0, as NVIDIA numbers its wheels) still is of that release.
    return have.epoch == want.epoch and have.release[: len(want.release)] == want.release


def version_rows(measured: Mapping[str, str | None], expected: Mapping[str, str]) -> tuple[VersionRow, ...]:
    """A row for every component that was measured or is expected, the expected ones first."""
    names = dict.fromkeys([*expected, *measured])
    return tuple(VersionRow(component=name, expected=expected.get(name), measured=measured.get(name)) for name in names)

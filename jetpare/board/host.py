"""Read files, list files and run programs on the machine that a build runs on: local today, over ssh later.

Paths are the host's own, as text. This module also knows the models and releases of Jetsons.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from jetpare.base import process
from jetpare.base.process import Completed

SUDO = "/usr/bin/sudo"
JETSONS = MappingProxyType({"nvidia,tegra194": "Xavier", "nvidia,tegra234": "Orin", "nvidia,tegra264": "Thor"})
JETPACKS = MappingProxyType(
    {"36.4.0": "6.1", "36.4.3": "6.2", "36.4.4": "6.2.1", "36.4.7": "6.2.1", "36.5.0": "6.2.2"}
)  # by L4T release


class Host(Protocol):
    """The operations that power and telemetry need on a machine."""

    @property
    def is_root(self) -> bool:
        """True if programs on that machine are run as root."""

    @property
    def lock_folder(self) -> Path | None:
        """A folder of that machine where every user may hold a lock; None where there is none."""

    def read_text(self, path: str) -> str:
        """Return the content of a file. Raises OSError with its errno: EAGAIN of a sensor, ENOENT of a missing file."""

    def glob(self, pattern: str) -> tuple[str, ...]:
        """Return the absolute paths that match an absolute *pattern*, sorted."""

    def run(self, argv: tuple[str, ...], *, stdin: str = "", timeout: float, sudo: tuple[str, ...] = ()) -> Completed:
        """Run a program by its absolute path, with *sudo* (a whole prefix, such as ("/usr/bin/sudo", "-n")) before it.

        *timeout* is in seconds. Raises ToolError where it is missing or gives no answer in time.
        """

    def running(self, program: str) -> bool:
        """Return whether some process runs the program with this absolute path now."""


@dataclass(frozen=True, kw_only=True)
class LocalHost:
    """The machine we run on. Every path, a program's too, is looked up below *root*; *uid* tells who is root."""

    environ: Mapping[str, str]
    root: Path = Path("/")
    uid: int = field(default_factory=os.geteuid)

    @property
    def is_root(self) -> bool:
        """True if we are root."""
        return self.uid == 0

    @property
    def lock_folder(self) -> Path | None:
        """/run/lock, where we may write to it."""
        folder = self._path("/run/lock")
        return folder if os.access(folder, os.W_OK) else None

    def read_text(self, path: str) -> str:
        """See Host."""
        return self._path(path).read_bytes().decode(errors="replace")

    def glob(self, pattern: str) -> tuple[str, ...]:
        """See Host."""
        found = glob.glob(pattern.lstrip("/"), root_dir=self.root)  # noqa: PTH207 - pathlib has no root_dir
        return tuple(f"/{path}" for path in sorted(found))

    def run(self, argv: tuple[str, ...], *, stdin: str = "", timeout: float, sudo: tuple[str, ...] = ()) -> Completed:
        """See Host."""
        words = [str(self._path(argv[0])), *argv[1:]]
        if sudo:
            words = [str(self._path(sudo[0])), *sudo[1:], *words]
        return process.attempt(words, env={**self.environ, "LC_ALL": "C"}, stdin=stdin.encode(), timeout=timeout)

    def running(self, program: str) -> bool:
        """See Host; read from the kernel's list of processes; scripts count too, sudo's own process as well."""
        wanted = str(self._path(program)).encode()
        for command in glob.iglob("/proc/[0-9]*/cmdline"):  # noqa: PTH207 - a thousand paths, in a millisecond
            try:
                words = Path(command).read_bytes().split(b"\0")
            except OSError:
                continue  # it ended meanwhile
            if wanted in words:
                return True
        return False

    def _path(self, path: str) -> Path:
        return self.root / path.lstrip("/")


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """The facts about a machine. ``family`` is Xavier, Orin or Thor, or None if it is not a Jetson."""

    family: str | None
    model: str | None  # as the device tree names it
    l4t: str | None  # such as 36.4.3
    jetpack: str | None  # such as 6.2; None for a release that the table does not have
    container: bool  # we are inside one: its files may say Jetson, but it is not a host


def host_facts(host: Host) -> HostFacts:
    """Return the facts about *host*."""
    compatible = (_text(host, "/proc/device-tree/compatible") or "").split("\0")
    model = (_text(host, "/proc/device-tree/model") or "").strip("\0 \n")
    l4t = l4t_release(_text(host, "/etc/nv_tegra_release") or "")
    return HostFacts(
        family=next((JETSONS[name] for name in compatible if name in JETSONS), None),
        model=model or None,
        l4t=l4t,
        jetpack=JETPACKS.get(l4t or ""),
        container=bool(host.glob("/.dockerenv") or host.glob("/run/.containerenv")),
    )


def l4t_release(text: str) -> str | None:
    """'# R36 (release), REVISION: 4.0, ...' -> '36.4.0'; None where the first line is something else."""
    match = re.match(r"#\s*R(\d+)\b.*?\bREVISION:\s*([\d.]+)", text.partition("\n")[0])
    return f"{match[1]}.{match[2]}" if match else None


def read_optional(host: Host, path: str) -> str | None:
    """Return the stripped content of a file; None if it cannot be read now, for any reason."""
    text = _text(host, path)
    return None if text is None else text.strip()


def read_number(host: Host, path: str) -> int | None:
    """Return the whole number in a file; None if there is none."""
    text = read_optional(host, path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _text(host: Host, path: str) -> str | None:
    try:
        return host.read_text(path)
    except OSError:
        return None

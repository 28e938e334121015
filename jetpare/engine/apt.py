"""Run apt and mmdebstrap with the settings that the private engine needs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from jetpare.base import process
from jetpare.base.callbacks import Say

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def system_path(environ: Mapping[str, str]) -> str:
    """Return the caller's PATH followed by the system's sbin folders, which a user's PATH lacks on Debian."""
    return ":".join(part for part in (environ.get("PATH"), SYSTEM_PATH) if part)


def apt_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* for apt and mmdebstrap, with the system's sbin folders on PATH, and without questions."""
    return {**environ, "PATH": system_path(environ), "DEBIAN_FRONTEND": "noninteractive"}


def require_mmdebstrap(env: Mapping[str, str], say: Say) -> None:
    """Install mmdebstrap with apt if it is missing."""
    if shutil.which("mmdebstrap", path=env["PATH"]):
        return
    say("Installing mmdebstrap with apt ...")
    process.run(["apt-get", "update"], env=env)
    process.run(["apt-get", "install", "--yes", "--no-install-recommends", "mmdebstrap"], env=env)

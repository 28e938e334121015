"""Files that are written as a whole or not at all."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

PIECE = 1 << 20  # bytes read at once


def write_out(path: Path, content: bytes) -> None:
    """Write what a user wants at *path*: a file as a whole or not at all, at a link's end; into a device as it is."""
    real = path.resolve()
    if real.exists() and not real.is_file():
        with real.open("wb") as file:
            file.write(content)
    else:
        write_atomically(real, content)


def digest(path: Path) -> str:
    """Return the sha256 of the file at *path*, in hexadecimal digits."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            found.update(piece)
    return found.hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace *path* so that a reader sees the old content or the new, and a crash loses neither. Makes its folder.

    Raises OSError that names *path*, also where the system's own does not, as on a full disk.
    """
    temporary = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        with suppress(OSError):  # such as a folder in its place: the first error says more
            temporary.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error

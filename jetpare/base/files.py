"""Write files as a whole or not at all. Every place that replaces a file uses this module."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

TEMPORARY = ".new-"  # a prefix of its own: a name made from the target's could be too long for the file system

PIECE = 1 << 20  # bytes read at once
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"  # of jetpare itself


def write_out(path: Path, content: bytes) -> None:
    """Write *content* where a user wants it: replace a file, or the file that a link names; write into a device.

    Raises OSError that names *path*.
    """
    if path.exists() and not path.is_file():  # before links are followed: /dev/stdout leads to names such as pipe:[1]
        with path.open("wb") as file:
            file.write(content)
    else:
        write_atomically(path.resolve(), content)


def digest(path: Path) -> str:
    """Return the sha256 of the file at *path*, in hexadecimal digits."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            found.update(piece)
    return found.hexdigest()


def write_atomically(path: Path, content: str | bytes, *, mode: int | None = None) -> None:
    """Replace *path*, and make its folder, so that a reader or a crash finds the old content or the new one.

    Writers do not disturb each other: each has a temporary file of its own in the same folder, and the last one to
    finish wins. *mode*: the file's permissions; None takes those that the umask gives. When this returns, the content
    is on disk. Raises OSError that names *path*; the old content then stays, and no temporary file.
    """
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666 if mode is None else mode
        )
        try:
            with os.fdopen(handle, "wb") as file:
                if mode is not None:
                    os.fchmod(handle, mode)  # whatever the umask
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(handle)
            temporary.replace(path)
        except BaseException:  # Ctrl-C as well
            with suppress(OSError):  # the first error says more
                temporary.unlink()
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def update_json(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Replace the JSON object in *path* with what *change* makes of it; other callers wait for their turn.

    *change* gets an empty object where the file is missing or damaged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_atomically(path, json.dumps(change(json_object(path))) + "\n")


def json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in *path*; an empty one where the file is missing or damaged."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def remove(path: Path) -> None:
    """Remove the file *path*, if it exists. When this returns, it is gone from the disk, too."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in *folder* to the disk, as after a rename."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Find where an engine keeps its data, and how much room is left there."""

from __future__ import annotations

import shutil
from pathlib import Path

from jetpare.engine.folders import EngineFolders
from jetpare.engine.model import Engine, EngineFacts


def is_local(engine: Engine) -> bool:
    """Return whether the engine runs on this machine, as far as its address shows."""
    return engine.private or engine.host.startswith("unix://")


def data_folder(engine: Engine, said: EngineFacts, state: Path) -> Path | None:
    """Return where the engine keeps its images.

    None if the folder cannot be seen from here: on another machine, or below a folder that this user may not enter.
    """
    folder = EngineFolders.of(state).data if engine.private else said.data_root
    if not is_local(engine) or not folder.is_absolute():
        return None
    try:
        folder.stat()
    except OSError:
        return None
    return folder


def free_bytes(engine: Engine, said: EngineFacts, state: Path) -> int | None:
    """Return the free bytes where the engine keeps its images; None if that folder cannot be seen from here."""
    folder = data_folder(engine, said, state)
    return None if folder is None else shutil.disk_usage(folder).free


def data_roots(running: Engine, state: Path) -> tuple[Path, ...]:
    """Return the folders that may hold the engine's data: the one it reports, and a private engine's here."""
    from jetpare.engine import api, folders

    return (api.facts(running).data_root, folders.EngineFolders.of(state).data)

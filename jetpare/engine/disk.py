"""Find where an engine keeps its data, and how much room is left there."""

from __future__ import annotations

import shutil
from pathlib import Path

from jetpare.engine.model import Engine, EngineFacts
from jetpare.engine.places import Places


def is_local(engine: Engine) -> bool:
    """Whether the engine runs on this machine, as far as its address tells."""
    return engine.private or engine.host.startswith("unix://")


def data_folder(engine: Engine, said: EngineFacts, state: Path) -> Path | None:
    """Return where the engine keeps its images; None where that cannot be seen from here.

    It cannot on another machine, nor below a folder that this user may not enter.
    """
    folder = Places.of(state).data if engine.private else said.data_root
    if not is_local(engine) or not folder.is_absolute():
        return None
    try:
        folder.stat()
    except OSError:
        return None
    return folder


def free_bytes(engine: Engine, said: EngineFacts, state: Path) -> int | None:
    """Return the free bytes where the engine keeps its images; None where that folder cannot be seen from here."""
    folder = data_folder(engine, said, state)
    return None if folder is None else shutil.disk_usage(folder).free


def data_roots(running: Engine, state: Path) -> tuple[Path, ...]:
    """Where the engine's data may be on this machine: where it says, and where a private engine's are from outside."""
    from jetpare.engine import api, places

    return (api.facts(running).data_root, places.Places.of(state).data)

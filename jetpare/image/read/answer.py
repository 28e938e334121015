"""Check and gather the lines that a collector answers with."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any

from jetpare.base.callbacks import Say
from jetpare.image import inventory

Tables = dict[str, list[Any]]
PLEASANT_SECONDS = 2.0  # between two lines on how far it is
BY_FILES = ("overlay2", "fuse-overlayfs", "vfs")  # stores whose sizes of layers are the sums of their files' bytes
SLACK_BYTES = 16 << 20
READ = tuple(name for name in (*inventory.TABLES, *inventory.LISTS) if name != "layers")  # what is read in an image
TABLE_NAME = re.compile(rb'\s*\[\s*"(\w+)"')  # a line of the collector


class NoAnswerError(Exception):
    """A container did not answer as the collector does; why."""


def shortened(text: str) -> str:
    """Return the end of *text* in one line."""
    return " ".join(text.split())[-200:]


def gather(lines: Iterable[bytes], say: Say) -> Tables:
    """The tables that the collector's *lines* hold, checked. Raises NoAnswerError where they are not what it says."""
    tables: Tables = {name: [] for name in READ}
    tell = teller(say)
    for line in lines:
        try:
            found = TABLE_NAME.match(line)
            name = found[1].decode() if found else ""
            if name == "end":
                inventory.check_names(tables["files"], tables["elfs"] + tables["mentions"])
                return tables
            kind = tuple[int, int] if name == "progress" else inventory.rows_of(name)
            _, rows = inventory.decoded(line, tuple[str, kind])  # type: ignore[valid-type]
            if name == "progress":
                tell(f"read {rows[0]} of {rows[1]} files")
            else:
                tables[name] += inventory.read_rows(name, rows)
        except (ValueError, KeyError, RecursionError) as error:
            raise NoAnswerError(f"not what the collector says ({shortened(repr(error))})") from error
    raise NoAnswerError("its answer ends too early")


def check_bytes(tables: Tables, store: str, layers_bytes: int | None) -> None:
    """NoAnswerError where files are said to take more than all layers do, in a store that counts those by files."""
    said = sum(file.bytes for file in tables["files"])
    if store in BY_FILES and layers_bytes is not None and said > layers_bytes * 1.01 + SLACK_BYTES:
        raise NoAnswerError(f"it tells of {said} bytes in files, its layers have {layers_bytes}")


def teller(say: Say) -> Say:
    """*say*, but not more often than is pleasant."""
    told = [time.monotonic()]

    def tell(text: str) -> None:
        if time.monotonic() - told[0] > PLEASANT_SECONDS:
            told[0] = time.monotonic()
            say(text)

    return tell

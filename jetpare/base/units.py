"""Format bytes and durations for people: one formatter for each, so that a figure reads the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

GB = 10**9
MB = 10**6
TENTHS_UNTIL = 59.95  # seconds; longer durations are shown in whole seconds

_UNITS = (("B", 1), ("kB", 10**3), ("MB", MB), ("GB", GB), ("TB", 10**12))  # decimal, as disks and registries count
_ROUNDS_UP = 999.5  # from here on three figures read 1000, which is 1.00 of the next unit


def size_text(count: float | None, *, unit: str | None = None) -> str:
    """Format *count* bytes with three significant figures: '5.41 GB', '840 MB', '13.4 kB', '412 B'.

    With *unit*, such as 'GB', format with two decimals in that unit, so that the rows of a column can be compared.
    None becomes 'not measured'.
    """
    if count is None:
        return "not measured"
    name = unit or common_unit([count])
    if name == "B":
        return f"{count:.0f} B"
    value = count / dict(_UNITS)[name]
    return f"{value:.{2 if unit else _decimals(value)}f} {name}"


def _decimals(value: float) -> int:
    """Return how many decimals give three significant figures: 5.41, 74.9, 840."""
    return next(decimals for decimals, limit in ((2, 9.995), (1, 99.95), (0, math.inf)) if abs(value) < limit)


def common_unit(counts: Iterable[float | None]) -> str:
    """Return the unit that suits the largest of *counts*, for a column in one unit. None is left out."""
    largest = max((abs(count) for count in counts if count is not None), default=0)
    return next((name for name, size in _UNITS if largest / size < _ROUNDS_UP), _UNITS[-1][0])


def duration(seconds: float) -> str:
    """Format *seconds* in words: '4.2 s', '4 min 46 s'."""
    if seconds < TENTHS_UNTIL:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s"


def clock_face(seconds: float) -> str:
    """Format *seconds* for a narrow column: '4.2 s', '4:46'."""
    if seconds < TENTHS_UNTIL:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"


def of_about(show: Callable[[float], str], seconds: float, usual: float | None) -> str:
    """Return '1:12 of about 1:40' where the usual duration is known, else '1:12'. *show* formats seconds."""
    return show(seconds) + (f" of about {show(usual)}" if usual is not None else "")

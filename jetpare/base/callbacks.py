"""Name the functions by which long work says how it goes."""

from __future__ import annotations

from collections.abc import Callable

Say = Callable[[str], None]  # hears a line for a person
TellBytes = Callable[[int, int | None], None]  # hears the bytes done, and about how many there are

"""Words that come from elsewhere, such as names in an image, for a terminal that acts on nothing in them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def plain(text: str) -> str:
    """*text* with all that a terminal or a table would not show as one line written as escapes."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode() for char in text
    )


def plain_lines(text: str) -> str:
    """The same, keeping lines; tabs become spaces."""
    return "\n".join(plain(line) for line in text.expandtabs().splitlines())


def suggest(word: str, known: Any) -> str:  # noqa: ANN401 - any iterable of names, mappings included
    """', did you mean X?' where something is close, else ''."""
    close = difflib.get_close_matches(word, [str(name) for name in known], n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def some(words: Iterable[str], most: int = 3) -> str:
    """Return *words* in one line, and how many there are beyond *most*: 'a, b, c and 5 more'."""
    names = list(words)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest

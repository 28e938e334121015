"""Name a place in build.toml, as its faults do."""

from __future__ import annotations

import re
from collections.abc import Sequence


def table_name(tables: Sequence[str | int]) -> str:
    """Return the table that a fault is in, as build.toml writes it: [images.cuda]."""
    return f"[{'.'.join(key_text(name) for name in tables)}]" if tables else "top level"


def key_text(name: str | int) -> str:
    """A key as TOML writes it, in one line whatever it holds."""
    text = str(name)
    if re.fullmatch(r"[A-Za-z0-9_-]+", text):
        return text
    return f'"{text}"' if text.isprintable() else repr(text)

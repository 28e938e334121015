"""Name tables and keys of build.toml in messages."""

from __future__ import annotations

import re
from collections.abc import Sequence


def table_name(tables: Sequence[str | int]) -> str:
    """Return a table's name as build.toml writes it: [images.cuda]."""
    return f"[{'.'.join(key_text(name) for name in tables)}]" if tables else "top level"


def key_text(name: str | int) -> str:
    """Return a key as TOML writes it, on one line whatever it contains."""
    text = str(name)
    if re.fullmatch(r"[A-Za-z0-9_-]+", text):
        return text
    return f'"{text}"' if text.isprintable() else repr(text)

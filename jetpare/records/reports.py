"""Read the report that a stage leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file that a stage brought out; empty where it is missing or no object."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def cache_counts(report: Path | None) -> tuple[int, int] | None:
    """Ccache's (hits, cacheable calls) of the run that made a stage, from its record."""
    counts = read_json(report / "gdal.json").get("ccache") if report else None
    if not isinstance(counts, dict):
        return None
    hits, misses = int(counts.get("hits") or 0), int(counts.get("misses") or 0)
    return hits, hits + misses


def tree_bytes(report: Path | None, stage: str) -> int | None:
    """The bytes of the tree that *stage* leaves, where its record tells."""
    found = read_json(report / f"{stage}.json").get("tree_bytes") if report else None
    return found if isinstance(found, int) else None


def fallback(report: Path | None) -> list[str]:
    """Why GDAL was not compiled as build.toml asks for, from the stage's record; mostly nothing."""
    found = read_json(report / "gdal.json") if report else {}
    return [f"{found.get('build')} build: {found['why']}"] if found.get("why") else []

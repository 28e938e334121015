"""Read the report that a stage leaves. What is missing or damaged counts as not reported."""

from __future__ import annotations

from pathlib import Path

from jetpare.base.files import json_object


def cache_counts(report: Path | None) -> tuple[int, int] | None:
    """Return ccache's (hits, cacheable calls) in the run that made a stage; None where its report has none."""
    counts = json_object(report / "gdal.json").get("ccache") if report else None
    if not isinstance(counts, dict):
        return None
    hits, misses = int(counts.get("hits") or 0), int(counts.get("misses") or 0)
    return hits, hits + misses


def tree_bytes(report: Path | None, stage: str) -> int | None:
    """Return the bytes of the tree that *stage* leaves; None where its report does not say."""
    found = json_object(report / f"{stage}.json").get("tree_bytes") if report else None
    return found if isinstance(found, int) else None


def fallback(report: Path | None) -> list[str]:
    """Return why GDAL was not compiled as build.toml asks, as at most one line."""
    found = json_object(report / "gdal.json") if report else {}
    return [f"{found.get('build')} build: {found['why']}"] if found.get("why") else []

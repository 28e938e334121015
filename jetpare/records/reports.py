"""Read the report that a stage leaves. What is missing or damaged counts as not reported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

Quantity = Annotated[int, Meta(ge=0)]
GDAL = "gdal"  # the stage that is compiled


class CompilerCache(Struct, frozen=True):
    """How often ccache had what was to be compiled."""

    hits: Quantity = 0
    misses: Quantity = 0


class StageReport(Struct, frozen=True):
    """A stage's report, as far as it is read. ``why``: why the build is not the one that build.toml asks for."""

    tree_bytes: Quantity | None = None
    ccache: CompilerCache | None = None
    milliseconds: dict[str, float | None] = {}
    build: str | None = None
    why: str | None = None


def stage_report(report: Path | None, stage: str) -> StageReport:
    """Return what *stage* says in the folder *report*; an empty report where it is missing or damaged."""
    if report is None:
        return StageReport()
    try:
        return msgspec.json.decode((report / f"{stage}.json").read_bytes(), type=StageReport)
    except (OSError, msgspec.DecodeError, RecursionError):
        return StageReport()


def cache_counts(report: Path | None) -> tuple[int, int] | None:
    """Return ccache's (hits, cacheable calls) in the run that made a stage; None where its report has none."""
    counts = stage_report(report, GDAL).ccache
    return (counts.hits, counts.hits + counts.misses) if counts else None


def tree_bytes(report: Path | None, stage: str) -> int | None:
    """Return the bytes of the tree that *stage* leaves; None where its report does not say."""
    return stage_report(report, stage).tree_bytes


def phases(report: Path | None) -> dict[str, float] | None:
    """Return the seconds of each phase of compiling GDAL; None where its report has none."""
    found = stage_report(report, GDAL).milliseconds
    return {name: value / 1000 for name, value in found.items() if value is not None} or None


def fallback(report: Path | None) -> list[str]:
    """Return why GDAL was not compiled as build.toml asks, as at most one line."""
    found = stage_report(report, GDAL)
    return [f"{found.build} build: {found.why}"] if found.why else []

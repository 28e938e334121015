"""Find what earlier runs recorded of a stage."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from jetpare.project.project import Project
from jetpare.records import ledger
from jetpare.records.ledger import StageRecord


def built_stages(project: Project, *, profile: str, labels: Iterable[str]) -> dict[str, StageRecord | None]:
    """Each stage as the newest run left it that did not find it in the cache; None where none did."""
    return {
        label: next(
            (
                row
                for _, row in project.ledger.runs_of(profile=profile, label=label)
                if row.status == ledger.OK and row.cache != "cached"
            ),
            None,
        )
        for label in labels
    }


def log_file(project: Project, label: str, profile: str) -> Path | None:
    """The log of the newest run in which the node really ran; else of the newest one that found it in the cache."""
    kept = project.ledger
    logs = [
        (row.cache == "cached", kept.path(run.id) / row.log)
        for run, row in kept.runs_of(profile=profile, label=label)
        if row.log
    ]
    there = [(cached, path) for cached, path in logs if path.is_file()]
    return min(there, key=lambda each: each[0])[1] if there else None  # the first, so the newest, of each kind

"""Keep the record of a run under way, so that it is true on disk at every moment."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any

from jetpare import __version__
from jetpare.base.errors import JetpareError
from jetpare.build.request import Request, rebuilding_runs
from jetpare.engine.model import EngineFacts
from jetpare.project import project as projects
from jetpare.project.plan import Plan
from jetpare.project.project import Project
from jetpare.records import ledger
from jetpare.records.ledger import Ledger, Record, StageRecord

FOLDERS = ("logs", "events", "reports")


class Journal:
    """The record of one run: replaced as a whole at every change, and written before the change counts.

    Set ``has_failed`` as soon as something has failed. From then on a record that cannot be written hides nothing: the
    first failure is the one that is raised.
    """

    def __init__(self, kept: Ledger, record: Record) -> None:
        self.record = record
        self.folder = kept.path(record.id)
        self.has_failed = False
        self._ledger, self._clock = kept, time.monotonic()

    def open(self) -> None:
        """Write the first record, and make the folders next to it."""
        self._ledger.write(self.record)  # first: a folder without a record reads as a damaged one
        for name in FOLDERS:
            (self.folder / name).mkdir(exist_ok=True)

    def put(self, **changes: Any) -> None:  # noqa: ANN401 - fields of Record
        """Change the record and write it. Raises OSError, but not after a failure; `close` then writes it again."""
        self.record = self.record.model_copy(update=changes)
        try:
            self._ledger.write(self.record)
        except OSError:
            if not self.has_failed:
                raise

    def put_stage(self, row: StageRecord) -> None:
        """Put *row* in the place of the one with its label."""
        self.put(stages=tuple(row if row.label == old.label else old for old in self.record.stages))

    def close(self, status: str, failure: str = "") -> None:
        """Write the last record. Stages that never ran are skipped, and say because of what."""
        broken = next((row.label for row in self.record.stages if row.status == ledger.FAILED), None)
        cause = f"{broken} failed" if broken else first_line(failure).rstrip(":")
        unfinished = {
            ledger.RUNNING: status if status != ledger.SUCCEEDED else ledger.OK,
            ledger.WAITING: ledger.SKIPPED,
        }
        stages = tuple(
            row.model_copy(update={"status": unfinished[row.status], "reason": row.reason or cause})
            if row.status in unfinished
            else row
            for row in self.record.stages
        )
        ended = {"finished": time.time(), "wall_seconds": time.monotonic() - self._clock}
        self.record = self.record.model_copy(update={"status": status, "failure": failure, "stages": stages, **ended})
        self._ledger.write(self.record)

    def close_after_failure(self, status: str, failure: str) -> str:
        """Write the last record after *failure*. Return what to add to its message: '' where the record is written."""
        try:
            self.close(status, failure)
        except (JetpareError, OSError) as error:
            return f"\nBesides, the last record of this run could not be written: {error}"
        return ""


def begin(project: Project, plan: Plan, request: Request, *, facts: EngineFacts, host: dict[str, Any]) -> Journal:
    """Open the journal of a new run, in which every stage of *plan* waits. *host* is what the record says of it."""
    kept = project.ledger
    first = Record(
        tool=f"jetpare {__version__}",
        id=kept.new_id(datetime.now(timezone.utc), remembered=rebuilding_runs(project)),
        task=request.task,
        status=ledger.RUNNING,
        pid=ledger.own_pid(),
        started=time.time(),
        profile=plan.profile_name,
        description=plan.profile.description,
        platform=plan.platform,
        parallel=request.parallel,
        cold=request.cold,
        config_digest=project.config_digest,
        revision=projects.source_revision(project.root, project.environ),
        host=host,
        engine={
            "host": facts.host,
            "version": facts.version_text,
            "buildx": str(facts.buildx),
            "store": facts.store,
            "platform": facts.platform,
            "cpus": facts.cpus,
            "memory_bytes": facts.memory_bytes,
        },
        stages=tuple(StageRecord(label=node.label, status=ledger.WAITING) for node in plan.nodes),
    )
    journal = Journal(kept, first)
    journal.open()
    return journal


def first_line(text: str) -> str:
    """Return the first line of *text*: what fits into a row."""
    return text.splitlines()[0] if text else ""

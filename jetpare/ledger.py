"""Run records on disk: one folder a run, readable by other tools, whole at every moment.

.jetpare/runs/ID/run.json is rewritten as a whole after every step (temporary file, fsync, rename), so a run that is
killed leaves the last state it had. A record that still says 'running' although its process is gone is read as
interrupted. Beside it stand the event stream of every call (events/), the full log of every node (logs/) and the
records that the stages brought out (reports/). docs/record.md describes the format; unknown keys are ignored.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Strict, ValidationError

from jetpare.errors import BusyError
from jetpare.files import write_atomically
from jetpare.telemetry import StageTelemetry

SCHEMA = 1
RUNNING, SUCCEEDED, FAILED, INTERRUPTED = "running", "succeeded", "failed", "interrupted"
OK, SKIPPED, WAITING = "ok", "skipped", "waiting"
# How a stage was built for a machine of another kind: the beginning of a mark, before "on PLATFORM".
CROSS_BUILT, EMULATED = "cross-built", "emulated"

T = TypeVar("T")
Many = Annotated[tuple[T, ...], Strict(strict=False)]


class Row(BaseModel):
    """A part of a record: frozen, and tolerant of what newer versions add."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StageRecord(Row):
    """One node of the plan in one run. Times in seconds; None means not measured."""

    label: str
    status: str  # waiting, running, ok, failed, skipped, interrupted
    reason: str = ""  # why it failed or was skipped
    started: float | None = None  # seconds since the epoch
    finished: float | None = None  # seconds since the epoch
    seconds: float | None = None  # length of the union of its steps' intervals
    work: float | None = None  # sum of its steps' times: more than `seconds` where steps ran side by side
    cache: str | None = None  # cold, warm, cached
    why: str = ""  # what makes it so
    steps: int = 0
    steps_cached: int = 0
    pull_seconds: float = 0.0
    context_seconds: float = 0.0
    export_seconds: float = 0.0
    pulled_bytes: int = 0
    overlaps: bool = False  # built in one solve with others, so that times overlap
    log: str | None = None  # path relative to the run's folder
    events: str | None = None
    report: str | None = None
    inputs: str | None = None  # digest of what decided the result
    tree_bytes: int | None = None  # the tree that it leaves; None where the stage does not measure it
    telemetry: StageTelemetry | None = None
    marks: Many[str] = ()  # why its time does not stand for the power mode that the run names, or for the target


class ImageRecord(Row):
    """A finished image. Sizes in bytes; None means not measured."""

    name: str
    reference: str
    id: str | None = None
    status: str  # ok, failed, skipped
    reason: str = ""
    base: str = ""
    base_digest: str | None = None
    layers: int | None = None
    layers_bytes: int | None = None
    merged_bytes: int | None = None
    versions: dict[str, str | None] = {}
    expected: dict[str, str] = {}
    checks: Many[dict[str, Any]] = ()


class Record(Row):
    """One run."""

    schema_version: int = SCHEMA
    tool: str
    id: str
    task: str
    status: str
    pid: int
    started: float
    finished: float | None = None
    wall_seconds: float | None = None  # by a monotonic clock
    profile: str
    description: str = ""
    platform: str
    parallel: bool
    cold: bool
    config_digest: str
    revision: str | None
    host: dict[str, Any]
    engine: dict[str, Any]
    stages: Many[StageRecord] = ()
    images: Many[ImageRecord] = ()
    critical_path: Many[dict[str, Any]] = ()
    # Of all calls of bake together; in a stage's row they are that of its target, and targets of one call share them.
    pull_seconds: float = 0.0
    context_seconds: float = 0.0
    export_seconds: float = 0.0
    failure: str = ""

    def stage(self, label: str) -> StageRecord | None:
        """The row called *label*."""
        return next((row for row in self.stages if row.label == label), None)


class Ledger:
    """The records below one state folder."""

    def __init__(self, state: Path) -> None:
        self.folder = state / "runs"

    def new_id(self, now: datetime) -> str:
        """A name that sorts by time, for example '20250102-030405'; a second run in that second gets a suffix."""
        stem = now.astimezone(timezone.utc).strftime("%Y%m%d-%H%M%S")
        candidates = (stem, *(f"{stem}-{number}" for number in range(2, 1000)))
        return next(name for name in candidates if not (self.folder / name).exists())

    def path(self, run: str) -> Path:
        """The folder of a run."""
        return self.folder / run

    def write(self, record: Record) -> None:
        """Write *record* so that a reader sees the old one or the new one, and a crash loses neither."""
        write_atomically(self.path(record.id) / "run.json", json.dumps(record.model_dump(), indent=2) + "\n")

    def records(self) -> Iterator[tuple[Record | None, Path]]:
        """All runs, newest first: the record and its folder; None for one that cannot be read."""
        if not self.folder.is_dir():
            return
        for folder in sorted((path for path in self.folder.iterdir() if path.is_dir()), reverse=True):
            yield read(folder), folder

    def latest(self, *, profile: str, label: str, status: str | None = None) -> tuple[Record, StageRecord] | None:
        """The newest run of *profile* that did something for the node *label*; with *status*, that ended so."""
        return next(
            (pair for pair in self.runs_of(profile=profile, label=label) if status in {None, pair[1].status}), None
        )

    def runs_of(self, *, profile: str, label: str) -> Iterator[tuple[Record, StageRecord]]:
        """Every run of *profile* that did something for the node *label*, newest first."""
        for record, _ in self.records():
            row = record.stage(label) if record and record.profile == profile else None
            if record and row and row.status not in {WAITING, SKIPPED}:
                yield record, row


def read(folder: Path) -> Record | None:
    """The record in *folder*, or None where it is damaged, foreign or of an unknown schema."""
    try:
        record = Record.model_validate_json((folder / "run.json").read_bytes())
    except (OSError, ValidationError):
        return None
    if record.schema_version != SCHEMA or record.id != folder.name:
        return None
    if record.status == RUNNING and not _alive(record.pid):
        stages = tuple(
            row.model_copy(update={"status": INTERRUPTED}) if row.status == RUNNING else row for row in record.stages
        )
        return record.model_copy(update={"status": INTERRUPTED, "stages": stages})
    return record


def _alive(pid: int) -> bool:
    """Whether *pid* runs now. A number that another process got since reads as running, which is harmless."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def exclusive(state: Path) -> Iterator[None]:
    """Hold the project's lock, which ends with the process, however that ends; BusyError where another run holds it."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise BusyError(
                f"Another run (process {holder}) is building in this project. Wait for it, or stop it with Ctrl-C."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def own_pid() -> int:
    """The process, by which a reader tells whether a running record is still running."""
    return os.getpid()


def host_facts() -> dict[str, Any]:
    """What of this machine decides how long a build takes, beside the power mode."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }

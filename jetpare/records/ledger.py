"""Keep run records on disk: one folder for each run, readable by other tools, whole at every moment.

.jetpare/runs/ID/run.json is rewritten as a whole after every step (temporary file, fsync, rename), so a run that is
killed leaves the last state it had. A record that still says 'running' although its process is gone is read as
interrupted. Next to it are the event stream of every call (events/), the full log of every node (logs/) and the
records that the stages brought out (reports/). docs/record.md describes the format; unknown keys are ignored.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from jetpare.base.errors import BusyError
from jetpare.base.files import write_atomically
from jetpare.config.values import Many
from jetpare.records.samples import StageTelemetry

SCHEMA = 1
RUNNING, SUCCEEDED, FAILED, INTERRUPTED = "running", "succeeded", "failed", "interrupted"
OK, SKIPPED, WAITING = "ok", "skipped", "waiting"
# How a stage was built for a machine of another kind: the beginning of a mark, before "on PLATFORM".
CROSS_BUILT, EMULATED = "cross-built", "emulated"

_Stamp = tuple[int, int, int]  # inode, size and time of change: another one after each write


class RecordRow(BaseModel):
    """A part of a record: frozen, and tolerant of what newer versions add."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StageRecord(RecordRow):
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


class ImageRecord(RecordRow):
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


class Record(RecordRow):
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
        """Return the row called *label*."""
        return next((row for row in self.stages if row.label == label), None)


# The parts of a run's id: its number, which later versions of jetpare give, and its start; or its start alone.
_NUMBERED = re.compile(r"(\d{4,})-(\d{8}-\d{6})")
_BY_START = re.compile(r"(\d{8}-\d{6})-(\d{1,3})")


@cache
def order(run: str) -> tuple[int, str, int]:
    """Return the key that sorts ids of runs by when the runs began, whatever the clock said then.

    Runs sort by their number. Those of older versions have none and sort before, by their start.
    """
    if match := _NUMBERED.fullmatch(run):
        return int(match[1]), match[2], 0
    if match := _BY_START.fullmatch(run):  # the second run of a second, and further ones
        return 0, match[1], int(match[2])
    return 0, run, 0


class Ledger:
    """The records below one state folder.

    Records that were read are kept in memory, and read again only when their file has changed.
    """

    def __init__(self, state: Path) -> None:
        self.folder = state / "runs"
        self._known: dict[str, tuple[_Stamp, Record | None]] = {}

    def new_id(self, now: datetime, *, remembered: Iterable[str] = ()) -> str:
        """Return an unused id, such as '0042-20250102-030405': the run's number, and its start in UTC.

        *remembered*: ids that something else still names; the new one is beyond these, though their folders are gone.
        Hold the project's lock (`exclusive`) until the first record is written, or two runs may get the same number.
        """
        runs = self._runs()
        numbers = [order(run)[0] for run in (*runs, *remembered)]
        number = 1 + max(len(runs), *numbers, 0)  # counts the runs that have no number too
        return f"{number:04}-{now.astimezone(timezone.utc):%Y%m%d-%H%M%S}"

    def path(self, run: str) -> Path:
        """Return the folder of a run."""
        return self.folder / run

    def write(self, record: Record) -> None:
        """Write *record* so that a reader sees the old one or the new one, and a crash loses neither."""
        self._known.pop(record.id, None)
        write_atomically(self.path(record.id) / "run.json", json.dumps(record.model_dump(), indent=2) + "\n")

    def records(self) -> Iterator[tuple[Record | None, Path]]:
        """Yield each run, newest first: its record, or None where that cannot be read, and its folder."""
        for run in self._newest_first():
            yield self.read(run), self.folder / run

    def readable(self) -> Iterator[Record]:
        """Yield the record of each run, newest first, without those that cannot be read."""
        return (record for run in self._newest_first() if (record := self.read(run)) is not None)

    def read(self, run: str) -> Record | None:
        """Return the record of *run*; None where it is missing, damaged, foreign or of an unknown schema."""
        file = f"{self.folder}/{run}/run.json"
        try:
            found = os.stat(file)  # noqa: PTH116 - the Path would take longer than the call, for each of many runs
        except OSError:
            return None
        stamp = found.st_ino, found.st_size, found.st_mtime_ns
        known = self._known.get(run)
        if known is None or known[0] != stamp:
            known = self._known[run] = stamp, _parsed(Path(file))
        return _as_it_is_now(known[1])

    def latest(self, *, profile: str, label: str, status: str | None = None) -> tuple[Record, StageRecord] | None:
        """Return the newest run of *profile* that did something for the node *label*; with *status*, that ended so."""
        return next(
            (pair for pair in self.runs_of(profile=profile, label=label) if status in {None, pair[1].status}), None
        )

    def runs_of(self, *, profile: str, label: str) -> Iterator[tuple[Record, StageRecord]]:
        """Yield each run of *profile* that did something for the node *label*, newest first."""
        for record in self.readable():
            row = record.stage(label) if record.profile == profile else None
            if row and row.status not in {WAITING, SKIPPED}:
                yield record, row

    def _newest_first(self) -> list[str]:
        return sorted(self._runs(), key=order, reverse=True)

    def _runs(self) -> list[str]:
        try:
            with os.scandir(self.folder) as entries:
                return [entry.name for entry in entries if entry.is_dir()]
        except OSError:
            return []


def _parsed(file: Path) -> Record | None:
    try:
        record = Record.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
    return record if record.schema_version == SCHEMA and record.id == file.parent.name else None


def _as_it_is_now(record: Record | None) -> Record | None:
    """Return *record*; as interrupted where it says 'running' and its process is gone."""
    if record is None or record.status != RUNNING or _alive(record.pid):
        return record
    stages = tuple(
        row.model_copy(update={"status": INTERRUPTED}) if row.status == RUNNING else row for row in record.stages
    )
    return record.model_copy(update={"status": INTERRUPTED, "stages": stages})


def _alive(pid: int) -> bool:
    """Return whether *pid* runs now. A number that another process got since reads as running, which is harmless."""
    if not 0 < pid < 1 << 31:  # a damaged record: no process has such a number, and 0 and -1 mean others
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def exclusive(state: Path) -> Iterator[None]:
    """Hold the project's lock, which ends with the process, however that ends. Raises BusyError where it is held."""
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
    """Return the process by which a reader knows whether a record that says 'running' still is."""
    return os.getpid()


def host_facts() -> dict[str, Any]:
    """Return what of this machine decides how long a build takes, apart from the power mode."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }

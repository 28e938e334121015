"""Look at one run in detail: its steps, where its time went, what compiled slowly. Write that as a trace for Perfetto.

A run's folder is read again, event streams included, so that this works for runs of any age. The trace is Chrome's
Trace Event Format (JSON object form; phases X, C and M), which ui.perfetto.dev opens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jetpare.events import figures
from jetpare.events.decode import EventDecoder
from jetpare.events.recorder import Recorder
from jetpare.events.step_names import StepKind
from jetpare.events.steps import Interval, Step, Timeline, merge
from jetpare.records.ledger import INTERRUPTED, RUNNING, Record, StageRecord
from jetpare.records.reports import cache_counts, phases
from jetpare.records.samples import SAMPLES_FILE, Sample, StageTelemetry, read_samples, summarise

NINJA_FIELDS = 5
NINJA_VERSIONS = range(5, 8)
MICROSECONDS = 1_000_000


# --- ninja's log


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command that ninja ran. Seconds since ninja's start."""

    outputs: tuple[str, ...]
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """The seconds that it took."""
        return self.end - self.start


def parse_ninja_log(text: str) -> tuple[Command, ...]:
    """Return the commands in a .ninja_log of format 5, 6 or 7, the slowest first.

    A line is start, end (milliseconds since that ninja's start), modification time, output and the command's hash,
    separated by tabs. An output that was made again is listed again: the last line counts, as it does for ninja. A
    command with several outputs has a line for each. Anything else is ignored.
    """
    head, _, body = text.partition("\n")
    version = re.fullmatch(r"# ninja log v(\d+)\s*", head)
    if version is None or int(version[1]) not in NINJA_VERSIONS:
        return ()
    last: dict[str, tuple[int, int, str]] = {}
    for line in body.split("\n"):
        parts = line.rstrip("\r").split("\t")
        if len(parts) != NINJA_FIELDS or not (_is_count(parts[0]) and _is_count(parts[1])):
            continue
        start, end = int(parts[0]), int(parts[1])
        if end >= start:
            last[parts[3]] = start, end, parts[4]
    outputs: dict[tuple[int, int, str], list[str]] = {}
    for output, command in last.items():
        outputs.setdefault(command, []).append(output)
    commands = [
        Command(outputs=tuple(names), start=start / 1000, end=end / 1000) for (start, end, _), names in outputs.items()
    ]
    return tuple(sorted(commands, key=lambda each: (-each.seconds, each.start, each.outputs)))


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit()


# --- a run


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One row of the record, with what its folder says about it."""

    row: StageRecord
    steps: tuple[Step, ...] = ()  # its own, and those of its target that belong to no stage
    ccache: tuple[int, int] | None = None  # hits, cacheable calls
    phases: Mapping[str, float] | None = None  # seconds of configure, compile and install, by the script's own clock
    commands: tuple[Command, ...] = ()  # ninja's, the slowest first


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run. Times since the epoch."""

    record: Record
    stages: tuple[Stage, ...]
    critical_path: tuple[Step, ...]
    samples: tuple[Sample, ...]

    @property
    def start(self) -> float:
        """When it began."""
        return self.record.started

    @property
    def end(self) -> float:
        """When it ended; of a run that was killed, the last that is known of it."""
        if self.record.finished is not None:
            return self.record.finished
        known = [each.end for stage in self.stages for each in intervals_of(stage)]
        return max([self.start, *known, *(sample.time for sample in self.samples)])


def load(record: Record, folder: Path) -> Run:
    """Read the folder of a run. Where a file is missing, its part of the result is empty."""
    files = {row.label: _events(row, folder) for row in record.stages}
    timelines = {file: replay(folder / file) for file in dict.fromkeys(files.values()) if file}
    path = [step for each in timelines.values() for step in figures.critical_path(each)]
    return Run(
        record=record,
        stages=tuple(_stage(row, timelines.get(files[row.label] or ""), folder) for row in record.stages),
        critical_path=tuple(sorted(path, key=lambda step: step.intervals[0].start)),
        samples=read_samples(folder / SAMPLES_FILE),
    )


def _events(row: StageRecord, folder: Path) -> str | None:
    """Return the event stream of *row*'s call; one that was cut off is not in the record, but on disk."""
    if row.events or row.status not in {RUNNING, INTERRUPTED}:
        return row.events
    kept = (f"events/{name}.jsonl" for name in (_target(row), "all"))
    return next((name for name in kept if (folder / name).is_file()), None)


def _target(row: StageRecord) -> str:
    """Return the target of a row, as plan.Node.target does."""
    return row.label.replace("/", "-").replace(".", "_")


def replay(path: Path) -> Timeline:
    """Return the timeline of a kept event stream; empty where there is none."""
    decoder, recorder = EventDecoder(), Recorder()
    try:
        data = path.read_bytes()
    except OSError:
        return Timeline(steps=())
    for event in (*decoder.feed(data), *decoder.close()):
        recorder.add(event)
    recorder.close()
    return recorder.timeline()


def _stage(row: StageRecord, replayed: Timeline | None, folder: Path) -> Stage:
    # What a stage that was found in the cache brings out is of the run that made it.
    report = folder / row.report if row.report and row.cache != "cached" else None
    return Stage(
        row=row,
        steps=_steps(row, replayed) if replayed else (),
        ccache=cache_counts(report),
        phases=phases(report),
        commands=parse_ninja_log(_text(report / "ninja_log")) if report else (),
    )


def _steps(row: StageRecord, replayed: Timeline) -> tuple[Step, ...]:
    """Return the steps that took *row*'s time; in a call of its own, also those of other stages that ran again."""
    group, _, name = row.label.partition("/")
    target, stage = _target(row), None if group == "inputs" else name
    found = []
    for step in replayed.steps:
        if not step.intervals or step.place(target) is None:
            continue
        foreign = step.kind is StepKind.STAGE and step.place(target, stage) is None
        if not foreign or (not row.overlaps and not step.cached):
            found.append(step)
    return tuple(found)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def intervals_of(stage: Stage) -> tuple[Interval, ...]:
    """Return when a stage was worked on: its steps; of an input that BuildKit does not make, the row itself."""
    own = [each for step in stage.steps if step.kind is StepKind.STAGE for each in step.intervals]
    if own:
        return merge(own)
    row = stage.row
    if row.events or row.started is None or row.seconds is None:
        return ()
    return (Interval(start=row.started, end=row.started + row.seconds),)


def telemetry_of(run: Run, stage: Stage) -> StageTelemetry | None:
    """Return what was measured while *stage* was worked on; None where nothing was."""
    intervals = intervals_of(stage)
    if not intervals or not run.samples:
        return None
    return summarise(run.samples, intervals[0].start, intervals[-1].end)


PREPARE, COMPUTE, PULL, CONTEXT, EXPORT, OTHER = (
    "bootstrap, download", "running steps", "pulling", "transferring", "exporting", "outside of steps"
)  # fmt: skip
_SHARES = {StepKind.STAGE: COMPUTE, StepKind.PULL: PULL, StepKind.CONTEXT: CONTEXT, StepKind.EXPORT: EXPORT}


def shares(run: Run) -> dict[str, float]:
    """Return where the wall time went, in seconds that add up to it: each moment counts for its first activity."""
    activities: dict[str, list[Interval]] = {name: [] for name in (PREPARE, COMPUTE, PULL, CONTEXT, EXPORT)}
    for stage in run.stages:
        if not stage.steps:
            activities[PREPARE] += intervals_of(stage)
        for step in stage.steps:
            if step.kind in _SHARES:
                activities[_SHARES[step.kind]] += step.intervals
    found: dict[str, float] = {}
    before: list[Interval] = []
    for name, intervals in activities.items():
        known = _total(before)
        before += intervals
        found[name] = _total(before) - known
    found[OTHER] = max(0.0, (run.record.wall_seconds or run.end - run.start) - _total(before))
    return found


def _total(intervals: Iterable[Interval]) -> float:
    return sum(interval.seconds for interval in merge(intervals))


# --- Chrome's trace event format


@dataclass(frozen=True, kw_only=True)
class _Slice:
    name: str
    start: int  # microseconds since the run's start
    end: int
    category: str
    details: Mapping[str, Any]


def chrome(run: Run) -> dict[str, Any]:
    """Return the trace: a process for the run (its stages and the counters), and one for each stage with its steps.

    Slices that overlap get different threads, since the format requires those of one thread to nest. Times are whole
    microseconds since the run's start.
    """
    title = f"{run.record.task} {run.record.id}"
    stages = [_stage_slice(run, stage) for stage in run.stages if intervals_of(stage)]
    events = _process(1, title, stages, thread="stages")
    for number, stage in enumerate((each for each in run.stages if each.steps), 2):
        slices = [_step_slice(run, step, interval) for step in stage.steps for interval in step.intervals]
        events += _process(number, stage.row.label, slices, thread="steps")
    for sample in run.samples:
        events += _counters(run, sample)
    facts = {"run": run.record.id, "tool": run.record.tool, "profile": run.record.profile, "status": run.record.status}
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": facts}


def _stage_slice(run: Run, stage: Stage) -> _Slice:
    row, intervals = stage.row, intervals_of(stage)
    details = {name: getattr(row, name) for name in ("status", "cache", "why", "seconds", "work", "reason")}
    return _Slice(
        name=row.label,
        start=_since(run, intervals[0].start),
        end=_since(run, intervals[-1].end),
        category="stage",
        details={key: value for key, value in details.items() if value not in (None, "")},
    )


def _step_slice(run: Run, step: Step, interval: Interval) -> _Slice:
    details: dict[str, Any] = {"cached": step.cached, "digest": step.digest}
    details |= {"error": step.error} if step.error else {}
    details |= {"bytes": step.transferred} if step.transferred else {}
    return _Slice(
        name=" ".join(step.name.split()),
        start=_since(run, interval.start),
        end=_since(run, interval.end),
        category=step.kind.value,
        details=details,
    )


def _since(run: Run, moment: float) -> int:
    """Return microseconds since the run's start; 0 for what an engine whose clock is behind says was before."""
    return max(0, round((moment - run.start) * MICROSECONDS))


def _process(pid: int, name: str, slices: Sequence[_Slice], *, thread: str) -> list[dict[str, Any]]:
    """Return the events of a process with as many threads as it takes for no two slices of one to overlap."""
    ends: list[int] = []
    events = [_metadata(pid, pid, "process_name", name=name), _metadata(pid, pid, "process_sort_index", sort_index=pid)]
    for each in sorted(slices, key=lambda one: (one.start, one.end)):
        lane = next((number for number, end in enumerate(ends) if end <= each.start), len(ends))
        ends[lane : lane + 1] = [each.end]
        events.append({
            "ph": "X", "pid": pid, "tid": _thread(pid, lane), "ts": each.start, "dur": each.end - each.start,
            "name": each.name, "cat": each.category, "args": dict(each.details),
        })  # fmt: skip
    names = {_thread(pid, lane): f"{thread} {lane + 1}" for lane in range(len(ends))}
    return [*events, *(_metadata(pid, tid, "thread_name", name=name) for tid, name in names.items())]


def _thread(pid: int, lane: int) -> int:
    """Return a number that no thread of another process has, since viewers disagree about threads that share one."""
    return pid * 1000 + lane


def _metadata(pid: int, tid: int, kind: str, **details: str | int) -> dict[str, Any]:
    return {"ph": "M", "pid": pid, "tid": tid, "ts": 0, "name": kind, "args": details}


def _counters(run: Run, sample: Sample) -> list[dict[str, Any]]:
    """Return a counter for each quantity that was measured; one that was not has no point, so its line goes on.

    Some viewers stack the series of one counter, which would add up clocks and degrees: each gets its own.
    """
    values: dict[str, float | None] = {
        **{f"{core} (MHz)": clock / 1000 for core, clock in sample.cpu_khz.items()},
        "cores online": sample.cores_online,
        "GPU (MHz)": _scaled(sample.gpu_hz, 1e6),
        "EMC (MHz)": _scaled(sample.emc_hz, 1e6),
        **{f"{zone} (°C)": degrees for zone, degrees in sample.celsius.items()},
        "power (W)": _scaled(sample.power_mw, 1e3),
        **{f"{rail} (W)": power / 1000 for rail, power in sample.rails_mw.items()},
        **{f"throttle events {name}": count for name, count in sample.throttle_events.items()},
        "memory available (GB)": _scaled(sample.memory_available, 1e9),
        "load": sample.load,
        "disk free (GB)": _scaled(sample.disk_free, 1e9),
    }
    at = _since(run, sample.time)
    return [
        {"ph": "C", "pid": 1, "tid": 1, "ts": at, "name": name, "args": {"value": value}}
        for name, value in values.items()
        if value is not None
    ]


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit

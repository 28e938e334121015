"""Collect decoded events into a timeline and into a log for each stage."""

from __future__ import annotations

import base64
import binascii
import codecs
import threading
from collections import deque
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import TextIO, cast

from jetpare.events.decode import Event, clean, parse_time
from jetpare.events.step_names import Place, StepKind, parse_name
from jetpare.events.steps import Interval, Step, Timeline, is_inside, merge

TAIL_LINES = 30  # what is shown of a step's log when it fails
LONGEST_LINE = 65536  # characters; a step that never ends its line must not fill the memory


# --- recording


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One whole line of a step's output, cleaned. ``seconds`` is since the step's start."""

    digest: str
    places: tuple[Place, ...]
    seconds: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Activity:
    """The present state of one stage, for a live view. Sizes in bytes; ``total`` is 0 while unknown."""

    steps: int
    done: int
    started: bool
    running: str  # the step, or the pull or transfer that it waits for
    line: str  # the last of its log
    current: int
    total: int


@dataclass
class _StepRun:
    end: float | None = None
    cached: bool = False
    error: str | None = None


class _Lines:
    """Joins chunks that split lines and UTF-8 sequences into whole lines."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._pending = ""

    def feed(self, data: bytes) -> list[str]:
        *lines, self._pending = (self._pending + self._decoder.decode(data)).split("\n")
        if len(self._pending) > LONGEST_LINE:
            lines.append(self._pending)
            self._pending = ""
        return [clean(line) for line in lines]

    def flush(self) -> list[str]:
        rest = self._pending + self._decoder.decode(b"", final=True)
        self._pending = ""
        return [clean(rest)] if rest else []

    @property
    def pending(self) -> str:
        """The line that has not ended, such as a progress bar that redraws itself."""
        return clean(self._pending[-4096:])


@dataclass
class _Vertex:
    digest: str
    places: dict[str, Place] = field(default_factory=dict)  # by full name
    views: dict[str | None, dict[float, _StepRun]] = field(default_factory=dict)  # by target, then by start
    inputs: tuple[str, ...] = ()
    transfers: dict[str, tuple[int, int]] = field(default_factory=dict)  # current and total, by id
    streams: dict[object, _Lines] = field(default_factory=dict)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))

    def view(self, now: float) -> tuple[tuple[Interval, ...], _StepRun] | None:
        """Return the report to believe: one that ran the step rather than found it cached, the longest of those."""
        found = []
        for runs in self.views.values():
            # A clock that was set back must not give a negative time.
            intervals = merge(
                Interval(start=start, end=max(start, now if run.end is None else run.end))
                for start, run in runs.items()
            )
            found.append((intervals, runs[max(runs)]))
        if not found:
            return None
        return max(found, key=lambda each: (not each[1].cached, sum(interval.seconds for interval in each[0])))

    @property
    def running(self) -> bool:
        return bool(self.views) and all(run.end is None for runs in self.views.values() for run in (runs[max(runs)],))

    @property
    def first_start(self) -> float | None:
        return min((start for runs in self.views.values() for start in runs), default=None)

    @property
    def last_line(self) -> str:
        pending = next((lines.pending for lines in self.streams.values() if lines.pending), "")
        return pending or (self.tail[-1] if self.tail else "")

    @property
    def transferred(self) -> tuple[int, int]:
        """Bytes that came, and that are to come where known. Unpacking reads the same bytes again: not counted."""
        moved = [sizes for key, sizes in self.transfers.items() if not key.startswith("extract")]
        return sum(current for current, _ in moved), sum(total for _, total in moved)


class Recorder:
    """Takes events in, and tells at any time what is known. Safe to ask from another thread, such as a live view's.

    ``on_line`` is called with every whole line of output, in the order in which lines end. ``revision`` grows whenever
    a vertex changes, so a view can tell whether there is anything new.
    """

    def __init__(self, on_line: Callable[[LogLine], None] | None = None) -> None:
        self.revision = 0
        self._on_line = on_line
        self._vertices: dict[str, _Vertex] = {}
        self._parsed: dict[str, Place] = {}
        self._began: float | None = None  # the first time in the stream: buildx's own look at the definition
        self._now = 0.0  # the latest time in the stream
        self._lock = threading.RLock()
        self._timeline: Timeline | None = None  # as it is until the next event

    def add(self, event: Event) -> None:
        """Take in one event."""
        with self._lock:
            self._timeline = None
            for each in _list(event, "vertexes"):
                self._vertex(each)
            for each in _list(event, "statuses"):
                self._status(each)
            for each in _list(event, "logs"):
                self._log(each)

    def close(self) -> None:
        """End the stream: hand out the lines without a line feed."""
        with self._lock:
            self._timeline = None
            for vertex in self._vertices.values():
                self._flush(vertex)

    def timeline(self) -> Timeline:
        """Return all vertices as steps. What still runs ends at the latest time in the stream."""
        with self._lock:
            if self._timeline is None:  # a view asks once for each of its rows after a batch of events
                steps = (self._step(vertex) for vertex in self._vertices.values() if vertex.places)
                self._timeline = Timeline(steps=tuple(steps))
            return self._timeline

    def activity(self, *, stage: str | None, target: str) -> Activity:
        """Return what *stage* (None: any) of *target* is doing."""
        with self._lock:
            numbers: dict[tuple[str | None, int | None], bool] = {}  # whether it is done, by stage and number
            own: _Vertex | None = None
            other: _Vertex | None = None
            for vertex in self._vertices.values():
                places = [place for place in vertex.places.values() if is_inside(place, target, None)]
                steps = [place for place in places if place.kind is StepKind.STAGE and stage in (None, place.stage)]
                for place in steps:
                    done = bool(vertex.views) and not vertex.running
                    key = place.stage, place.number
                    numbers[key] = numbers.get(key, False) or done
                if vertex.running and steps:
                    own = vertex
                elif vertex.running and places:
                    other = vertex
            shown = own or other
            current, total = shown.transferred if shown else (0, 0)
            return Activity(
                steps=len(numbers),
                done=sum(numbers.values()),
                started=shown is not None or any(numbers.values()),
                running=next(iter(shown.places.values())).name if shown else "",
                line=shown.last_line if shown else "",
                current=current,
                total=total,
            )

    def _vertex(self, data: Event) -> None:
        self.revision += 1
        name = str(data.get("name") or "")
        vertex = self._of(data.get("digest"))
        place = self._parsed.get(name)
        if place is None:
            place = self._parsed[name] = parse_name(name)
        vertex.places.setdefault(name, place)
        vertex.inputs = tuple(str(each) for each in cast("list[object]", data.get("inputs") or ())) or vertex.inputs
        start, end = parse_time(data.get("started")), parse_time(data.get("completed"))
        self._now = max(self._now, start or 0.0, end or 0.0)
        if start is None:
            if data.get("error"):  # failed before it could start
                start = end = end or self._now
            else:
                return
        began = self._began = start if self._began is None else self._began
        # What was over before this call began took none of its time.
        was_before = end is not None and end < began
        run = vertex.views.setdefault(place.target, {}).setdefault(max(start, began), _StepRun())
        run.end = max(end, began) if end is not None else run.end
        run.cached = run.cached or was_before or bool(data.get("cached"))
        run.error = str(data.get("error") or "") or run.error
        if not vertex.running:
            self._flush(vertex)

    def _status(self, data: Event) -> None:
        vertex = self._of(data.get("vertex"))
        self._now = max(self._now, parse_time(data.get("timestamp")) or 0.0)
        key = str(data.get("id") or "")
        current, total = vertex.transfers.get(key, (0, 0))
        vertex.transfers[key] = max(current, _int(data.get("current"))), max(total, _int(data.get("total")))

    def _log(self, data: Event) -> None:
        try:
            chunk = base64.b64decode(str(data.get("data") or ""))
        except (binascii.Error, ValueError):
            return
        vertex = self._of(data.get("vertex"))
        at = parse_time(data.get("timestamp"))
        self._now = max(self._now, at or 0.0)
        lines = vertex.streams.setdefault(data.get("stream"), _Lines())
        self._tell(vertex, lines.feed(chunk), at)

    def _flush(self, vertex: _Vertex) -> None:
        for lines in vertex.streams.values():
            self._tell(vertex, lines.flush(), None)

    def _tell(self, vertex: _Vertex, lines: Sequence[str], at: float | None) -> None:
        vertex.tail.extend(lines)
        if self._on_line is None or not lines:
            return
        start = vertex.first_start
        seconds = max(0.0, (at or self._now) - start) if start is not None else 0.0
        places = tuple(vertex.places.values())
        for text in lines:
            self._on_line(LogLine(digest=vertex.digest, places=places, seconds=seconds, text=text))

    def _of(self, digest: object) -> _Vertex:
        return self._vertices.setdefault(str(digest), _Vertex(str(digest)))

    def _step(self, vertex: _Vertex) -> Step:
        view = vertex.view(self._now)
        intervals, last = view or ((), _StepRun(end=0.0))
        return Step(
            digest=vertex.digest,
            places=tuple(vertex.places.values()),
            intervals=intervals,
            running=last.end is None,
            cached=last.cached,
            error=last.error,
            inputs=vertex.inputs,
            transferred=vertex.transferred[0],
            tail=tuple(vertex.tail),
        )


def _list(event: Event, key: str) -> list[Event]:
    found = event.get(key)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0


class StageLog:
    """Writes the output of a call to *file*: a header where another step speaks, lines with seconds since its start.

    With *target*, only what belongs to that, and with *stages*, only to these: for a call that builds many. Hand
    ``line`` to a Recorder.
    """

    def __init__(self, file: TextIO, *, target: str | None = None, stages: Container[str] | None = None) -> None:
        self._file, self._target, self._stages = file, target, stages
        self._speaker = ""

    def line(self, line: LogLine) -> None:
        """Write one line."""
        places = self._own(line.places)
        if line.places and not places:
            return
        if line.digest != self._speaker:
            self._speaker = line.digest
            self._file.write(f"#{places[0].name if places else line.digest}\n")
        self._file.write(f"{line.seconds:9.3f}  {line.text}\n")

    def _own(self, places: tuple[Place, ...]) -> tuple[Place, ...]:
        if self._target is None:
            return places
        inside = (each for each in places if is_inside(each, self._target, None))
        return tuple(each for each in inside if self._stages is None or (each.stage or "") in self._stages)

    def finish(self, timeline: Timeline) -> None:
        """Write what each step took, so that the log of a stage that was cached says so too."""
        self._file.write("# steps\n")
        for step in timeline.steps:
            place = next(iter(self._own(step.places)), None)
            if place is None or place.kind is StepKind.INTERNAL or not step.intervals:
                continue
            took = "CACHED" if step.cached else "ERROR" if step.error else f"{step.seconds:.3f} s"
            self._file.write(f"{took:>12}  {place.name}\n")

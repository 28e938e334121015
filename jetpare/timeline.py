"""From BuildKit's event stream (``--progress=rawjson``) to times: what ran, when, whether cached, and what failed.

All times are epoch seconds of the engine's clock, all durations seconds, all sizes bytes. Nothing here starts a
process, reads a clock or knows of a terminal. The shapes are those of BuildKit's SolveStatus (vertexes, logs,
statuses); unknown keys are ignored, because the format has no version.

Four habits of the stream decide how this is written (recorded with buildx 0.13.1 and engine 26.1.5):

- One vertex can run several times, overlapping or not (lookup, then run; a registry look-up by eight callers at once).
- With several targets, each reports a shared vertex for itself, on a clock that differs by some milliseconds, and late
  comers report as cached what another target has just run. One target's report is therefore taken, never their sum.
- Vertices that turn out to equal another target's are announced and then never heard of again.
- A vertex that another call on the same engine is working on comes with what it did before this call began.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import re
import threading
from collections import deque
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import TextIO, cast

Event = Mapping[str, object]

TAIL_LINES = 30  # what is shown of a step's log when it fails
LONGEST_LINE = 65536  # characters; a step that never ends its line must not fill the memory


# --- decoding


class EventDecoder:
    """Turns chunks of the stream into events, in time linear in their size.

    Old versions of buildx print an object over many lines, new ones on a line each: objects are found by their braces.
    Text between them (``ERROR: …``, warnings, the excerpt of a Dockerfile) is kept in ``text``, a line an element.
    """

    def __init__(self) -> None:
        self.text: list[str] = []
        self._partial: list[bytes] = []  # the pieces of a line that has not ended
        self._object: list[bytes] = []  # the lines of an object that has not ended
        self._depth = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that *chunk* completes."""
        head, newline, rest = chunk.rpartition(b"\n")
        if not newline:
            self._partial.append(chunk)
            return []
        lines = b"".join((*self._partial, head)).split(b"\n")
        self._partial = [rest] if rest else []
        events: list[Event] = []
        for line in lines:
            self._line(line, events)
        return events

    def close(self) -> list[Event]:
        """The events that the stream's end completes; an object that was cut off becomes text."""
        events: list[Event] = []
        if self._partial:
            self._line(b"".join(self._partial), events)
            self._partial = []
        self._give_up()
        return events

    def _line(self, line: bytes, events: list[Event]) -> None:
        if self._depth and line[:1].isalpha():
            self._give_up()  # no line of an object begins with a letter: it was cut off, and this tells why
        if not self._depth and not line.startswith(b"{"):
            self._say(line)
            return
        self._object.append(line)
        # A JSON string cannot hold a line break, so the strings of a line are whole.
        bare = _JSON_STRING.sub(b"", line)
        self._depth += bare.count(b"{") - bare.count(b"}")
        if self._depth <= 0:
            whole = b"\n".join(self._object).decode(errors="replace")
            self._object, self._depth = [], 0
            self._objects(whole, events)

    def _objects(self, text: str, events: list[Event]) -> None:
        position = 0
        while position < len(text):
            try:
                value, position = _JSON.raw_decode(text, position)
            except ValueError:
                self._say(text[position:].encode())
                return
            if isinstance(value, dict):
                events.append(value)
            while position < len(text) and text[position].isspace():
                position += 1

    def _give_up(self) -> None:
        for line in self._object:
            self._say(line)
        self._object, self._depth = [], 0

    def _say(self, line: bytes) -> None:
        self.text.extend(clean(part) for part in line.decode(errors="replace").split("\n") if part.strip())


_JSON = json.JSONDecoder()
_JSON_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')

_TIME = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SECOND = timedelta(seconds=1)


def parse_time(text: object) -> float | None:
    """RFC 3339 as epoch seconds; None for Go's zero time (year 1) and for what is no time.

    Written out because datetime.fromisoformat takes neither nine digits nor 'Z' before Python 3.11. A float holds
    today's times to a quarter of a microsecond.
    """
    found = _TIME.fullmatch(text) if isinstance(text, str) else None
    if found is None or found[1].startswith("0001-"):
        return None
    try:
        whole = datetime.fromisoformat(found[1].upper()).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    seconds = (whole - _EPOCH) // _SECOND
    if found[3] not in "Zz":
        hours, minutes = found[3][1:].split(":")
        seconds -= (int(hours) * 3600 + int(minutes) * 60) * (-1 if found[3][0] == "-" else 1)
    return seconds + float(f"0.{found[2] or 0}")


_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]*[0-~])")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def clean(line: str) -> str:
    """*line* as a terminal would leave it: what follows the last carriage return, without escapes and control codes."""
    shown = next((part for part in reversed(line.split("\r")) if part), "")
    return _CONTROL.sub("", _ANSI.sub("", shown))


# --- names


class Kind(Enum):
    """What a vertex does, as far as its name tells."""

    STAGE = "stage"  # an instruction of a stage
    PULL = "pull"  # finding and fetching an image or a remote source
    CONTEXT = "context"  # sending local files to the engine
    EXPORT = "export"  # writing the result
    INTERNAL = "internal"  # all else


# Of the name without its target. The first match decides; the order matters.
_KINDS = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"\[(?:.* )?\d+/\d+\] FROM ", Kind.PULL),
        (r"\[(?:.* )?\d+/\d+\] ", Kind.STAGE),
        (r"\[context [^]]*\] load from client", Kind.CONTEXT),
        (r"\[context [^]]*\] ", Kind.PULL),
        (r"\[internal\] load build context", Kind.CONTEXT),
        (r"\[internal\] load metadata for ", Kind.PULL),
        (r"\[auth\] ", Kind.PULL),
        (r"resolve image config for |docker-image://|oci-layout://|https?://|git://", Kind.PULL),
        (r"exporting |sending tarball|importing to docker|pushing ", Kind.EXPORT),
    )
)
_HEAD = re.compile(r"\[([^]]*)\] ?(.*)", re.DOTALL)
_COUNT = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a vertex stands: the bake target that reports it, its stage, and its number there.

    ``target`` is None in a call with one target, where names have no prefix. ``total`` is BuildKit's count, which also
    counts a FROM that is a named context and so never appears: the last step may be 4/5.
    """

    target: str | None
    stage: str | None
    number: int | None
    total: int | None
    kind: Kind
    name: str  # without the target: '[gdal 3/5] RUN make'


def parse_name(name: str) -> Place:
    """What a vertex's name says: '[gdal 3/5] RUN …', '[cuda-gdal gdal 3/5] RUN …', '[cuda-gdal internal] load …'."""
    name = clean(name)
    found = _HEAD.fullmatch(name)
    if found is None:
        return Place(target=None, stage=None, number=None, total=None, kind=_kind(name), name=name)
    words, rest = found[1].split(), found[2]
    count = _COUNT.fullmatch(words[-1]) if words else None
    stage: str | None = None
    if count:
        own = [word for word in words[:-1] if "/" not in word]  # without a platform such as linux/arm64
        stage = own[-1] if own else None
        target = own[0] if len(own) > 1 else None
        if target is not None:
            words.remove(target)  # the first such word: a stage may have its target's name
    else:
        marks = [index for index, word in enumerate(words) if word in ("internal", "context", "auth")]
        start = marks[0] if marks else len(words)
        target = words[0] if start > 0 and words else None
        words = words[start:]
    bare = f"[{' '.join(words)}] {rest}" if words else rest
    number, total = (int(count[1]), int(count[2])) if count else (None, None)
    return Place(target=target, stage=stage, number=number, total=total, kind=_kind(bare), name=bare)


def _kind(bare: str) -> Kind:
    return next((kind for pattern, kind in _KINDS if pattern.match(bare)), Kind.INTERNAL)


# --- what came of it


@dataclass(frozen=True, kw_only=True)
class Interval:
    """From ``start`` to ``end``, epoch seconds."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start


def merge(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """*intervals* in order, those that overlap or touch made one."""
    merged: list[Interval] = []
    for interval in sorted(intervals, key=lambda each: (each.start, each.end)):
        if merged and interval.start <= merged[-1].end:
            merged[-1] = Interval(start=merged[-1].start, end=max(merged[-1].end, interval.end))
        else:
            merged.append(interval)
    return tuple(merged)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One vertex. Without intervals it was announced and never started."""

    digest: str
    places: tuple[Place, ...]
    intervals: tuple[Interval, ...] = ()
    running: bool = False
    cached: bool = False
    error: str | None = None
    inputs: tuple[str, ...] = ()
    transferred: int = 0  # bytes
    tail: tuple[str, ...] = ()  # the last lines of its log

    @property
    def name(self) -> str:
        """'[gdal 3/5] RUN make'."""
        return self.places[0].name

    @property
    def target(self) -> str | None:
        """The first bake target that reported it."""
        return self.places[0].target

    @property
    def stage(self) -> str | None:
        """The stage of the Dockerfile."""
        return self.places[0].stage

    @property
    def kind(self) -> Kind:
        """What it does."""
        return self.places[0].kind

    @property
    def seconds(self) -> float:
        """How long it ran, over all its intervals."""
        return sum(interval.seconds for interval in self.intervals)

    @property
    def end(self) -> float:
        """When it ended last; minus infinity when it never started."""
        return max((interval.end for interval in self.intervals), default=float("-inf"))

    def place(self, target: str, stage: str | None = None) -> Place | None:
        """Where it stands in *target* (and its report target); with *stage*, only if it is a step of that stage."""
        return next((each for each in self.places if _is_in(each, target, stage)), None)


def _is_in(place: Place, target: str, stage: str | None) -> bool:
    if stage is not None and place.stage != stage:
        return False
    return place.target in (None, target, f"{target}-report")


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """All vertices of one call, in the order in which they were announced."""

    steps: tuple[Step, ...]

    @property
    def complete(self) -> bool:
        """Whether all that started also ended, and well."""
        return not any(step.running or step.error for step in self.steps)


def union_seconds(steps: Iterable[Step]) -> float:
    """How long at least one of *steps* was running."""
    return sum(interval.seconds for interval in merge(each for step in steps for each in step.intervals))


def work_seconds(steps: Iterable[Step]) -> float:
    """The sum of what *steps* took, each counted alone."""
    return sum(step.seconds for step in steps)


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
    """What a live view shows of one stage, now. Sizes in bytes; ``total`` is 0 while unknown."""

    steps: int
    done: int
    started: bool
    running: str  # the step, or the pull or transfer that it waits for
    line: str  # the last of its log
    current: int
    total: int


@dataclass
class _Run:
    end: float | None = None
    cached: bool = False
    error: str | None = None


class _Lines:
    """Whole lines from chunks that split lines and UTF-8 sequences."""

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
    views: dict[str | None, dict[float, _Run]] = field(default_factory=dict)  # by target, then by start
    inputs: tuple[str, ...] = ()
    transfers: dict[str, tuple[int, int]] = field(default_factory=dict)  # current and total, by id
    streams: dict[object, _Lines] = field(default_factory=dict)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))

    def view(self, now: float) -> tuple[tuple[Interval, ...], _Run] | None:
        """The report to believe: one that ran rather than found it cached, and of those the longest."""
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

    def add(self, event: Event) -> None:
        """Take in one event."""
        with self._lock:
            for each in _list(event, "vertexes"):
                self._vertex(each)
            for each in _list(event, "statuses"):
                self._status(each)
            for each in _list(event, "logs"):
                self._log(each)

    def close(self) -> None:
        """The stream has ended: hand out the lines that have no end."""
        with self._lock:
            for vertex in self._vertices.values():
                self._flush(vertex)

    def timeline(self) -> Timeline:
        """All vertices as they stand. What still runs ends at the latest time in the stream."""
        with self._lock:
            return Timeline(steps=tuple(self._step(vertex) for vertex in self._vertices.values() if vertex.places))

    def activity(self, *, stage: str | None, target: str) -> Activity:
        """What *stage* (None: any) of *target* is doing."""
        with self._lock:
            numbers: dict[tuple[str | None, int | None], bool] = {}  # whether it is done, by stage and number
            own: _Vertex | None = None
            other: _Vertex | None = None
            for vertex in self._vertices.values():
                places = [place for place in vertex.places.values() if _is_in(place, target, None)]
                steps = [place for place in places if place.kind is Kind.STAGE and stage in (None, place.stage)]
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
        run = vertex.views.setdefault(place.target, {}).setdefault(max(start, began), _Run())
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
        intervals, last = view or ((), _Run(end=0.0))
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

    With *target* and *stage*, only that stage's: the files of a call that builds many. Hand ``line`` to a Recorder.
    """

    def __init__(self, file: TextIO, *, target: str | None = None, stage: str | None = None) -> None:
        self._file, self._target, self._stage = file, target, stage
        self._speaker = ""

    def line(self, line: LogLine) -> None:
        """Write one line."""
        places = line.places
        if self._target is not None:
            places = tuple(each for each in places if _is_in(each, self._target, self._stage))
        if line.places and not places:
            return
        if line.digest != self._speaker:
            self._speaker = line.digest
            self._file.write(f"#{places[0].name if places else line.digest}\n")
        self._file.write(f"{line.seconds:9.3f}  {line.text}\n")

    def finish(self, timeline: Timeline) -> None:
        """Write what each step took, so that the log of a stage that was cached says so too."""
        self._file.write("# steps\n")
        for step in timeline.steps:
            place = step.places[0] if self._target is None else step.place(self._target, self._stage)
            if place is None or place.kind is Kind.INTERNAL or not step.intervals:
                continue
            took = "CACHED" if step.cached else "ERROR" if step.error else f"{step.seconds:.3f} s"
            self._file.write(f"{took:>12}  {place.name}\n")


# --- figures


@dataclass(frozen=True, kw_only=True)
class StageTiming:
    """What one stage took in one call. Seconds, bytes, counts.

    ``seconds`` is how long at least one of its steps ran; ``work`` is the sum of its steps. The other seconds belong to
    the call's target, not to the stage, and have rows of their own.
    """

    stage: str
    target: str
    started: float | None  # epoch seconds of its first step
    finished: float | None  # and of the end of its last one
    seconds: float
    work: float
    steps: int
    cached: int
    ran: int
    pull_seconds: float
    context_seconds: float
    export_seconds: float
    internal_seconds: float
    transferred: int  # pulled, and sent to the engine
    pulled: int


def _helps(step: Step, target: str, others: Container[str]) -> bool:
    """Whether *step* ran for *target* in a stage that is none of *others*."""
    place = step.place(target)
    return bool(step.intervals) and not step.cached and place is not None and place.stage not in others


def summary(timeline: Timeline, *, stage: str, target: str, others: Container[str] | None = None) -> StageTiming:
    """The times of *stage* as built by bake's *target* (or its report target).

    Of the further stages that the target needs, those steps count that ran here; of *others*, which have a time of
    their own, none. None: no further stage counts.
    """
    mine = [step for step in timeline.steps if step.place(target) is not None]
    staged = [step for step in mine if step.kind is Kind.STAGE]
    own = [
        step
        for step in staged
        if step.place(target, stage) is not None or (others is not None and _helps(step, target, others))
    ]
    by_number: dict[tuple[str, int], list[Step]] = {}
    for step in own:
        place = step.place(target, stage) or step.place(target)
        key = ((place.stage or "", place.number or 0)) if place else ("", 0)
        by_number.setdefault(key, []).append(step)
    ran = {number for number, steps in by_number.items() if any(each.intervals and not each.cached for each in steps)}
    seen = [number for number, steps in by_number.items() if any(each.intervals for each in steps)]
    last = {name: max(number for each, number in seen if each == name) for name, _ in seen}
    # What a hit further on makes needless, BuildKit does not report: it came from the cache all the same.
    cached = {
        number
        for number, steps in by_number.items()
        if number not in ran
        and (any(each.cached for each in steps) or number[1] < last.get(number[0], 0) or timeline.complete)
    }
    of_kind = {kind: [step for step in mine if step.kind is kind] for kind in Kind}
    pulled = sum(step.transferred for step in of_kind[Kind.PULL])
    return StageTiming(
        stage=stage,
        target=target,
        started=min((step.intervals[0].start for step in own if step.intervals), default=None),
        finished=max((step.end for step in own if step.intervals), default=None),
        seconds=union_seconds(own),
        work=work_seconds(own),
        steps=len(by_number),
        cached=len(cached),
        ran=len(ran),
        pull_seconds=union_seconds(of_kind[Kind.PULL]),
        context_seconds=union_seconds(of_kind[Kind.CONTEXT]),
        export_seconds=union_seconds(of_kind[Kind.EXPORT]),
        internal_seconds=union_seconds(of_kind[Kind.INTERNAL]),
        transferred=pulled + sum(step.transferred for step in of_kind[Kind.CONTEXT]),
        pulled=pulled,
    )


class CacheState(Enum):
    """How much of a stage was there before."""

    COLD = "cold"
    WARM = "warm"
    CACHED = "cached"


def cache_state(
    timing: StageTiming, ccache: tuple[int, int] | None = None, *, again: bool = False
) -> tuple[CacheState, str]:
    """Cold, warm or cached, and why. *ccache* is (hits, cacheable calls) of this run, or None where there is none.

    *again*: it was built again on purpose, beside the caches of earlier builds. A compiler cache counts what it found;
    package caches do not, so that what has no counts is taken for warm.
    """
    if timing.steps and timing.cached == timing.steps:
        steps = "the only step" if timing.steps == 1 else f"all {timing.steps} steps"
        return CacheState.CACHED, f"{steps} from the layer cache"
    hits, calls = ccache or (0, 0)
    reasons = []
    if calls:
        reasons.append(f"ccache {hits} of {calls} hits")
    if timing.cached:
        reasons.append(f"{timing.cached} of {timing.steps} steps cached")
    if again:
        reasons.append("built again, caches kept")
    is_warm = bool(hits or timing.cached or (again and not calls))
    return CacheState.WARM if is_warm else CacheState.COLD, ", ".join(reasons) or "no step cached"


def critical_path(timeline: Timeline) -> tuple[Step, ...]:
    """The chain of steps that decided when the call ended, first to last; `union_seconds` gives its length.

    Walked back from the step that ended last to the input that ended last. An export names no inputs: what ended last
    before it started stands for them. Inputs that are unknown, or never ran, are passed over.
    """
    started = {step.digest: step for step in timeline.steps if step.intervals}
    by_place = {place: step.digest for step in started.values() for place in step.places}
    known: dict[str, Step] = dict(started)
    for step in timeline.steps:
        twin = next((by_place[place] for place in step.places if place in by_place), None)
        if step.digest not in known and twin is not None:
            known[step.digest] = started[twin]
    path: list[Step] = []
    step_now = max(started.values(), key=lambda each: each.end, default=None)
    while step_now is not None and step_now not in path:
        path.append(step_now)
        before = [known[digest] for digest in step_now.inputs if digest in known]
        if step_now.kind is Kind.EXPORT:
            first, target = step_now.intervals[0].start, step_now.target
            before = [
                each
                for each in started.values()
                if each.end <= first and any(place.target == target for place in each.places)
            ]
        step_now = max(before, key=lambda each: each.end, default=None)
    return tuple(reversed(path))


# --- failure


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What went wrong. ``error`` is short; ``detail`` is all that BuildKit said."""

    target: str | None
    targets: tuple[str, ...]
    stage: str | None
    step: str | None
    error: str
    detail: str
    exit_code: int | None
    out_of_memory: bool
    tail: tuple[str, ...]


_EXIT_CODE = re.compile(r"did not complete successfully: exit code: (\d+)(?:: .*)?\Z", re.DOTALL)
_CANCELED = re.compile(r"context canceled|Canceled:")
# The shell's and g++'s 'Killed', Go's 'signal: killed': what is left when the kernel wanted memory back.
_KILLED = re.compile(r"\bKilled\b|signal: killed")
_SIGKILL = 128 + 9


def failure(timeline: Timeline, text: Sequence[str] = ()) -> Failure | None:
    """The first step that failed of itself, or what buildx said where no step did; None when nothing failed.

    *text* is the decoder's. A step that was stopped because another failed is not the cause, whatever its exit code.
    """
    said = next((line.partition("ERROR: ")[2] for line in reversed(text) if line.startswith("ERROR: ")), None)
    failed = [step for step in timeline.steps if step.error]
    causes = [step for step in failed if not _CANCELED.search(step.error or "")] or failed
    step = min(causes, key=lambda each: each.end, default=None)
    if step is None and said is None:
        return None
    detail = (step.error if step else None) or said or ""
    code = _EXIT_CODE.search(detail)
    exit_code = int(code[1]) if code else None
    tail = step.tail if step else ()
    canceled = said is not None and _CANCELED.search(said) is not None
    killed = exit_code == _SIGKILL or any(_KILLED.search(line) for line in (*tail, "" if code else detail))
    return Failure(
        target=step.target if step else None,
        targets=tuple(dict.fromkeys(place.target for place in step.places if place.target)) if step else (),
        stage=step.stage if step else None,
        step=step.name if step else None,
        error="canceled" if canceled else f"exit code {exit_code}" if code else " ".join(clean(detail).split()),
        detail=detail,
        exit_code=exit_code,
        out_of_memory=killed and not canceled,
        tail=tail,
    )

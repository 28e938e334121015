"""Show a build on stderr while it runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.live import Live
from rich.table import Table
from rich.text import Text

from jetpare.base.units import clock_face, duration, of_about, size_text
from jetpare.events.decode import clean
from jetpare.events.progress import NOTHING_KNOWN, Progress, Usual
from jetpare.events.recorder import Activity, Recorder
from jetpare.events.step_names import Place, StepKind, brief
from jetpare.events.steps import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from rich.console import Console


WAITING, RUNNING, DONE = "waiting", "running", "done"
REFRESH_HZ = 8
SPEAKS_UP_SECONDS = 1.0  # a pull, a transfer or an export gets a plain line once it has taken this long
HEARTBEAT_SECONDS = 30.0  # a label that is silent for so long gets a plain line that says that it still works
RATE_SECONDS = 2.0  # over how long a download's rate is measured

_STYLES = {
    WAITING: "dim",
    RUNNING: "bold cyan",
    DONE: "green",  # while others of the same call still run
    "ok": "green",
    "cached": "blue",
    "failed": "bold red",
    "skipped": "yellow",
    "interrupted": "yellow",
}


def make_progress(console: Console, *, plain: bool, clock: Callable[[], float] = time.monotonic) -> Progress:
    """Return the view for *console*: plain lines if *plain* is set or it is not a terminal, else a live table."""
    if plain or not console.is_terminal or console.is_dumb_terminal:
        return PlainProgress(console, clock=clock)
    return LiveProgress(console, clock=clock)


def of_label(label: str) -> tuple[str, str | None]:
    """Return the (bake target, stage) of *label*: 'cuda/gdal' is stage gdal of target cuda-gdal.

    An input may be built by a stage of any name, so all stages of its target are its own.
    """
    group, _, stage = label.rpartition("/")
    return label.replace("/", "-").replace(".", "_"), None if group == "inputs" else stage


@contextmanager
def _unheard(console: Console) -> Iterator[None]:
    """Ignore a broken pipe in this block: a build must not end because nobody reads its output."""
    try:
        yield
    except (OSError, ValueError):  # ValueError: the file is closed
        console.quiet = True


def _keep_going(console: Console) -> None:
    """Keep rich from ending the program, and closing stdout, at a broken pipe."""

    def silence() -> None:
        console.quiet = True

    setattr(console, "on_broken_pipe", silence)  # noqa: B010 - to mypy a method is not to be assigned


# --- a terminal


@dataclass
class _Row:
    label: str
    state: str = WAITING
    began: float = 0.0
    seconds: float | None = None  # once it has ended
    detail: str = ""
    recorder: Recorder | None = None
    last: Activity | None = None
    moved: tuple[int, int | None] | None = None  # a download of its own: bytes, and of how many
    rate: float = 0.0
    rated: tuple[float, int] | None = None  # when, and how many bytes had come


class LiveProgress:
    """A table with a row for each label, drawn by a thread of its own: the clock runs while a build is silent."""

    def __init__(self, console: Console, *, clock: Callable[[], float]) -> None:
        self._console, self._clock = console, clock
        self._rows: dict[str, _Row] = {}
        self._lock = threading.Lock()  # the drawing thread must not bring back a state that finish() has just ended
        self._is_drawn = False
        self._usual, self._began = Usual(), clock()
        _keep_going(console)
        self._live = Live(console=console, get_renderable=self.table, refresh_per_second=REFRESH_HZ)

    def __enter__(self) -> object:
        with _unheard(self._console):
            self._live.start()
            self._is_drawn = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_drawn:  # rich cannot stop what failed to start
            with _unheard(self._console):
                self._live.stop()

    def plan(self, rows: Sequence[str], usual: Usual = NOTHING_KNOWN) -> None:
        """Show all rows as waiting."""
        self._usual, self._began = usual, self._clock()
        self._rows = {label: _Row(label) for label in rows}

    def begin(self, label: str) -> None:
        """Start the clock of *label*."""
        row = self._row(label)
        row.state, row.began = RUNNING, self._clock()

    def update(self, label: str, recorder: Recorder) -> None:
        """Let the next drawing ask *recorder*."""
        self._row(label).recorder = recorder  # the next drawing asks it

    def transfer(self, label: str, done: int, total: int | None) -> None:
        """Show a download of *label*'s own."""
        self._row(label).moved = done, total

    def finish(self, label: str, status: str, detail: str) -> None:
        """Stop the clock of *label* and show how it ended."""
        row = self._row(label)
        with self._lock:
            self._ask(row)
            if row.state == RUNNING:
                row.seconds = self._clock() - row.began
            row.recorder, row.detail, row.state = None, clean(detail), status

    def note(self, text: str) -> None:
        """Print *text* above the table."""
        with _unheard(self._console):
            self._console.print(Text(clean(text)))

    def echo(self, line: str) -> None:
        """Print *line* above the table, without line breaks of our own, so that it can be pasted."""
        with _unheard(self._console):
            self._console.print(Text(clean(line)), soft_wrap=True)

    def table(self) -> Table:
        """Return the rows in their present state."""
        table = Table.grid(padding=(0, 1), expand=True)
        rows = tuple(self._rows.values())
        table.add_column(width=max((len(row.state) for row in rows), default=0), no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(min_width=6, justify="right", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for row in rows:
            with self._lock:
                cells = self._cells(row)
            table.add_row(*cells)
        left = self._left(rows)
        if left is not None:
            elapsed = self._clock() - self._began
            table.add_row("", "all", of_about(clock_face, elapsed, elapsed + left), style="dim")
        return table

    def _left(self, rows: Sequence[_Row]) -> float | None:
        running = {row.label: self._clock() - row.began for row in rows if row.state == RUNNING}
        return self._usual.left([row.label for row in rows if row.state == WAITING], running)

    def _row(self, label: str) -> _Row:
        return self._rows.setdefault(label, _Row(label))

    def _ask(self, row: _Row) -> None:
        """Bring *row* up to date. Of many labels in one call, each runs from its own first step to its last."""
        if row.recorder is None or row.state not in (WAITING, RUNNING, DONE):
            return
        target, stage = of_label(row.label)
        before = row.last
        row.last = last = row.recorder.activity(stage=stage, target=target)
        now = self._clock()
        if last.started and (before is None or not before.started) and row.state == WAITING:
            row.began = now
        is_done = bool(last.steps) and last.done == last.steps and not last.running
        row.state = DONE if is_done else RUNNING if last.started else WAITING
        row.seconds = (row.seconds or now - row.began) if is_done else None

    def _cells(self, row: _Row) -> tuple[Text, ...]:
        self._ask(row)
        style = _STYLES.get(row.state, "")
        seconds = (
            row.seconds if row.seconds is not None else self._clock() - row.began if row.state == RUNNING else None
        )
        usual = self._usual.of(row.label) if row.state == RUNNING else None
        last = row.last
        steps = ""
        if last and last.steps:
            done = (
                last.steps if row.state in ("ok", "cached", DONE) else min(last.done + bool(last.running), last.steps)
            )
            steps = f"{done}/{last.steps}"
        return (
            Text(row.state, style=style),
            Text(row.label, style=style if row.state == WAITING else ""),
            Text(of_about(clock_face, seconds, usual) if seconds is not None else ""),
            Text(steps),
            Text(self._doing(row), style="" if row.state == "failed" else "dim"),
        )

    def _doing(self, row: _Row) -> str:
        if row.state != RUNNING:
            return row.detail
        last = row.last
        done, total = row.moved or ((last.current, last.total or None) if last else (0, None))
        if total and done < total:
            return f"{self._moving(row, done, total)}  {brief(last.running) if last else ''}".rstrip()
        return (last.line or brief(last.running)) if last else ""

    def _moving(self, row: _Row, done: int, total: int) -> str:
        now = self._clock()
        if row.rated is None or done < row.rated[1]:
            row.rated = now, done
        elif now - row.rated[0] >= RATE_SECONDS:
            row.rate, row.rated = (done - row.rated[1]) / (now - row.rated[0]), (now, done)
        rate = f", {size_text(row.rate)}/s" if row.rate else ""
        return f"{size_text(done)} of {size_text(total)}{rate}"


# --- elsewhere


class PlainProgress:
    """Prints a line for each start and end, for a log: no color, no control codes, no wrapping."""

    def __init__(self, console: Console, *, clock: Callable[[], float]) -> None:
        self._console, self._clock = console, clock
        self._began: dict[str, float] = {}
        self._seen: dict[str, tuple[int, int]] = {}  # the recorder and its revision, by label
        self._said: set[tuple[str, str, str]] = set()  # label, step, 'start' or how it ended
        self._heard: dict[str, float] = {}  # when a label that works had its last line
        self._usual = Usual()
        _keep_going(console)

    def __enter__(self) -> object:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def plan(self, rows: Sequence[str], usual: Usual = NOTHING_KNOWN) -> None:
        """Say what will be made."""
        self._usual = usual
        whole = usual.left(rows, {})
        self._line("plan: " + ", ".join(rows) + (f"; about {duration(whole)} in all" if whole is not None else ""))

    def begin(self, label: str) -> None:
        """Say that *label* starts."""
        self._began[label] = self._heard[label] = self._clock()
        usual = self._usual.of(label)
        self._line(f"{label}: start" + (f", about {duration(usual)}" if usual is not None else ""))

    def update(self, label: str, recorder: Recorder) -> None:
        """Say which steps started and ended since the last call; and now and then that a long one still works."""
        target, stage = of_label(label)
        seen = id(recorder), recorder.revision
        if self._seen.get(label) != seen:
            self._seen[label] = seen
            self._tell_steps(label, recorder, stage, target)
        heard = self._heard.get(label)
        if heard is not None and self._clock() - heard >= HEARTBEAT_SECONDS:
            now = recorder.activity(stage=stage, target=target)
            if now.running:
                took = of_about(duration, self._clock() - self._began[label], self._usual.of(label))
                self._of(label, f"{label}: {took}, {now.line or brief(now.running)}")

    def _tell_steps(self, label: str, recorder: Recorder, stage: str | None, target: str) -> None:
        for step in recorder.timeline().steps:
            place = step.place(target)
            # What other stages left in the cache is no news of this one.
            if place is not None and step.intervals and not (step.cached and stage not in {None, place.stage}):
                self._tell(label, step, place)

    def transfer(self, label: str, done: int, total: int | None) -> None:
        """Say when a download has ended."""
        if total and done >= total:
            self._line(f"{label}: {size_text(total)} downloaded")

    def finish(self, label: str, status: str, detail: str) -> None:
        """Say how *label* ended, once."""
        if (label, "", "end") in self._said:
            return
        self._said.add((label, "", "end"))
        self._heard.pop(label, None)
        began = self._began.get(label)
        parts = [
            status,
            *([duration(self._clock() - began)] if began is not None else []),
            *([detail] if detail else []),
        ]
        self._line(f"{label}: {', '.join(parts)}")

    def note(self, text: str) -> None:
        """Print *text*, on one line unless a terminal is too narrow for it."""
        self._line(f"note: {text}", soft_wrap=not self._console.is_terminal)

    def echo(self, line: str) -> None:
        """Print *line* as it is."""
        self._line(line)

    def _tell(self, label: str, step: Step, place: Place) -> None:
        if place.kind is StepKind.INTERNAL:
            return
        begun, name = (label, place.name, "start"), brief(place.name)
        if place.kind is not StepKind.STAGE and begun not in self._said and step.seconds < SPEAKS_UP_SECONDS:
            return
        if step.running:
            self._once(begun, f"{label}: {name}")
            return
        if step.cached:
            self._once((label, place.name, "end"), f"{label}: {name} CACHED")
            return
        self._once(begun, f"{label}: {name}")
        short = place.name.partition("]")[0] + "]" if place.kind is StepKind.STAGE else name
        ended = "failed after" if step.error else "done in"
        moved = f", {size_text(step.transferred)}" if step.transferred else ""
        took = duration(step.seconds)
        self._once((label, place.name, "end"), f"{label}: {short} {ended} {took}{moved}")

    def _once(self, key: tuple[str, str, str], line: str) -> None:
        if key not in self._said:
            self._said.add(key)
            self._of(key[0], line)

    def _of(self, label: str, line: str) -> None:
        if label in self._heard:
            self._heard[label] = self._clock()
        self._line(line)

    def _line(self, text: str, *, soft_wrap: bool = True) -> None:
        with _unheard(self._console):
            self._console.print(Text(clean(text)), soft_wrap=soft_wrap, highlight=False)

"""Steps, their intervals, and sums over them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jetpare.events.step_names import Place, StepKind

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
    def kind(self) -> StepKind:
        """The kind of work of the step."""
        return self.places[0].kind

    @property
    def seconds(self) -> float:
        """The seconds that it ran, over all its intervals."""
        return sum(interval.seconds for interval in self.intervals)

    @property
    def end(self) -> float:
        """When it ended last; minus infinity when it never started."""
        return max((interval.end for interval in self.intervals), default=float("-inf"))

    def place(self, target: str, stage: str | None = None) -> Place | None:
        """Return its place in *target* (or its report target); with *stage*, only if it is a step of that stage."""
        return next((each for each in self.places if is_inside(each, target, stage)), None)


def is_inside(place: Place, target: str, stage: str | None) -> bool:
    """Return whether a step at *place* belongs to *target*, and to *stage* where one is given."""
    if stage is not None and place.stage != stage:
        return False
    return place.target in (None, target, f"{target}-report")


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """All vertices of one call, in the order in which they were announced."""

    steps: tuple[Step, ...]

    @property
    def complete(self) -> bool:
        """True if every step that started also ended without an error."""
        return not any(step.running or step.error for step in self.steps)


def union_seconds(steps: Iterable[Step]) -> float:
    """Return the seconds during which at least one of *steps* was running."""
    return sum(interval.seconds for interval in merge(each for step in steps for each in step.intervals))


def work_seconds(steps: Iterable[Step]) -> float:
    """Return the sum of the times of *steps*, each counted alone."""
    return sum(step.seconds for step in steps)

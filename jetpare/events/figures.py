"""Turn BuildKit's event stream (``--progress=rawjson``) into times: what ran, when, whether cached, and what failed.

All times are epoch seconds of the engine's clock, all durations seconds, all sizes bytes. Nothing here starts a
process, reads a clock or knows of a terminal. The shapes are those of BuildKit's SolveStatus (vertexes, logs,
statuses); unknown keys are ignored, because the format has no version.

Four habits of the stream decide how this is written (recorded with buildx 0.13.1 and engine 26.1.5):

- One vertex can run several times, overlapping or not (lookup, then run; a registry look-up by eight callers at once).
- With several targets, each reports a shared vertex for itself, on a clock that differs by some milliseconds, and late
  comers report as cached what another target has just run. So one target's report is used, never their sum.
- Vertices that turn out to equal another target's are announced and then never heard of again.
- A vertex that another call on the same engine is working on comes with what it did before this call began.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from jetpare.events.decode import clean
from jetpare.events.step_names import StepKind
from jetpare.events.steps import Step, Timeline, union_seconds, work_seconds

# --- figures


@dataclass(frozen=True, kw_only=True)
class StageTiming:
    """The figures of one stage in one call: seconds, bytes, counts.

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
    """Return whether *step* ran for *target* in a stage that is none of *others*."""
    place = step.place(target)
    return bool(step.intervals) and not step.cached and place is not None and place.stage not in others


def summary(timeline: Timeline, *, stage: str, target: str, others: Container[str] | None = None) -> StageTiming:
    """Return the times of *stage* as built by bake's *target* (or its report target).

    Of the further stages that the target needs, the steps that ran here count too, except those of *others*, which
    have times of their own. With *others* None, no further stage counts.
    """
    mine = [step for step in timeline.steps if step.place(target) is not None]
    staged = [step for step in mine if step.kind is StepKind.STAGE]
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
    of_kind = {kind: [step for step in mine if step.kind is kind] for kind in StepKind}
    pulled = sum(step.transferred for step in of_kind[StepKind.PULL])
    return StageTiming(
        stage=stage,
        target=target,
        started=min((step.intervals[0].start for step in own if step.intervals), default=None),
        finished=max((step.end for step in own if step.intervals), default=None),
        seconds=union_seconds(own),
        work=work_seconds(own),
        steps=len(by_number),
        cached=len(_cached(by_number, complete=timeline.complete) - ran),
        ran=len(ran),
        pull_seconds=union_seconds(of_kind[StepKind.PULL]),
        context_seconds=union_seconds(of_kind[StepKind.CONTEXT]),
        export_seconds=union_seconds(of_kind[StepKind.EXPORT]),
        internal_seconds=union_seconds(of_kind[StepKind.INTERNAL]),
        transferred=pulled + sum(step.transferred for step in of_kind[StepKind.CONTEXT]),
        pulled=pulled,
    )


def _cached(by_number: Mapping[tuple[str, int], Sequence[Step]], *, complete: bool) -> set[tuple[str, int]]:
    """Return which steps, by stage and number, came from the cache, or would have if they had not run.

    BuildKit does not report a step that a later hit makes unnecessary: it counts as cached too.
    """
    seen = [number for number, steps in by_number.items() if any(each.intervals for each in steps)]
    last = {name: max(number for each, number in seen if each == name) for name, _ in seen}
    return {
        (stage, number)
        for (stage, number), steps in by_number.items()
        if complete or number < last.get(stage, 0) or any(each.cached for each in steps)
    }


class CacheState(Enum):
    """How much of a stage was in the cache before the build."""

    COLD = "cold"
    WARM = "warm"
    CACHED = "cached"


def cache_state(
    timing: StageTiming, ccache: tuple[int, int] | None = None, *, again: bool = False
) -> tuple[CacheState, str]:
    """Return whether a stage was cold, warm or cached, and why.

    *ccache* is (hits, cacheable calls) of this run; None without ccache. *again*: the stage was built again on purpose,
    with the caches of earlier builds. ccache counts its hits and package caches do not, so a stage without counts is
    taken for warm.
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
    """Return the chain of steps that decided when the call ended, first to last; `union_seconds` gives its length.

    The walk goes back from the step that ended last, each time to the input that ended last. An export names no inputs:
    the step that ended last before it started is taken instead. Inputs that are unknown, or never ran, are skipped.
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
        if step_now.kind is StepKind.EXPORT:
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
    """A failed call. ``error`` is short; ``detail`` is all that BuildKit said."""

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
# The shell's and g++'s 'Killed', Go's 'signal: killed': the only trace of the kernel's out-of-memory killer.
_KILLED = re.compile(r"\bKilled\b|signal: killed")
_SIGKILL = 128 + 9


def failure(timeline: Timeline, text: Sequence[str] = ()) -> Failure | None:
    """Return the first step that failed by itself, or buildx's own error if no step did; None when nothing failed.

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

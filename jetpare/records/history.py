"""Compare many runs: which measurements compare, what is usual, and what stands out.

Two measurements are comparable when the same work was done under the same conditions: profile, stage, digest of its
inputs, machine, power mode, what the caches held, and alone or beside others. Everything here is data to data.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from datetime import datetime, timezone
from typing import Any

from jetpare.records.ledger import OK, Record, StageRecord, order

FEWEST_FOR_DEVIATION = 3
FEWEST_FOR_OUTLIERS = 4  # of three, two that chance made alike would make the third an outlier
OUTLIER_SCORE = 3.5  # the limit that Iglewicz and Hoaglin recommend (How to Detect and Handle Outliers, 1993)
BUILT = ("cold", "warm")
CACHE_ORDER = (*BUILT, "cached")
BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, kw_only=True)
class Key:
    """The conditions that two measurements must share to be compared."""

    profile: str
    label: str
    inputs: str | None  # digest
    host: str | None
    power_mode: str | None
    cache: str | None  # cold, warm, cached; None where that is not known
    alone: bool  # not built in one solve with others; what came from the cache was built with nothing


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measurement of a stage. Seconds; ``started`` since the epoch."""

    run: str
    started: float
    seconds: float
    work: float | None = None
    marks: tuple[str, ...] = ()  # why it does not stand for the power mode or the target


@dataclass(frozen=True, kw_only=True)
class RunGroup:
    """Comparable measurements, oldest first, and their statistics in seconds."""

    key: Key
    points: tuple[Point, ...]
    outliers: tuple[Point, ...]
    median: float
    minimum: float
    maximum: float
    deviation: float | None  # of the sample; None under FEWEST_FOR_DEVIATION

    @property
    def count(self) -> int:
        """The number of measurements."""
        return len(self.points)


def host_of(record: Record) -> str:
    """Return the machine of a run: its model where it has one, otherwise what decides its speed."""
    host = record.host
    return str(host.get("model") or f"{host.get('machine', 'unknown')}, {host.get('cores', '?')} cores")


def key_of(record: Record, row: StageRecord) -> Key:
    """Return the key of the measurements that *row* of *record* compares with."""
    mode = record.host.get("power_mode")
    return Key(
        profile=record.profile,
        label=row.label,
        inputs=row.inputs,
        host=host_of(record),
        power_mode=None if mode is None else str(mode),
        cache=row.cache,
        alone=not row.overlaps or row.cache == "cached",
    )


def groups(records: Iterable[Record], *, labels: Sequence[str] = (), last: int | None = None) -> tuple[RunGroup, ...]:
    """Return the comparable groups in *records*, in the order of the largest plan; cold before warm before cached.

    *labels* chooses stages (none: all), *last* the newest so many measurements of each group. What failed or never
    ended is no measurement.
    """
    found: dict[Key, list[Point]] = {}
    newest_first = sorted(records, key=lambda each: order(each.id), reverse=True)
    plans = sorted(newest_first, key=lambda each: -len(each.stages))
    labels_in_order = list(dict.fromkeys(row.label for record in plans for row in record.stages))
    for record in newest_first:
        for row in record.stages:
            if row.status == OK and row.seconds is not None and (not labels or row.label in labels):
                started = row.started if row.started is not None else record.started
                point = Point(run=record.id, started=started, seconds=row.seconds, work=row.work, marks=row.marks)
                found.setdefault(key_of(record, row), []).append(point)
    made = [_group(key, shown) for key, points in found.items() if (shown := points[:last])]
    made.sort(key=lambda group: order(group.points[-1].run), reverse=True)
    return tuple(sorted(made, key=lambda group: (labels_in_order.index(group.key.label), _cache_rank(group.key))))


def medians(records: Sequence[Record]) -> tuple[StageRecord, ...]:
    """Return the rows of the newest of *records*, each with the median time of the runs that compare with it."""
    newest = max(records, key=lambda each: order(each.id))
    usual = {group.key: group.median for group in groups(records)}
    return tuple(
        row.model_copy(update={"seconds": usual.get(key_of(newest, row), row.seconds)}) for row in newest.stages
    )


def _cache_rank(key: Key) -> int:
    return CACHE_ORDER.index(key.cache) if key.cache in CACHE_ORDER else len(CACHE_ORDER)


def _group(key: Key, newest_first: Sequence[Point]) -> RunGroup:
    points = tuple(reversed(newest_first))
    seconds = [point.seconds for point in points]
    return RunGroup(
        key=key,
        points=points,
        outliers=tuple(points[index] for index in outliers(seconds)),
        median=statistics.median(seconds),
        minimum=min(seconds),
        maximum=max(seconds),
        deviation=statistics.stdev(seconds) if len(seconds) >= FEWEST_FOR_DEVIATION else None,
    )


def modified_z_scores(values: Sequence[float]) -> list[float]:
    """Return how far each value is from the median, in units in which 1 is a standard deviation of normal data.

    0.6745 · (x - median) / MAD, after Iglewicz and Hoaglin. Where more than half of the values are equal, the median of
    the deviations (MAD) is 0, and their mean is used instead: (x - median) / (1.2533 · mean).
    """
    middle = statistics.median(values)
    deviations = [abs(value - middle) for value in values]
    unit = statistics.median(deviations) / 0.6745 or statistics.fmean(deviations) * 1.2533
    return [(value - middle) / unit if unit else 0.0 for value in values]


def outliers(values: Sequence[float]) -> list[int]:
    """Return the indices of the values that stand out; none where there are too few values to judge."""
    if len(values) < FEWEST_FOR_OUTLIERS:
        return []
    return [index for index, score in enumerate(modified_z_scores(values)) if abs(score) > OUTLIER_SCORE]


def estimate(found: Sequence[RunGroup], key: Key) -> float | None:
    """Return the median of the group that compares with *key*, in seconds; None where nothing does.

    Where *key* does not say what the caches hold, it compares with what was built cold or warm; where there is both,
    there is no estimate.
    """
    alike = [
        group
        for group in found
        if group.key == key
        or (key.cache is None and group.key.cache in BUILT and replace(group.key, cache=None) == key)
    ]
    return alike[0].median if len(alike) == 1 else None


def sparkline(values: Sequence[float], *, width: int = 12) -> str:
    """Return the newest *width* values as bars from 0 to the largest, so that steady times look steady."""
    shown = values[-width:]
    top = max(shown, default=0.0)
    steps = len(BLOCKS) - 1
    return "".join(BLOCKS[round(value / top * steps) if top > 0 else 0] for value in shown)


# --- for other programs


def as_dict(found: Sequence[RunGroup]) -> dict[str, Any]:
    """Return *found* as JSON: seconds, epoch seconds, null for not measured."""
    return {"schema_version": 1, "groups": [_group_dict(group) for group in found]}


def _group_dict(group: RunGroup) -> dict[str, Any]:
    figures = {name: getattr(group, name) for name in ("count", "median", "minimum", "maximum", "deviation")}
    return {
        **asdict(group.key),
        **figures,
        "outliers": [point.run for point in group.outliers],
        "points": [asdict(point) for point in group.points],
    }


CSV_COLUMNS = (
    "run", "started", "profile", "stage", "inputs", "host", "power_mode", "cache", "alone", "seconds", "work",
    "outlier", "marks",
)  # fmt: skip


def as_csv(found: Sequence[RunGroup]) -> str:
    """Return CSV with a line for each measurement; times in UTC, empty for not measured."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for group in found:
        for point in group.points:
            started = datetime.fromtimestamp(point.started, timezone.utc).isoformat(timespec="seconds")
            marked = int(point in group.outliers)
            key = [int(value) if isinstance(value, bool) else value for value in astuple(group.key)]
            writer.writerow([point.run, started, *key, point.seconds, point.work, marked, "; ".join(point.marks)])
    return text.getvalue()

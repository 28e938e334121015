"""Judge sizes of images and of stages' trees, and times of stages, by the budget in build.toml.

A size is judged whenever it was measured. A time is judged only where it is what the budget limits: of a stage that was
built alone, cold or warm as written, and held the power mode. Anything else is reported as not judged, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jetpare.base.units import GB, duration, size_text
from jetpare.config.schema import Budget
from jetpare.records.ledger import OK, StageRecord

LAYERS, TREE, COLD, WARM = "uncompressed layers", "/opt/stage", "cold", "warm"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One entry of the budget and what was measured: bytes for sizes, seconds for times."""

    name: str  # 'cuda', 'cuda/gdal'
    what: str  # LAYERS, TREE, COLD, WARM
    limit: float  # as build.toml has it
    tolerance: float = 0.0  # percent
    measured: float | None = None
    why: str = ""  # why it is not judged

    @property
    def allowed(self) -> float:
        """The limit with its tolerance."""
        return self.limit * (1 + self.tolerance / 100)

    @property
    def passed(self) -> bool:
        """Whether the measurement is over the budget, which is a failure."""
        return not self.why and self.measured is not None and self.measured > self.allowed

    def __str__(self) -> str:
        """Return a line such as 'cuda/gdal: 6 min 10 s cold, 70.0 s (23.3 %) over its budget of 5 min 00 s'."""
        show = duration if self.what in {COLD, WARM} else size_text
        of = show(self.limit) + (f" (+{self.tolerance:g} % tolerated)" if self.tolerance else "")
        if self.why or self.measured is None:
            return f"{self.name}: its {self.what} budget of {of} is not judged: {self.why}"
        over = self.measured - self.limit
        share = f"{show(abs(over))} ({100 * abs(over) / self.limit:.1f} %) {'over' if over > 0 else 'under'}"
        return f"{self.name}: {show(self.measured)} {self.what}, {share} its budget of {of}"


def allowed_bytes(budget: Budget, image: str) -> int | None:
    """Return the bytes of uncompressed layers that *image* may have, with the tolerance; None without a budget."""
    limit = budget.image_gb.get(image)
    return None if limit is None else int(limit * GB * (1 + budget.tolerance / 100))


def judge(
    budget: Budget, *, sizes: Mapping[str, int | None], stages: Mapping[str, StageRecord | None]
) -> tuple[Line, ...]:
    """Return a line for each entry of *budget* about one of *sizes* (bytes of layers, by image) or *stages* (by label).

    None stands for an image that is not built, or a stage that never was. What is in neither is left out.
    """
    return tuple(_lines(budget, sizes, stages))


def _lines(budget: Budget, sizes: Mapping[str, int | None], stages: Mapping[str, StageRecord | None]) -> Iterator[Line]:
    for image, limit in budget.image_gb.items():
        if image in sizes:
            yield _line(budget, image, LAYERS, limit * GB, sizes[image])
    for label, limit in budget.stage_gb.items():
        if label in stages:
            row = stages[label]
            yield _line(budget, label, TREE, limit * GB, row.tree_bytes if row else None)
    for what, limits in ((COLD, budget.cold_seconds), (WARM, budget.warm_seconds)):
        for label, limit in limits.items():
            if label in stages:
                row = stages[label]
                yield _line(budget, label, what, limit, row.seconds if row else None, _unfit(row, what))


def _line(budget: Budget, name: str, what: str, limit: float, measured: float | None, why: str = "") -> Line:
    why = why or ("not measured" if measured is None else "")
    return Line(name=name, what=what, limit=limit, tolerance=budget.tolerance, measured=measured, why=why)


def _unfit(row: StageRecord | None, wanted: str) -> str:
    """Return why the time of *row* cannot be judged by a budget for a *wanted* build; '' where it can."""
    if row is None:
        return "no run in which it was built is recorded"
    reasons = (
        (row.status != OK, f"it is {row.status}"),
        (row.cache == "cached", "it came from the layer cache"),
        (row.cache != wanted, f"it was built {row.cache or 'with unknown caches'}"),
        (row.overlaps, "it was built side by side with others"),
        (bool(row.marks), "; ".join(row.marks)),
    )
    return next((reason for holds, reason in reasons if holds), "")


def message(over: Sequence[Line], *, table: str) -> str:
    """Return the message for the entries that are *over* budget: which, by how much, and what to do."""
    times = sorted({line.name for line in over if line.what in {COLD, WARM}})
    lines = ["over budget:", *(f"  {line}" for line in over)]
    if len(times) < len(over):
        lines.append("`invoke compare` shows what an image holds; find what grew.")
    lines += [f"`invoke history --stage {name.split('/')[1]}` shows what is usual for {name}." for name in times]
    lines.append(f"If that is what it takes now, raise it in [{table}.budget] of build.toml.")
    return "\n".join(lines)

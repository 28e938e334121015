"""The budget: what is judged, what is not, and what is said about it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetpare.base.units import GB
from jetpare.config.schema import Budget
from jetpare.records import budget
from jetpare.records.budget import Line, judge
from jetpare.records.ledger import StageRecord

LABEL = "cuda/gdal"


def row(**changes: Any) -> StageRecord:
    known = {"label": LABEL, "status": "ok", "cache": "cold", "seconds": 100.0, "tree_bytes": 2 * GB}
    return StageRecord.model_validate(known | changes)


def only(limits: Budget, made: StageRecord | None = None) -> Line:
    (line,) = judge(limits, sizes={"cuda": 5 * GB}, stages={LABEL: made})
    return line


@pytest.mark.parametrize(
    ("limits", "passed", "words"),
    [
        (Budget(image_gb={"cuda": 4.5}), True, "cuda: 5.00 GB uncompressed layers, 500 MB (11.1 %) over its budget of 4.50 GB"),
        (Budget(image_gb={"cuda": 4.5}, tolerance=20), False, "cuda: 5.00 GB uncompressed layers, 500 MB (11.1 %) over its budget of 4.50 GB (+20 % tolerated)"),
        (Budget(image_gb={"cuda": 5.0}), False, "cuda: 5.00 GB uncompressed layers, 0 B (0.0 %) under its budget of 5.00 GB"),
        (Budget(stage_gb={LABEL: 1.5}), True, "cuda/gdal: 2.00 GB /opt/stage, 500 MB (33.3 %) over its budget of 1.50 GB"),
        (Budget(cold_seconds={LABEL: 80}), True, "cuda/gdal: 1 min 40 s cold, 20.0 s (25.0 %) over its budget of 1 min 20 s"),
        (Budget(cold_seconds={LABEL: 80}, tolerance=25), False, "cuda/gdal: 1 min 40 s cold, 20.0 s (25.0 %) over its budget of 1 min 20 s (+25 % tolerated)"),
        (Budget(cold_seconds={LABEL: 99.5}), True, "cuda/gdal: 1 min 40 s cold, 0.5 s (0.5 %) over its budget of 1 min 40 s"),
        (Budget(cold_seconds={LABEL: 200}), False, "cuda/gdal: 1 min 40 s cold, 1 min 40 s (50.0 %) under its budget of 3 min 20 s"),
    ],
)  # fmt: skip
def test_what_is_judged(limits: Budget, passed: bool, words: str) -> None:
    line = only(limits, row())
    assert (line.passed, str(line), line.why) == (passed, words, "")


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (None, "no run in which it was built is recorded"),
        (row(cache="cached", seconds=0.0), "it came from the layer cache"),
        (row(cache="warm"), "it was built warm"),
        (row(cache=None), "it was built with unknown caches"),
        (row(overlaps=True), "it was built side by side with others"),
        (row(marks=("the mode was changed",)), "the mode was changed"),
        (row(marks=("the mode was changed", "the clocks fell")), "the mode was changed; the clocks fell"),
        (row(status="failed"), "it is failed"),
        (row(seconds=None), "not measured"),
    ],
)
def test_a_time_that_does_not_stand_for_the_budget_is_not_judged(made: StageRecord | None, why: str) -> None:
    line = only(Budget(cold_seconds={LABEL: 1e-6}), made)
    assert (line.passed, line.why) == (False, why)
    assert str(line).endswith(f"is not judged: {why}")


def test_cold_and_warm_are_judged_apart() -> None:
    limits = Budget(cold_seconds={LABEL: 200}, warm_seconds={LABEL: 50})
    cold, warm = judge(limits, sizes={}, stages={LABEL: row(cache="warm", seconds=60.0)})
    assert (cold.why, cold.passed) == ("it was built warm", False)
    assert (warm.why, warm.passed) == ("", True)


def test_sizes_that_were_not_measured() -> None:
    (image, tree) = judge(
        Budget(image_gb={"cuda": 1}, stage_gb={LABEL: 1}), sizes={"cuda": None}, stages={LABEL: row(tree_bytes=None)}
    )
    assert (image.why, tree.why) == ("not measured", "not measured")
    assert not image.passed
    assert not tree.passed
    (never,) = judge(Budget(stage_gb={LABEL: 1}), sizes={}, stages={LABEL: None})
    assert str(never) == "cuda/gdal: its /opt/stage budget of 1.00 GB is not judged: not measured"
    (cached,) = judge(Budget(stage_gb={LABEL: 1}), sizes={}, stages={LABEL: row(cache="cached")})
    assert cached.passed  # a tree from the cache is as large as it ever was


def test_what_was_not_asked_about_is_not_told() -> None:
    limits = Budget(image_gb={"cuda": 1}, stage_gb={LABEL: 1}, cold_seconds={LABEL: 1}, warm_seconds={LABEL: 1})
    assert judge(limits, sizes={"jetpack": 1}, stages={"jetpack/gdal": None}) == ()


@given(limit=st.floats(0.001, 1e4), tolerance=st.floats(0, 100), seconds=st.floats(0, 1e5))
def test_passed_is_above_the_limit_with_its_tolerance(limit: float, tolerance: float, seconds: float) -> None:
    line = only(Budget(cold_seconds={LABEL: limit}, tolerance=tolerance), row(seconds=seconds))
    assert line.passed == (seconds > limit * (1 + tolerance / 100))
    image = Budget(image_gb={"cuda": limit}, tolerance=tolerance)
    assert budget.allowed_bytes(image, "cuda") == int(only(image).allowed)


def test_no_budget_allows_everything() -> None:
    assert budget.allowed_bytes(Budget(), "cuda") is None
    assert judge(Budget(), sizes={"cuda": 10**15}, stages={LABEL: row()}) == ()


def test_the_message_says_which_by_how_much_and_what_to_do() -> None:
    limits = Budget(image_gb={"cuda": 4.5}, cold_seconds={LABEL: 80})
    lines = judge(limits, sizes={"cuda": 5 * GB}, stages={LABEL: row()})
    assert budget.message(lines, table="profiles.mini").splitlines() == [
        "over budget:",
        f"  {lines[0]}",
        f"  {lines[1]}",
        "`invoke compare` shows what an image holds; find what grew.",
        "`invoke history --stage gdal` shows what is usual for cuda/gdal.",
        "If that is what it takes now, raise it in [profiles.mini.budget] of build.toml.",
    ]
    assert "invoke compare" not in budget.message(lines[1:], table="profiles.mini")

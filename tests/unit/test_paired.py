"""Paired comparison: an interval that holds its level whatever the noise, and a benchmark's words for it."""

from __future__ import annotations

import doctest
import importlib.util
import itertools
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import fmean
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetpare.base import paired
from jetpare.base.paired import PairedBlock, PairedRatio, estimate, in_blocks, interleaved, noise_floor, verdict
from tests.conftest import ROOT


def benchmark(name: str) -> Any:
    """Load a program of benchmarks/, which is no package."""
    if f"benchmark_{name}" not in sys.modules:
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / f"benchmarks/{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module: ModuleType = importlib.util.module_from_spec(spec)
        sys.modules[f"benchmark_{name}"] = module  # a dataclass looks itself up there
        spec.loader.exec_module(module)
    return sys.modules[f"benchmark_{name}"]


times = st.floats(0.001, 1000)
sides = st.lists(times, min_size=1, max_size=5).map(tuple)
few = settings(max_examples=40)
sessions = st.lists(st.builds(PairedBlock, a=sides, b=sides), min_size=6, max_size=12)


def figures(found: PairedRatio) -> tuple[float, float, float]:
    return found.low, found.ratio, found.high


def blocks_of(logs: Sequence[float]) -> list[PairedBlock]:
    return [PairedBlock(a=(1.0,), b=(math.exp(each),)) for each in logs]


def test_the_example_in_the_docstring_is_true() -> None:
    assert doctest.testmod(paired).failed == 0


# --- the order of a session


@given(blocks=st.integers(1, 12), pairs=st.integers(1, 6), seed=st.integers())
def test_a_session_pairs_the_sides_and_balances_who_goes_first(blocks: int, pairs: int, seed: int) -> None:
    turns = interleaved(blocks=blocks, pairs=pairs, seed=seed)
    assert turns == interleaved(blocks=blocks, pairs=pairs, seed=seed)
    assert [turn.block for turn in turns] == sorted(turn.block for turn in turns)
    for block in range(blocks):
        order = [turn.side for turn in turns if turn.block == block]
        assert len(order) == 2 * pairs
        first = Counter(order[::2])
        assert all(set(pair) == {"A", "B"} for pair in zip(order[::2], order[1::2], strict=True))
        assert abs(first["A"] - first["B"]) == pairs % 2


def test_an_order_and_its_mirror_are_as_likely_in_each_block() -> None:
    for pairs in (1, 2, 3):
        turns = interleaved(blocks=4000, pairs=pairs, seed=3)
        orders = Counter(
            "".join(turn.side for turn in group) for _, group in itertools.groupby(turns, lambda turn: turn.block)
        )
        for order, count in orders.items():
            mirror = order.translate(str.maketrans("AB", "BA"))
            assert count == pytest.approx(orders[mirror], rel=0.15)


def test_samples_go_to_the_block_and_side_of_their_turn() -> None:
    turns = interleaved(blocks=2, pairs=2, seed=1)
    samples = [[float(number), number + 0.5] for number in range(len(turns))]
    found = in_blocks(turns, samples)
    for block, each in enumerate(found):
        for side, values in (("A", each.a), ("B", each.b)):
            mine = [s for turn, s in zip(turns, samples, strict=True) if (turn.block, turn.side) == (block, side)]
            assert values == tuple(itertools.chain(*mine))
    with pytest.raises(ValueError, match="shorter"):
        in_blocks(turns, samples[1:])


# --- the estimate


@few
@given(sessions)
def test_swapping_the_sides_inverts_the_ratio(blocks: list[PairedBlock]) -> None:
    swapped = estimate([PairedBlock(a=each.b, b=each.a) for each in blocks])
    assert figures(swapped) == pytest.approx([1 / value for value in reversed(figures(estimate(blocks)))])


@few
@given(sessions, st.floats(1e-3, 1e3))
def test_another_unit_changes_nothing(blocks: list[PairedBlock], factor: float) -> None:
    scaled = [PairedBlock(a=tuple(x * factor for x in each.a), b=tuple(x * factor for x in each.b)) for each in blocks]
    assert figures(estimate(scaled)) == pytest.approx(figures(estimate(blocks)))


@few
@given(sessions, st.floats(0.1, 10))
def test_a_slowdown_multiplies_the_ratio(blocks: list[PairedBlock], factor: float) -> None:
    slower = [PairedBlock(a=each.a, b=tuple(x * factor for x in each.b)) for each in blocks]
    assert figures(estimate(slower)) == pytest.approx([factor * value for value in figures(estimate(blocks))])


@few
@given(st.lists(sides, min_size=6, max_size=12), st.floats(0.1, 10))
def test_a_constant_ratio_is_found_exactly(sessions: list[tuple[float, ...]], ratio: float) -> None:
    found = estimate([PairedBlock(a=side, b=tuple(ratio * x for x in side)) for side in sessions])
    assert figures(found) == pytest.approx([ratio] * 3)
    assert found.blocks == pytest.approx([ratio] * len(sessions))


@few
@given(sessions, st.randoms(use_true_random=False))
def test_the_order_of_the_blocks_does_not_matter(blocks: list[PairedBlock], random: Random) -> None:
    mixed = list(blocks)
    random.shuffle(mixed)
    assert figures(estimate(mixed)) == figures(estimate(blocks))


@few
@given(sessions)
def test_the_estimate_is_inside_its_interval_and_the_interval_within_the_blocks(blocks: list[PairedBlock]) -> None:
    found = estimate(blocks)
    assert min(found.blocks) <= found.low * (1 + 1e-12)
    assert found.low <= found.ratio <= found.high
    assert found.high <= max(found.blocks) * (1 + 1e-12)


@settings(max_examples=15)
@given(st.lists(st.floats(-3, 3), min_size=6, max_size=8))
def test_the_level_is_exact_for_any_noise(noise: list[float]) -> None:
    # The machine decides how far apart two turns are, and a coin which of them is A: each way to give signs is as
    # likely. Over all of them, no more intervals may miss the truth than the confidence allows.
    missed = total = 0
    for signs in itertools.product((-1, 1), repeat=len(noise)):
        found = estimate(blocks_of([sign * each for sign, each in zip(signs, noise, strict=True)]))
        missed += found.low > 1 or found.high < 1
        total += 1
    assert missed / total <= 1 - found.confidence <= 0.05


@settings(max_examples=5)
@given(st.integers(0, 2**32))
def test_more_blocks_never_widen_the_interval_in_the_mean(seed: int) -> None:
    def width(blocks: int) -> float:
        random = Random(seed)  # noqa: S311 - a simulation
        found = [estimate(blocks_of([random.gauss(0, 0.1) for _ in range(blocks)])) for _ in range(150)]
        return fmean(math.log(each.high / each.low) for each in found)

    widths = [width(blocks) for blocks in (6, 8, 12, 16, 24)]
    assert widths == sorted(widths, reverse=True)


def test_one_wild_block_of_eight_does_not_decide() -> None:
    logs = [0.0, 0.001, -0.001, 0.002, -0.002, 0.003, -0.003]
    assert estimate(blocks_of([*logs, math.log(15)])).ratio == pytest.approx(1, abs=0.005)


def test_warm_ups_are_left_out_of_the_estimate_only() -> None:
    blocks = [PairedBlock(a=(9.0, 1.0, 1.0), b=(1.0, 2.0, 2.0))] * 6
    assert estimate(blocks, warmups=1).ratio == pytest.approx(2)
    assert blocks[0].a == (9.0, 1.0, 1.0)


@pytest.mark.parametrize("side", [(), (1.0,), (1.0, 0.0), (1.0, -1.0)])
def test_a_side_without_positive_samples_is_an_error(side: tuple[float, ...]) -> None:
    blocks = [PairedBlock(a=(1.0, 1.0), b=(1.0, 1.0))] * 7
    with pytest.raises(ValueError, match="positive samples beyond its 1 warm-ups"):
        estimate([*blocks, PairedBlock(a=(1.0, 1.0), b=side)], warmups=1)


@pytest.mark.parametrize(("count", "confidence"), [(0, 0.95), (5, 0.95), (7, 0.99)])
def test_too_few_blocks_are_an_error(count: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=f"{count} blocks are too few"):
        estimate(blocks_of([0.0] * count), confidence=confidence)


# --- the verdict


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (1.051, 1.2, "slower"),
        (1.05, 1.2, "undecided"),  # the tolerance itself is no slowdown
        (0.9, 1.051, "undecided"),
        (0.9, 1.05, "equal or faster"),
        (1.01, 1.04, "equal or faster"),  # slower, but within the tolerance
    ],
)
def test_the_verdict_is_about_the_whole_interval(low: float, high: float, said: str) -> None:
    found = PairedRatio(ratio=(low + high) / 2, low=low, high=high, confidence=0.95, blocks=())
    assert verdict(found, tolerance=0.05) == said


@few
@given(sessions)
def test_the_noise_floor_reaches_as_far_as_the_interval_on_both_sides(blocks: list[PairedBlock]) -> None:
    found, swapped = estimate(blocks), estimate([PairedBlock(a=each.b, b=each.a) for each in blocks])
    floor = noise_floor(found)
    assert floor == pytest.approx(noise_floor(swapped))
    assert 1 / (1 + floor) <= found.low * (1 + 1e-12)
    assert found.high <= (1 + floor) * (1 + 1e-12)


# --- simulated sessions; benchmarks/false_alarms.py makes more of them


@pytest.mark.parametrize("noise", ["CPU time", "wall time"])
def test_no_more_false_alarms_than_promised_where_other_methods_have_them(noise: str) -> None:
    simulation = benchmark("false_alarms")
    found = simulation.sessions(simulation.NOISES[noise], blocks=8, count=800, seed=1)
    methods, some = simulation.METHODS, found[:200]
    assert simulation.false_alarms(methods["signed rank"], found, seed=1) <= 0.05
    assert simulation.false_alarms(methods["percentile bootstrap"], some, seed=1) > 0.08
    assert simulation.false_alarms(methods["pooled samples"], some, seed=1) > 0.15
    assert simulation.verdicts(found, tolerance=0.05)["slower"] <= 0.01


def test_a_fixed_order_takes_drift_for_a_difference() -> None:
    simulation = benchmark("false_alarms")
    noise = simulation.NOISES["drift"]
    drawn = simulation.sessions(noise, blocks=8, count=200, seed=1)
    fixed = simulation.sessions(noise, blocks=8, count=200, seed=1, order=simulation.same_order)
    ours = simulation.METHODS["signed rank"]
    assert simulation.false_alarms(ours, drawn, seed=1) <= 0.05
    assert simulation.false_alarms(ours, fixed, seed=1) > 0.3


def test_a_true_slowdown_is_found() -> None:
    simulation = benchmark("false_alarms")
    found = simulation.sessions(simulation.NOISES["CPU time"], blocks=32, count=100, seed=1, slowdown=0.08)
    said = simulation.verdicts(found, tolerance=0.05)
    assert said["slower"] >= 0.9
    assert said["equal or faster"] == 0


# --- benchmarks/versions.py


def test_versions_says_what_is_slower_and_keeps_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = benchmark("versions")
    run: list[tuple[Path, list[str]]] = []

    def times(checkout: Path, words: list[str], root: Path) -> tuple[float, float]:  # noqa: ARG001 - as called
        run.append((checkout, words))
        cold = 5.0 if len(run) == 1 else 1.0
        return (1.0 if checkout == tmp_path else 1.2) * cold, 0.5 * cold

    monkeypatch.setattr(versions, "times", times)
    samples = tmp_path / "samples.json"
    options = ["--aa", "--blocks", "6", "--runs", "2", "--seed", "4", "--samples", str(samples)]
    monkeypatch.setattr(sys, "argv", ["versions.py", str(tmp_path), *options, "doctor", "--", "--format=json"])
    versions.main()
    out = capsys.readouterr().out
    assert "seed 4 " in out
    assert "CPU time, old/old: 1.000 [1.000, 1.000], 96.9 % confidence, 6 blocks: noise floor 0.0%" in out
    assert "CPU time, new/old: 1.200 [1.200, 1.200], 96.9 % confidence, 6 blocks: slower (tolerance 5.0%)" in out
    assert "wall time, new/old: 1.000 [1.000, 1.000], 96.9 % confidence, 6 blocks: equal or faster" in out
    assert {checkout for checkout, _ in run[:36]} == {tmp_path}
    assert Counter(checkout for checkout, _ in run[36:]) == {tmp_path: 18, ROOT: 18}
    assert all(words == ["doctor", "--format=json"] for _, words in run)
    kept = json.loads(samples.read_text())
    assert len(kept["samples"]["old/old"]) == len(kept["samples"]["new/old"]) == len(kept["order"]) == 36

"""Count how often an interleaved session of A and B is wrong, over simulated sessions of which the truth is known.

usage: .venv/bin/python benchmarks/false_alarms.py [--sessions N] [--seed N]    2 minutes of a processor; starts nothing

The first table compares methods on sessions of A against itself, where each difference that a method sees is a false
alarm. The second says what jetpare.base.paired finds of a true slowdown, by the number of blocks. A block is a turn of
each side, and a turn is a process of its own with 3 warm-ups and 15 samples.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from statistics import NormalDist, fmean, median, stdev

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from jetpare.base.paired import PairedBlock, Turn, estimate, in_blocks, interleaved, verdict

WARMUPS, RUNS = 3, 15  # of each turn
RESAMPLES = 400
SLOWDOWN = 0.08
TOLERANCE = 0.05
STUDENT = {6: 2.571, 8: 2.365, 12: 2.201, 16: 2.131, 24: 2.069}  # 97.5 % of Student's t, by number of blocks

Interval = tuple[float, float]
Method = Callable[[Sequence[PairedBlock], Random], Interval]
Order = Callable[[int, int], tuple[Turn, ...]]  # of so many blocks, by a seed


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What a machine does to the logarithm of a time. 0.1 is about 10 %."""

    drift: float  # from the first to the last sample of a session at most, to either side
    second: float  # what a turn loses that comes right after another one: heat, a full cache
    process: float  # standard deviation between two processes of one program: layout of memory, caches
    wander: float  # standard deviation of a noise that takes about 20 samples to forget itself
    sample: float  # standard deviation of one sample
    outliers: float  # share of samples with a long tail: a Pareto distribution without a variance
    bursts: float  # bursts of load in 100 samples, at any moment: one hits a turn, straddles two, or covers a block
    burst: float  # the largest burst; they last 15 samples in the mean


# The last two are set after a real A/A session of eight blocks on a busy machine of two cores, whose percentile
# bootstrap (narrower than an exact interval) went from -13 % to +1 % by wall time, from -4 % to +1 % by CPU time. The
# second table says how wide the exact intervals are here.
NOISES = {
    "quiet": Noise(drift=0.01, second=0, process=0.005, wander=0.005, sample=0.01, outliers=0.02, bursts=0, burst=0),
    "drift": Noise(drift=0.4, second=0.02, process=0.005, wander=0.02, sample=0.01, outliers=0.02, bursts=0, burst=0),
    "CPU time": Noise(
        drift=0.1, second=0.01, process=0.01, wander=0.02, sample=0.03, outliers=0.05, bursts=0.7, burst=0.15
    ),
    "wall time": Noise(
        drift=0.2, second=0.02, process=0.01, wander=0.05, sample=0.05, outliers=0.1, bursts=0.7, burst=2.7
    ),
}


def session(noise: Noise, turns: Sequence[Turn], *, slowdown: float, chance: Random) -> tuple[PairedBlock, ...]:
    """Return the samples of one session: about 1.0, and for B *slowdown* more. *chance* draws the noise."""
    length = len(turns) * (WARMUPS + RUNS)
    load = _bursts(noise, length, chance)
    slope = chance.uniform(-noise.drift, noise.drift)
    keeps = 0.95  # of the wandering noise, from one sample to the next
    wandering = chance.gauss(0, noise.wander)
    samples: list[list[float]] = []
    for number, turn in enumerate(turns):
        fixed = chance.gauss(0, noise.process) + noise.second * (number % 2)
        fixed += math.log(1 + slowdown) * (turn.side == "B")
        values = []
        for run in range(WARMUPS + RUNS):
            moment = number * (WARMUPS + RUNS) + run
            wandering = keeps * wandering + math.sqrt(1 - keeps**2) * chance.gauss(0, noise.wander)
            tail = math.log(chance.paretovariate(1.5)) if chance.random() < noise.outliers else 0
            warming = 0.5 * math.exp(-1.5 * run)
            own = chance.gauss(0, noise.sample)
            logs = (fixed, slope * moment / length, wandering, own, tail, warming, load[moment])
            values.append(math.exp(sum(logs)))
        samples.append(values)
    return in_blocks(turns, samples)


def _bursts(noise: Noise, length: int, chance: Random) -> list[float]:
    load = [0.0] * length
    if noise.bursts:
        moment = chance.expovariate(noise.bursts / 100)
        while moment < length:
            height, end = chance.uniform(0, noise.burst), moment + chance.expovariate(1 / 15)
            for hit in range(int(moment), min(length, int(end) + 1)):
                load[hit] += height
            moment += chance.expovariate(noise.bursts / 100)
    return load


# --- methods, each from blocks to an interval of 95 % of the ratio


def signed_rank(blocks: Sequence[PairedBlock], _: Random) -> Interval:
    """Return the interval of jetpare.base.paired."""
    found = estimate(blocks, warmups=WARMUPS)
    return found.low, found.high


def student(blocks: Sequence[PairedBlock], _: Random) -> Interval:
    """Return Student's interval of the log ratios."""
    logs = _logs(blocks)
    reach = STUDENT[len(logs)] * stdev(logs) / math.sqrt(len(logs))
    return math.exp(fmean(logs) - reach), math.exp(fmean(logs) + reach)


def percentile(blocks: Sequence[PairedBlock], chance: Random) -> Interval:
    """Return the percentile bootstrap over blocks of the mean log ratio."""
    means = _resampled(_logs(blocks), chance)
    return math.exp(means[int(0.025 * RESAMPLES)]), math.exp(means[-1 - int(0.025 * RESAMPLES)])


def bias_corrected(blocks: Sequence[PairedBlock], chance: Random) -> Interval:
    """Return the BCa bootstrap over blocks: Efron, Better Bootstrap Confidence Intervals, JASA 1987."""
    logs = _logs(blocks)
    means, centre = _resampled(logs, chance), fmean(logs)
    below = min(max(sum(mean < centre for mean in means), 1), RESAMPLES - 1) / RESAMPLES
    bias = NormalDist().inv_cdf(below)
    # The jackknife's influences of a mean are the deviations themselves.
    away = [value - centre for value in logs]
    spread = sum(each**2 for each in away)
    acceleration = sum(each**3 for each in away) / (6 * spread**1.5) if spread else 0
    ends = []
    for share in (0.025, 0.975):
        moved = bias + NormalDist().inv_cdf(share)
        level = NormalDist().cdf(bias + moved / (1 - acceleration * moved))
        ends.append(math.exp(means[min(int(level * RESAMPLES), RESAMPLES - 1)]))
    return ends[0], ends[1]


def pooled(blocks: Sequence[PairedBlock], chance: Random) -> Interval:
    """Return the bootstrap of all samples of a side thrown together, as if none depended on another."""
    sides = [[x for block in blocks for x in block.a[WARMUPS:]], [x for block in blocks for x in block.b[WARMUPS:]]]
    ratios = []
    for _ in range(RESAMPLES // 4):
        a, b = (median(chance.choices(side, k=len(side))) for side in sides)
        ratios.append(b / a)
    ratios.sort()
    return ratios[int(0.025 * len(ratios))], ratios[-1 - int(0.025 * len(ratios))]


def _logs(blocks: Sequence[PairedBlock]) -> list[float]:
    return [math.log(ratio) for ratio in estimate(blocks, warmups=WARMUPS).blocks]


def _resampled(logs: list[float], chance: Random) -> list[float]:
    return sorted(fmean(chance.choices(logs, k=len(logs))) for _ in range(RESAMPLES))


METHODS: dict[str, Method] = {
    "signed rank": signed_rank,
    "Student's t": student,
    "percentile bootstrap": percentile,
    "BCa bootstrap": bias_corrected,
    "pooled samples": pooled,
}


# --- counting


def same_order(blocks: int, _: int) -> tuple[Turn, ...]:
    """Return turns in which A always goes first, as in a session without a coin."""
    return tuple(Turn(block=block, side=side) for block in range(blocks) for side in ("A", "B"))


def drawn_order(blocks: int, seed: int) -> tuple[Turn, ...]:
    """Return turns in the order that a coin decides."""
    return interleaved(blocks=blocks, seed=seed)


def sessions(
    noise: Noise, *, blocks: int, count: int, seed: int, slowdown: float = 0, order: Order = drawn_order
) -> list[tuple[PairedBlock, ...]]:
    """Return *count* sessions of *blocks* blocks, the same for the same *seed*."""
    chance = Random(seed)  # noqa: S311 - a simulation
    return [
        session(noise, order(blocks, chance.getrandbits(32)), slowdown=slowdown, chance=chance) for _ in range(count)
    ]


def false_alarms(method: Method, found: Sequence[Sequence[PairedBlock]], *, seed: int) -> float:
    """Return the share of *found*, sessions of A against itself, in which *method* sees a difference."""
    chance = Random(seed)  # noqa: S311 - a simulation
    intervals = [method(blocks, chance) for blocks in found]
    return sum(low > 1 or high < 1 for low, high in intervals) / len(intervals)


def verdicts(found: Sequence[Sequence[PairedBlock]], *, tolerance: float) -> dict[str, float]:
    """Return the share of each verdict over the sessions *found*.

    Also half the interval's width in the median, as 'reach', and the largest tolerance at which nine in ten are
    'slower', as 'tolerance'.
    """
    estimates = [estimate(blocks, warmups=WARMUPS) for blocks in found]
    said = [verdict(each, tolerance=tolerance) for each in estimates]
    shares = {name: said.count(name) / len(said) for name in ("slower", "equal or faster", "undecided")}
    lows = sorted(each.low for each in estimates)
    reach = median(each.high - each.low for each in estimates) / 2
    return shares | {"reach": reach, "tolerance": lows[len(lows) // 10] - 1}


def methods_table(count: int, seed: int) -> Table:
    """Return the false alarms of each method, by noise and number of blocks."""
    error = math.sqrt(0.05 * 0.95 / count)
    title = f"A against itself, {count} sessions each: false alarms of a 95 % interval (standard error {error:.1%})"
    made = Table(title=title, title_justify="left", box=None)
    made.add_column("noise")
    made.add_column("blocks", justify="right")
    for name in ("promised", *METHODS, "signed rank, A always first"):
        made.add_column(name, justify="right")
    for name, noise in NOISES.items():
        for blocks in (6, 8, 16):
            found = sessions(noise, blocks=blocks, count=count, seed=seed)
            fixed = sessions(noise, blocks=blocks, count=count, seed=seed, order=same_order)
            rates = [false_alarms(method, found, seed=seed) for method in METHODS.values()]
            rates.append(false_alarms(signed_rank, fixed, seed=seed))
            promised = 1 - estimate(found[0]).confidence
            made.add_row(name, str(blocks), *(f"{rate:.1%}" for rate in (promised, *rates)))
    return made


def detection_table(count: int, seed: int) -> Table:
    """Return what is said of a true slowdown and of none, by noise and number of blocks."""
    title = f"B {SLOWDOWN:.0%} slower, tolerance {TOLERANCE:.0%}, {count} sessions each"
    made = Table(title=title, title_justify="left", box=None)
    columns = ["noise", "blocks", "found slower", "wrongly passed", "A/A: slower", "A/A: equal", "interval"]
    columns.append("tolerance for 90 %")
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left")
    for name, noise in NOISES.items():
        for blocks in (8, 12, 16, 20, 24, 32, 48):
            make = partial(sessions, noise, blocks=blocks, count=count, seed=seed)
            slow, same = make(slowdown=SLOWDOWN), make()
            true, none = (verdicts(found, tolerance=TOLERANCE) for found in (slow, same))
            shares = (true["slower"], true["equal or faster"], none["slower"], none["equal or faster"])
            largest = f"{true['tolerance']:.1%}" if true["tolerance"] >= 0 else "none"
            made.add_row(
                name,
                str(blocks),
                *(f"{share:.1%}" for share in shares),
                f"±{none['reach']:.1%}",
                largest,
            )
    return made


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    console = Console(width=140, highlight=False)
    console.print(methods_table(asked.sessions, asked.seed), "")
    console.print(detection_table(asked.sessions // 4, asked.seed))


if __name__ == "__main__":
    main()

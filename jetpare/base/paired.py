"""Decide from interleaved runs of A and B whether B is slower, by an interval that does not depend on the noise.

    >>> turns = interleaved(blocks=8, seed=7)        # in each block A and B once, in an order decided by a coin
    >>> "".join(turn.side for turn in turns)
    'ABBAABBABABAABBA'
    >>> speed = {"A": 100.0, "B": 108.0}             # milliseconds; a real session measures them
    >>> samples = [[speed[turn.side] + turn.block + extra for extra in (30, 0, 1, 2)] for turn in turns]
    >>> found = estimate(in_blocks(turns, samples), warmups=1)
    >>> f"{found.ratio:.3f} [{found.low:.3f}, {found.high:.3f}]"
    '1.077 [1.075, 1.078]'
    >>> verdict(found, tolerance=0.05)
    'slower'

The method: the median of each side of each block, the ratio B/A of each block, and over the blocks the Hodges-Lehmann
estimate of the log ratios with the interval of Wilcoxon's signed-rank test. Because a coin decides the order in each
block, a block of two equal sides is as likely to give the ratio r as 1/r, whatever the machine does meanwhile: drift,
bursts of load, samples that depend on each other. The signed-rank test assumes nothing else, so its level is exact, and
a fixed order would lose it. A bootstrap over few blocks promises more than it holds: `benchmarks/false_alarms.py`
measures both.

Sources: Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, 3rd edition, sections 3.1 to 3.3; Kalibera and
Jones, Rigorous Benchmarking in Reasonable Time, ISMM 2013, for blocks as the unit that repeats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from random import Random
from statistics import median
from typing import Literal

Side = Literal["A", "B"]
PairedVerdict = Literal["slower", "equal or faster", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One stretch of a session in which one side runs: a process with all its samples, or a single run."""

    block: int  # counted from 0
    side: Side


@dataclass(frozen=True, kw_only=True)
class PairedBlock:
    """All samples of one block, each side in the order taken, warm-ups included. Any unit, the same for both sides."""

    a: tuple[float, ...]
    b: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class PairedRatio:
    """How many times as long B takes as A: 1.08 is 8 % slower, with an interval around it and what it was made of."""

    ratio: float
    low: float
    high: float
    confidence: float  # of the interval, both sides together: at least what was asked for
    blocks: tuple[float, ...]  # the ratio of each block, in the order of the session


def interleaved(*, blocks: int, pairs: int = 1, seed: int) -> tuple[Turn, ...]:
    """Return the turns of a session: *blocks* of *pairs* of A and B, in an order that *seed* decides.

    Within a block, half of the pairs start with A (of an odd number, a coin decides about the last), so that a side
    that profits from going second profits as often in both. No block depends on another.
    """
    chance = Random(seed)  # noqa: S311 - an order, not a secret
    turns: list[Turn] = []
    for block in range(blocks):
        orders: list[tuple[Side, Side]] = [("A", "B"), ("B", "A")]
        chance.shuffle(orders)
        chosen = [orders[number % 2] for number in range(pairs)]
        chance.shuffle(chosen)
        turns += [Turn(block=block, side=side) for order in chosen for side in order]
    return tuple(turns)


def in_blocks(turns: Sequence[Turn], samples: Sequence[Sequence[float]]) -> tuple[PairedBlock, ...]:
    """Sort *samples*, one sequence for each of *turns*, into blocks.

    Raise ValueError if there are not as many sequences as turns.
    """
    taken: dict[int, dict[Side, list[float]]] = {}
    for turn, values in zip(turns, samples, strict=True):
        taken.setdefault(turn.block, {"A": [], "B": []})[turn.side].extend(values)
    return tuple(PairedBlock(a=tuple(sides["A"]), b=tuple(sides["B"])) for _, sides in sorted(taken.items()))


def estimate(blocks: Sequence[PairedBlock], *, warmups: int = 0, confidence: float = 0.95) -> PairedRatio:
    """Return the ratio B/A over *blocks*, with an interval that covers the true one with at least *confidence*.

    The first *warmups* samples of each side of each block are left out. Raise ValueError if a side of a block has no
    sample left or one that is not positive, and if there are too few blocks for any interval of this confidence (6 for
    95 %).
    """
    logs = [_log_ratio(block, warmups) for block in blocks]
    rank, reached = _signed_rank(len(logs), confidence)
    means = sorted((one + other) / 2 for number, one in enumerate(logs) for other in logs[number:])
    low, middle, high = (math.exp(value) for value in (means[rank], median(means), means[-1 - rank]))
    return PairedRatio(ratio=middle, low=low, high=high, confidence=reached, blocks=tuple(map(math.exp, logs)))


def _log_ratio(block: PairedBlock, warmups: int) -> float:
    sides = block.a[warmups:], block.b[warmups:]
    if not all(side and min(side) > 0 for side in sides):
        raise ValueError(f"each side of a block needs positive samples beyond its {warmups} warm-ups; got {block}")
    return math.log(median(sides[1])) - math.log(median(sides[0]))


@lru_cache
def _signed_rank(count: int, confidence: float) -> tuple[int, float]:
    """Return how many of the *count* log ratios' sorted pairwise means to leave out at each end, and the confidence.

    The sum of the ranks with a positive sign is exact: each of the 2^count ways to give signs is as likely.
    """
    ways = [1]  # ways[s]: how many subsets of the ranks so far have the sum s
    for rank in range(1, count + 1):
        longer = ways + [0] * rank
        ways = [plain + (longer[total - rank] if total >= rank else 0) for total, plain in enumerate(longer)]
    beyond = [2 * below / 2**count for below in accumulate(ways)]  # the level lost if s means are left out at each end
    fitting = [(rank, 1 - lost) for rank, lost in enumerate(beyond) if lost <= 1 - confidence]
    if not fitting:
        raise ValueError(f"{count} blocks are too few for an interval of {confidence:.0%}; take more blocks")
    return fitting[-1]


def verdict(found: PairedRatio, *, tolerance: float) -> PairedVerdict:
    """Say whether B is slower than A by more than *tolerance* (0.05 is 5 %). 'undecided' means: not measured."""
    if found.low > 1 + tolerance:
        return "slower"
    return "equal or faster" if found.high <= 1 + tolerance else "undecided"


def noise_floor(same: PairedRatio) -> float:
    """Return the largest difference that *same*, a session of A against itself, cannot tell from none.

    0.03 means that a ratio between 1/1.03 and 1.03 may be noise.
    """
    return max(same.high, 1 / same.low) - 1

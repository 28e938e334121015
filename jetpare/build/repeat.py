"""Run the same build several times, each from the temperature of the first, for figures that can be quoted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jetpare.base.errors import SpaceError
from jetpare.base.units import duration, size_text
from jetpare.board.sensors import Sensors

MARGIN = 2.0  # °C above the temperature before the first run
LONGEST_SECONDS = 600.0
POLL_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The readings of the machine. None means not measured."""

    hottest: Callable[[], tuple[str, float] | None]  # the hottest zone, °C
    free: Callable[[], int | None]  # bytes where the engine keeps its images
    clock: Callable[[], float] = time.monotonic  # seconds
    sleep: Callable[[float], None] = time.sleep


def hottest_zone(root: Path) -> tuple[str, float] | None:
    """Return the hottest thermal zone below *root* and its temperature in °C; None if none is measured."""
    sensors = Sensors(root)
    celsius = sensors.sample(now=0.0, monotonic=0.0).celsius
    sensors.close()
    return max(celsius.items(), key=lambda zone: zone[1], default=None)


def repeat(times: int, build: Callable[[], object], *, machine: Machine, say: Callable[[str], None]) -> None:
    """Call *build* *times* times. Raises SpaceError if the disk has no room for what another run would leave."""
    first, free, left = machine.hottest(), machine.free(), 0
    for number in range(1, times + 1):
        if number > 1:
            check_space(machine.free(), left, number=number, times=times)
            cool_down(machine, start=first[1] if first else None, say=say)
        say(f"Run {number} of {times}.")
        build()
        before, free = free, machine.free()
        left = 0 if before is None or free is None else before - free


def check_space(free: int | None, needed: int, *, number: int, times: int) -> None:
    """Raise SpaceError if less is free than the run before used up: its layers stay in the cache."""
    if free is not None and free < needed:
        raise SpaceError(
            f"Run {number} of {times} was not started: the one before left {size_text(needed)} in the build cache, "
            f"and only {size_text(free)} are free. To remove what earlier builds left: `invoke clean --cache`."
        )


def cool_down(machine: Machine, *, start: float | None, say: Callable[[str], None]) -> None:
    """Wait until the hottest zone has at most MARGIN more than *start* (°C), but no longer than LONGEST_SECONDS."""
    began, found = machine.clock(), machine.hottest()
    if found is None or start is None:
        say("Temperatures are not measured here: the next run does not wait for the machine to cool down.")
        return
    wanted = start + MARGIN
    if found[1] <= wanted:
        return
    say(
        f"Cooling down: {found[0]} has {found[1]:.1f} °C. Waiting for {wanted:.1f} °C ({start:.1f} °C before the first "
        f"run), {duration(LONGEST_SECONDS)} at most."
    )
    while found is not None and found[1] > wanted and machine.clock() - began < LONGEST_SECONDS:
        machine.sleep(POLL_SECONDS)
        found = machine.hottest()
    state = "the temperature is not measured any more" if found is None else f"{found[0]} has {found[1]:.1f} °C"
    warmer = ": the next run starts warmer than the first one did" if found is None or found[1] > wanted else ""
    say(f"After {duration(machine.clock() - began)}, {state}{warmer}.")

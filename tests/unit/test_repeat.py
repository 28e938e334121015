"""Several runs: each starts as cool as the first one; sensors are files of the test's own, and time is its own too."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jetpare.base.errors import SpaceError
from jetpare.base.units import GB
from jetpare.build.repeat import LONGEST_SECONDS, MARGIN, POLL_SECONDS, Machine, cool_down, hottest_zone, repeat


@dataclass
class Board:
    """A machine that a run heats to *heat* °C and that loses a degree in ten seconds, down to *room*."""

    root: Path
    room: float = 40.0
    heat: float = 71.0
    now: float = 0.0
    free: list[int | None] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    runs: list[float] = field(default_factory=list)  # the temperature at which each began

    def __post_init__(self) -> None:
        for number, kind in enumerate(("cpu-thermal", "tj-thermal", "cv0-thermal")):
            folder = self.root / f"sys/class/thermal/thermal_zone{number}"
            folder.mkdir(parents=True)
            (folder / "type").write_text(f"{kind}\n")
        self.set(self.room)

    def set(self, celsius: float) -> None:
        self.celsius = celsius
        for number, lower in enumerate((5.0, 0.0)):
            (self.root / f"sys/class/thermal/thermal_zone{number}/temp").write_text(f"{(celsius - lower) * 1000:.0f}\n")

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.set(max(self.room, self.celsius - seconds / 10))

    def build(self) -> None:
        self.runs.append(self.celsius)
        self.set(self.heat)

    def machine(self) -> Machine:
        left = iter(self.free)
        return Machine(
            hottest=lambda: hottest_zone(self.root),
            free=lambda: next(left, None),
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    def repeat(self, times: int) -> None:
        repeat(times, self.build, machine=self.machine(), say=self.said.append)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the sensors, which takes a while, five times less often."""
    monkeypatch.setattr("jetpare.build.repeat.POLL_SECONDS", 10.0)


@pytest.mark.usefixtures("unhurried")
def test_each_run_starts_as_cool_as_the_first(board: Board) -> None:
    board.repeat(3)
    assert board.runs[0] == 40.0
    assert len(board.runs) == 3
    assert max(board.runs) <= 40.0 + MARGIN
    assert board.said == [
        "Run 1 of 3.",
        "Cooling down: tj-thermal has 71.0 °C. Waiting for 42.0 °C (40.0 °C before the first run), 10 min 00 s at most.",
        "After 4 min 50 s, tj-thermal has 42.0 °C.",
        "Run 2 of 3.",
        "Cooling down: tj-thermal has 71.0 °C. Waiting for 42.0 °C (40.0 °C before the first run), 10 min 00 s at most.",
        "After 4 min 50 s, tj-thermal has 42.0 °C.",
        "Run 3 of 3.",
    ]


@pytest.mark.usefixtures("unhurried")
def test_the_wait_has_an_end(board: Board) -> None:
    board.heat = 150.0
    board.repeat(2)
    assert LONGEST_SECONDS <= board.now <= LONGEST_SECONDS + POLL_SECONDS
    assert (
        board.said[-2]
        == "After 10 min 00 s, tj-thermal has 90.0 °C: the next run starts warmer than the first one did."
    )
    assert len(board.runs) == 2


def test_what_is_cool_enough_does_not_wait(board: Board) -> None:
    board.heat = 41.0
    board.repeat(2)
    assert (board.now, board.said) == (0.0, ["Run 1 of 2.", "Run 2 of 2."])


def test_without_sensors_nothing_is_waited_for_and_that_is_said(board: Board) -> None:
    for path in board.root.glob("sys/class/thermal/*/type"):
        path.unlink()
    assert hottest_zone(board.root) is None
    board.repeat(2)
    assert board.now == 0.0
    assert "not measured" in board.said[1]
    assert len(board.runs) == 2


def test_a_sensor_that_vanishes_ends_the_wait(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanish(seconds: float) -> None:
        board.now += seconds
        for path in board.root.glob("sys/class/thermal/*/temp"):
            path.unlink()

    monkeypatch.setattr(board, "sleep", vanish)
    monkeypatch.setattr(board, "set", lambda _celsius: None)
    machine = board.machine()
    (board.root / "sys/class/thermal/thermal_zone1/temp").write_text("70000")
    cool_down(machine, start=40.0, say=board.said.append)
    assert board.said[-1].startswith("After 2.0 s, the temperature is not measured any more")


def test_a_failure_ends_it(board: Board) -> None:
    def fail() -> None:
        board.build()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        repeat(3, fail, machine=board.machine(), say=board.said.append)
    assert len(board.runs) == 1


def test_a_disk_that_cannot_hold_another_run_ends_it(board: Board) -> None:
    board.heat = board.room
    board.free = [25 * GB, 15 * GB, 15 * GB, 5 * GB, 5 * GB]
    with pytest.raises(
        SpaceError, match=r"Run 3 of 4 was not started: the one before left 10\.0 GB .* 5\.00 GB are free"
    ):
        board.repeat(4)
    assert len(board.runs) == 2


def test_space_that_is_not_measured_stops_nothing(board: Board) -> None:
    board.heat = board.room
    board.free = [None, 5, None, 5]
    board.repeat(3)
    assert len(board.runs) == 3

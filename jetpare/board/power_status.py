"""Read what `invoke power` shows, and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from jetpare.base.errors import PowerError
from jetpare.board.host import Host, HostFacts, host_facts, read_number, read_optional
from jetpare.board.nvpmodel import Clocks, Mode, Modes, Present, needs_reboot
from jetpare.board.power import Pending, pending
from jetpare.board.programs import Board, Cpu, locked_clocks, not_ours, online_cpus
from jetpare.board.sensors import core_numbers

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ModeRow:
    """A mode of the board. ``reboot``: a switch to it from the present mode may need one."""

    mode: Mode
    present: bool
    reboot: bool


@dataclass(frozen=True, kw_only=True)
class PowerStatus:
    """The content of `invoke power`. ``faults`` says what could not be read."""

    host: HostFacts
    why_not: str  # why there is no power mode here; empty on a Jetson
    present: Present | None
    modes: tuple[ModeRow, ...]
    default: int | None
    cpus: tuple[Cpu, ...]
    cores_present: int
    clocks: Clocks
    locked: bool | None
    fan: tuple[str, ...]
    throttling: tuple[str, ...] | None  # None: not measured
    pending: Pending | None
    faults: tuple[str, ...]


def status(*, state: Path, host: Host) -> PowerStatus:
    """Return everything about *host*'s power that can be read without a change. Never raises for something missing."""
    faults: list[str] = []
    why_not = not_ours(host)
    board = None if why_not else Board(host)
    present = _or_fault(board.query, faults) if board else None
    modes = _or_fault(board.modes, faults) if board else None
    clocks = board.show() if board else {}
    left = _or_fault(lambda: pending(state=state, host=host), faults) if board else None
    cpus = online_cpus(host)
    return PowerStatus(
        host=host_facts(host),
        why_not=why_not,
        present=present,
        modes=_rows(modes, present) if modes else (),
        default=modes.default if modes else None,
        cpus=cpus,
        cores_present=len(core_numbers(read_optional(host, "/sys/devices/system/cpu/present") or "")),
        clocks=clocks,
        locked=locked_clocks(cpus, clocks),
        fan=_fan(host, clocks),
        throttling=_throttling(host),
        pending=left,
        faults=tuple(faults),
    )


def _or_fault(ask: Callable[[], T], faults: list[str]) -> T | None:
    """Return what *ask* returns; if it fails, add the reason to *faults* and return None."""
    try:
        return ask()
    except PowerError as error:
        faults.append(str(error))
        return None


def _rows(modes: Modes, present: Present | None) -> tuple[ModeRow, ...]:
    now = modes.by_id(present.id) if present else None
    return tuple(
        ModeRow(mode=mode, present=mode == now, reboot=now is not None and needs_reboot(now, mode))
        for mode in modes.modes
    )


def _fan(host: Host, clocks: Clocks) -> tuple[str, ...]:
    """Return each fan's drive, of 255."""
    shown = {key: value for key, value in clocks.get("FAN", {}).items() if "pwm" in key}
    if shown:
        return tuple(f"{key} {value} of 255" for key, value in shown.items())
    found = [(path, read_number(host, path)) for path in host.glob("/sys/class/hwmon/hwmon*/pwm[0-9]")]
    return tuple(f"{'_'.join(path.split('/')[-2:])} {drive} of 255" for path, drive in found if drive is not None)


def _throttling(host: Host) -> tuple[str, ...] | None:
    """Return what slows the board down: zones above a passive trip point now, over-current events since boot."""
    lines: list[str] = []
    measured = False
    for zone in host.glob("/sys/class/thermal/thermal_zone*"):
        kinds = [path for path in host.glob(f"{zone}/trip_point_*_type") if read_optional(host, path) == "passive"]
        trips = [read_number(host, path.removesuffix("type") + "temp") for path in kinds]
        lowest = min((trip for trip in trips if trip is not None), default=None)
        heat = read_number(host, f"{zone}/temp")
        if lowest is None or heat is None:
            continue
        measured = True
        if heat >= lowest:
            name = read_optional(host, f"{zone}/type") or zone
            lines.append(f"{name} at {heat / 1000:.1f} °C, throttles from {lowest / 1000:.1f} °C")
    for path in host.glob("/sys/class/hwmon/hwmon*/oc[0-9]*_event_cnt"):
        count = read_number(host, path)
        measured |= count is not None
        if count:
            lines.append(f"over-current {path.split('/')[-1].partition('_')[0]}: {count} events since boot")
    return tuple(lines) if measured else None

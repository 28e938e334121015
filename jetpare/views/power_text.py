"""Show the power status of a board on a terminal."""

from __future__ import annotations

import math

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from jetpare.board.nvpmodel import Mode
from jetpare.board.power_status import PowerStatus
from jetpare.board.programs import Cpu

NOT_MEASURED = "not measured"
LOCKED = {True: "locked at their maximum", False: "not locked", None: NOT_MEASURED}


def power(status: PowerStatus) -> RenderableType:
    """Return the mode, all modes, clocks, fan, throttling, and what an interrupted run has not restored."""
    parts: list[RenderableType] = []
    if status.pending is not None:
        parts += [Text(str(status.pending), style="yellow" if status.pending.live else "bold red"), Text()]
    parts += [_head(status), Text()]
    if status.modes:
        parts += [_modes(status), Text()]
    parts.append(_clocks(status))
    parts += [Text(fault, style="red") for fault in status.faults]
    return Group(*parts)


def _head(status: PowerStatus) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    host = status.host
    release = f"L4T {host.l4t}" if host.l4t else "L4T not known"
    rows = {
        "machine": host.model or "not named by a device tree",
        "software": f"{release}, JetPack {host.jetpack or 'not known'}" if host.family else None,
        "power mode": str(status.present) if status.present else (status.why_not or NOT_MEASURED),
        "clocks": LOCKED[status.locked],
        "cores": f"{len(status.cpus)} of {status.cores_present} online",
        "fan": ", ".join(status.fan) or NOT_MEASURED,
        "throttling": NOT_MEASURED if status.throttling is None else "; ".join(status.throttling) or "none",
    }
    for name, value in rows.items():
        if value is not None:
            table.add_row(name, escape(value))
    return table


def _modes(status: PowerStatus) -> Table:
    table = Table(title="Power modes", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("id", "cores", "CPU up to", "GPU up to"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("mode", no_wrap=True)
    table.add_column("", overflow="fold")
    for row in status.modes:
        mode = row.mode
        notes = {
            "present": row.present,
            "MAXN": mode.is_maxn,
            "at boot": mode.id == status.default,
            "needs a reboot": row.reboot,
        }
        table.add_row(
            str(mode.id),
            str(len(mode.cores_online) or "-"),
            _cap(mode, "CPU", 1e6),
            _cap(mode, "GPU", 1e9),
            Text(mode.name, style="bold green" if row.present else ""),
            ", ".join(name for name, true in notes.items() if true),
        )
    return table


def _cap(mode: Mode, unit: str, giga: float) -> str:
    """Return the highest cap of a kind of unit in GHz; *giga* is the number of its own units in one."""
    caps = [cap for name, cap in mode.caps.items() if name.startswith(unit)]
    if not caps:
        return "-"
    return "no cap" if math.isinf(max(caps)) else f"{max(caps) / giga:.2f} GHz"


def _clocks(status: PowerStatus) -> Table:
    table = Table(title="Clocks", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("")
    table.add_column("governor")
    for column in ("now", "lowest", "highest"):
        table.add_column(column, justify="right", no_wrap=True)
    for cpu in status.cpus:
        table.add_row(f"cpu{cpu.core}", cpu.governor or NOT_MEASURED, *_cpu_clocks(cpu))
    for device in ("GPU", "EMC"):
        values = status.clocks.get(device)
        if values:
            clocks = [values.get(key, "") for key in ("CurrentFreq", "MinFreq", "MaxFreq")]
            table.add_row(device, "", *(_mhz(int(text) / 1e6 if text.isdecimal() else None) for text in clocks))
    return table


def _cpu_clocks(cpu: Cpu) -> tuple[str, ...]:
    return tuple(_mhz(khz / 1e3 if khz is not None else None) for khz in (cpu.current_khz, cpu.min_khz, cpu.max_khz))


def _mhz(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.0f} MHz"

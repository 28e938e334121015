"""Show tables on a terminal, or in a pipe: the timing of a run, the plan, the doctor's findings."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from jetpare.base.versions import NOT_MEASURED
from jetpare.project.plan import Plan
from jetpare.records.ledger import CROSS_BUILT, EMULATED, Record, StageRecord
from jetpare.views.rows import seconds_text

if TYPE_CHECKING:
    from jetpare.build.doctor import Diagnosis

FILE_WIDTH = 100  # columns of a table in a file or a pipe
STYLES = {
    "ok": "green", "succeeded": "green", "cached": "cyan", "warm": "yellow", "cold": "", "failed": "bold red",
    "skipped": "dim", "waiting": "dim", "interrupted": "bold red", "running": "yellow", "warning": "yellow",
    NOT_MEASURED: "dim",
}  # fmt: skip


def timing(record: Record) -> RenderableType:
    """Return the stages of a run with their times, and where the rest of the wall time went."""
    table = Table(title="Stages", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("stage", "state"):
        table.add_column(column)
    for column in ("time", "work"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in record.stages:
        state = row.cache if row.status == "ok" and row.cache else row.status
        table.add_row(
            row.label,
            Text(state, style=STYLES.get(state, "")),
            _row_time(row),
            _row_work(row),
            escape("; ".join([*filter(None, [row.why or row.reason]), *row.marks])),
        )
    table.add_section()
    for title, seconds in _beside(record):
        table.add_row(title, "", seconds_text(seconds), "", "")
    table.add_row("wall time", "", seconds_text(record.wall_seconds), "", escape(_circumstances(record)), style="bold")
    parts: list[RenderableType] = [table]
    if record.parallel:
        parts.append(Text("Stages ran side by side: their times overlap and do not add up to the wall time."))
    if any(mark.startswith((CROSS_BUILT, EMULATED)) for row in record.stages for mark in row.marks):
        parts.append(Text(f"Times of cross-built and emulated stages say nothing about a {record.platform} machine."))
    if record.critical_path:
        parts.append(_critical_path(record))
    return Group(*parts)


def _row_time(row: StageRecord) -> str:
    return seconds_text(row.seconds) if row.seconds is not None else "-"


def _row_work(row: StageRecord) -> str:
    return seconds_text(row.work) if row.work is not None else "-"


def _beside(record: Record) -> list[tuple[str, float]]:
    names = {"pulling": "pull_seconds", "transferring": "context_seconds", "exporting": "export_seconds"}
    return [(title, getattr(record, name)) for title, name in names.items()]


def _circumstances(record: Record) -> str:
    how = "one solve, stages side by side" if record.parallel else "one stage after another"
    if all(row.cache == "cached" for row in record.stages):
        how = "nothing changed, all from the cache"
    cold = ", cold caches asked for" if record.cold else ""
    cores, power = record.host.get("cores"), record.host.get("power_mode") or NOT_MEASURED
    return f"{how}{cold}; {cores} cores, power mode {power}"


def _critical_path(record: Record) -> RenderableType:
    total = sum(float(step["seconds"]) for step in record.critical_path)
    lines = [f"Critical path: {seconds_text(total)}"]
    longest = sorted(record.critical_path, key=lambda step: -float(step["seconds"]))[:5]
    lines += [f"  {seconds_text(float(step['seconds'])):>12}  {step['name']}" for step in longest]
    return Text("\n".join(lines), overflow="ellipsis", no_wrap=True)


def plan_table(plan: Plan, cached: dict[str, str]) -> RenderableType:
    """Return the nodes in their order, what each needs, and what the last run says about its cache."""
    table = Table(box=None, pad_edge=False)
    for column in ("", "node", "kind", "needs", "cache"):
        table.add_column(column, overflow="fold")
    for number, node in enumerate(plan.nodes, 1):
        table.add_row(str(number), node.label, node.kind.value, ", ".join(node.needs), cached.get(node.label, ""))
    how = f", {plan.how}" if plan.emulated else ""
    heading = Text(f"Profile {plan.profile_name} on {plan.platform}{how}: {plan.profile.description}")
    return Group(heading, Text(), table)


def findings(rows: Sequence[Diagnosis]) -> RenderableType:
    """Return the doctor's findings, each with its fix if it is not ok."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        advice = f"\n-> {row.advice}" if row.advice else ""
        table.add_row(Text(row.status, style=STYLES.get(row.status, "")), row.name, escape(row.detail + advice))
    return table


def show(console: Console, *parts: RenderableType) -> None:
    """Print *parts* with an empty line between them."""
    for number, part in enumerate(parts):
        if number:
            console.print()
        console.print(part)


def text(*parts: RenderableType) -> str:
    """Return *parts* as plain text for a file: without color, whatever FORCE_COLOR says."""
    made = io.StringIO()
    show(Console(file=made, width=FILE_WIDTH, highlight=False, color_system=None), *parts)
    return made.getvalue()

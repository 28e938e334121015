"""Tables for a terminal, or for a file where stdout is piped: the timing of a run, the plan, the comparison."""

from __future__ import annotations

from collections.abc import Sequence

import humanize
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from jetpare.compare import BUILT, DIFFERS, NOT_MEASURED, SIZE_NAMES, Comparison, Difference, ImageFigures, gigabytes
from jetpare.doctor import Finding
from jetpare.ledger import Record, StageRecord
from jetpare.plan import Plan
from jetpare.views.progress import duration

STYLES = {
    "ok": "green", "succeeded": "green", "cached": "cyan", "warm": "yellow", "cold": "", "failed": "bold red",
    "skipped": "dim", "waiting": "dim", "interrupted": "bold red", "running": "yellow", "warning": "yellow",
    DIFFERS: "bold red", NOT_MEASURED: "dim",
}  # fmt: skip
SIZE_TITLES = {
    "layers": "uncompressed layers",
    "merged": "merged file system",
    "pull": "compressed (pull)",
    "alone": "not shared with the others",
}
SHORT_ID = 19  # 'sha256:' and twelve digits, as docker shows them


def seconds_text(seconds: float | None) -> str:
    """'4 min 46 s', '3.2 s', 'not measured'."""
    return NOT_MEASURED if seconds is None else duration(seconds)


def timing(record: Record) -> RenderableType:
    """The stages of a run with their times, and where the rest of the wall time went."""
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


def comparison(result: Comparison) -> RenderableType:
    """The verdict first, then the figures it stands on. Fits 80 columns."""
    parts: list[RenderableType] = [_verdict(result), Text()]
    parts.append(_figures(result))
    parts.append(Text())
    if any(image.versions for image in result.images):
        parts += [_versions(result), Text()]
    for image in result.images:
        parts += [Text(f"{image.name}: {note}", style="yellow") for note in image.notes]
    if any(image.build_warm or image.build_overlaps for image in result.images):
        hint = (
            "Times of warm or overlapping stages do not compare; `invoke build-all --cold` measures all of them cold."
        )
        parts.append(Text(hint, style="yellow"))
    stand_in = f"Profile {result.profile}: {result.description}."
    parts.append(Text(stand_in, style="dim"))
    store = result.engine.get("store")
    parts.append(Text(f"Engine {result.engine.get('version')}, {store} store. GB are 10^9 bytes.", style="dim"))
    return Group(*(Text(part.plain, style=part.style) if isinstance(part, Text) else part for part in parts))


def _verdict(result: Comparison) -> RenderableType:
    lines = Text()
    by_size = {(row.image, row.size): row for row in result.differences}
    baseline = result.images[0]
    for image in result.images:
        if image.status != BUILT:
            lines.append(
                f"{image.name}: {image.status} (`invoke build-all --image {image.name}` builds it)\n", "bold red"
            )
    for image in result.images[1:]:
        found = by_size.get((image.name, "layers"))
        if found is not None:
            lines.append(f"{sentence(found, baseline.name)}\n", "bold green" if found.saved > 0 else "bold yellow")
    for image in result.over_budget:
        lines.append(
            f"{image.name} is over its budget: {gigabytes(image.sizes.get('layers'))} of {gigabytes(image.budget)}\n",
            "bold red",
        )
    lines.rstrip()
    return lines


def sentence(difference: Difference, baseline: str) -> str:
    """'cuda is 2.91 GB smaller than jetpack (34.2 %)'."""
    if difference.saved == 0:
        return f"{difference.image} is as large as {baseline}"
    amount = gigabytes(abs(difference.saved))
    return f"{difference.image} is {amount} {difference.words} than {baseline} ({abs(difference.percent):.1f} %)"


def _figures(result: Comparison) -> Table:
    table = Table(box=None, pad_edge=False, title="Images", title_justify="left", title_style="bold")
    table.add_column("")
    for image in result.images:
        table.add_column(image.name, justify="right", overflow="fold")
    rows: list[tuple[str, list[str]]] = [("status", [image.status for image in result.images])]
    rows += [(SIZE_TITLES[size], [_size_cell(result, image, size) for image in result.images]) for size in SIZE_NAMES]
    rows.append(("layers", [_or_dash(image.layers) for image in result.images]))
    rows.append(("stages' time when built", [_time_cell(image) for image in result.images]))
    rows.append(("checks", [checks_text(image) for image in result.images]))
    rows.append(("created", [_created(image) for image in result.images]))
    rows.append(("image id", [(image.id or "-")[:SHORT_ID] for image in result.images]))
    rows.append(("base", [image.base or "-" for image in result.images]))
    rows.append(("tag", [image.reference for image in result.images]))
    for title, cells in rows:
        table.add_row(title, *(escape(cell) for cell in cells))
    if result.shared is not None and len(result.images) > 1:
        table.add_row("shared by several", gigabytes(result.shared))
    return table


def _size_cell(result: Comparison, image: ImageFigures, size: str) -> str:
    if image.status != BUILT:
        return "-"
    text = gigabytes(image.sizes.get(size))
    row = next((row for row in result.differences if row.image == image.name and row.size == size), None)
    return f"{text} ({-row.percent:+.1f} %)" if row else text


def _time_cell(image: ImageFigures) -> str:
    marks = [f"warm: {', '.join(image.build_warm)}"] if image.build_warm else []
    marks += ["side by side"] if image.build_overlaps else []
    warm = f" ({'; '.join(marks)})" if marks else ""
    return "-" if image.status != BUILT else seconds_text(image.build_seconds) + warm


def _created(image: ImageFigures) -> str:
    return (image.created or "-")[:19].replace("T", " ")


def _or_dash(value: int | None) -> str:
    return "-" if value is None else humanize.intcomma(value)


def checks_text(image: ImageFigures) -> str:
    """'7 ok, 2 not measured'."""
    if image.status != BUILT:
        return "-"
    states = [str(check.get("status")) for check in image.checks]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or NOT_MEASURED


def _versions(result: Comparison) -> Table:
    table = Table(
        box=None, pad_edge=False, title="Versions, measured in the image", title_justify="left", title_style="bold"
    )
    table.add_column("component")
    table.add_column("expected")
    for image in result.images:
        table.add_column(image.name)
    by_image = [{row.component: row for row in image.versions} for image in result.images]
    for component in dict.fromkeys(name for rows in by_image for name in rows):
        found = [rows.get(component) for rows in by_image]
        expected = next((row.expected for row in found if row and row.expected), None)
        cells = [
            Text("-") if row is None else Text(row.measured or NOT_MEASURED, style=STYLES.get(row.status, ""))
            for row in found
        ]
        table.add_row(component, expected or "", *cells)
    return table


def plan_table(plan: Plan, cached: dict[str, str]) -> RenderableType:
    """The nodes in their order, what each needs, and what the last run tells about its cache."""
    table = Table(box=None, pad_edge=False)
    for column in ("", "node", "kind", "needs", "cache"):
        table.add_column(column, overflow="fold")
    for number, node in enumerate(plan.nodes, 1):
        table.add_row(str(number), node.label, node.kind.value, ", ".join(node.needs), cached.get(node.label, ""))
    heading = Text(f"Profile {plan.profile_name} on {plan.platform}: {plan.profile.description}")
    return Group(heading, Text(), table)


def findings(rows: Sequence[Finding]) -> RenderableType:
    """The doctor's lines, each with what to do where it is not ok."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        advice = f"\n-> {row.advice}" if row.advice else ""
        table.add_row(Text(row.status, style=STYLES.get(row.status, "")), row.name, escape(row.detail + advice))
    return table


def show(console: Console, *parts: RenderableType) -> None:
    """Print with an empty line between the parts."""
    for number, part in enumerate(parts):
        if number:
            console.print()
        console.print(part)

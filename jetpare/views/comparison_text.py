"""Show a comparison on a terminal of 80 columns: the verdict first, then the figures that it is based on."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from jetpare.base.text import plain
from jetpare.base.units import size_text
from jetpare.base.versions import DIFFERS, MATCH, NOT_MEASURED
from jetpare.compare.comparison import (
    BUILT,
    MET,
    NO_RECOMMENDATION,
    NOT_MET,
    NOT_RECOMMENDED,
    RECOMMENDED,
    Comparison,
    Waterfall,
)
from jetpare.views import rows
from jetpare.views.rows import NONE

STYLES = {
    RECOMMENDED: "bold green", NO_RECOMMENDATION: "bold yellow", NOT_RECOMMENDED: "bold red",
    MET: "green", NOT_MET: "bold red", MATCH: "green", DIFFERS: "bold red", NOT_MEASURED: "dim",
}  # fmt: skip
# With words for a stream that cannot show the sign.
SIGNS = {
    MET: ("✅", "ok"), NOT_MET: ("❌", "NO"), MATCH: ("✅", "ok"), DIFFERS: ("❌", "DIFFERS"), NOT_MEASURED: ("", "")
}  # fmt: skip
BAR_WIDTH = 30
COMPONENTS, PACKAGES, FILES = 10, 10, 5  # rows that are shown; the reports hold all
SMALLEST_GROUP = 0.002  # of an image: groups below are folded into one line


class View:
    """A comparison that rich can print, in signs or in plain words as the stream allows."""

    def __init__(self, result: Comparison) -> None:
        self.result = result

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        first = True
        for part in _parts(self.result, words=options.ascii_only):
            if not first:
                yield Text()
            yield part
            first = False


def _parts(result: Comparison, *, words: bool) -> Iterator[RenderableType]:
    yield _verdict(result, words=words)
    yield _images(result)
    for waterfall in result.waterfalls:
        yield _waterfall(result, waterfall, words=words)
    if any(image.versions for image in result.images):
        yield _versions(result, words=words)
    if rows.looked_into(result):
        yield _groups(result)
        yield _components(result)
    if result.packages:
        yield _packages(result)
    if result.files:
        yield _files(result)
    if result.configuration:
        yield _configuration(result)
    if result.findings is not None:
        yield _findings(result)
    if any(image.stages for image in result.images):
        yield _stages(result)
    yield Group(*(_text(note, style="yellow") for note in rows.notes(result)), _text(rows.origin(result), style="dim"))
    yield _headline(result)  # again, because a screen shows the end


def _headline(result: Comparison) -> Text:
    return _text(result.verdict.headline, style=STYLES[result.verdict.status])


def _verdict(result: Comparison, *, words: bool) -> RenderableType:
    parts: list[RenderableType] = [_headline(result)]
    if result.caveat:
        parts.append(_text(result.caveat, style="yellow"))
    for image in result.images:
        if image.status != BUILT:
            command = f"invoke build-all --image {image.name} --profile {result.profile}"
            hint = f" (`{command}` builds it)" if result.profile else ""
            parts.append(_text(f"{image.name}: {image.status}{hint}", style="bold red"))
    for image in result.over_budget:
        size, budget = size_text(image.sizes.get("layers")), size_text(image.budget)
        parts.append(_text(f"{image.name} is over its budget: {size} of {budget}", style="bold red"))
    table = _table()
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    several = len(dict.fromkeys(rule.image for rule in result.verdict.rules)) > 1
    for rule in result.verdict.rules:
        whose = f"{rule.image}: " if several else ""
        sign = SIGNS[rule.outcome][words] or "?"
        _add(table, _text(sign, style=STYLES[rule.outcome]), _text(f"{whose}{rule.title}: {rule.evidence}"))
    return Group(*parts, Padding(table, (0, 0, 0, 2)))


def _images(result: Comparison) -> Table:
    table = _table("Images", "", *((image.name, "right") for image in result.images))
    for title, cells in rows.image_rows(result):
        if any(cell != NONE for cell in cells):
            _add(table, title, *(_figure(cell) for cell in cells))
    if result.shared is not None and len(result.images) > 1:
        _add(table, "shared by several", size_text(result.shared))
    return table


def _waterfall(result: Comparison, waterfall: Waterfall, *, words: bool) -> Table:
    """Draw each step as a bar between the totals before and after it."""
    title = f"From {result.baseline} to {waterfall.image}, merged file system"
    table = _table(title, "", ("", "right"), "")
    full, down, up = ("#", "-", "+") if words else ("█", "░", "▒")
    largest = max([waterfall.start, waterfall.end, *(step.total_after for step in waterfall.steps)], default=0) or 1

    def columns(total: int) -> int:
        return round(BAR_WIDTH * total / largest)

    _add(table, result.baseline, size_text(waterfall.start), full * columns(waterfall.start))
    for step in waterfall.steps:
        low, high = sorted((step.total_after - step.bytes, step.total_after))
        bar = " " * columns(low) + (down if step.bytes < 0 else up) * max(columns(high) - columns(low), 1)
        style = "green" if step.bytes < 0 else "red"
        _add(table, step.label, _text(rows.signed(step.bytes), style=style), _text(bar, style=style))
    _add(table, waterfall.image, size_text(waterfall.end), full * columns(waterfall.end))
    return table


def _versions(result: Comparison, *, words: bool) -> Table:
    table = _table("Versions, measured in the image", "component", "expected", *(image.name for image in result.images))
    for line in rows.version_lines(result):
        cells = []
        for found in line.found:
            if found is None:
                cells.append(_text(NONE))
            else:
                measured, status = found
                sign = SIGNS[status][words] if line.expected else ""
                cells.append(_text(f"{measured or NOT_MEASURED} {sign}".strip(), style=STYLES[status]))
        _add(table, line.component, line.expected, *cells)
    return table


def _groups(result: Comparison) -> Table:
    """Show every group that matters in any image, and the others in one line, so that the columns add up."""
    images = rows.looked_into(result)
    table = _table("What takes the space, by group", "", *((image.name, "right") for image in images))
    totals = [sum(group.bytes for group in image.groups or ()) for image in images]
    found = rows.group_rows(result)
    large = [
        row for row in found if any(size > SMALLEST_GROUP * total for size, total in zip(row[1], totals, strict=True))
    ]
    small = [row for row in found if row not in large]
    for name, sizes in found if len(small) == 1 else large:
        _add(table, name, *(_bytes(size) for size in sizes))
    if len(small) > 1:
        sums = zip(*(sizes for _, sizes in small), strict=True)
        _add(table, f"{len(small)} smaller ones", *(_bytes(sum(column)) for column in sums))
    _add(table, "sum", *(_bytes(total) for total in totals), style="bold")
    return table


def _components(result: Comparison) -> RenderableType:
    images = rows.looked_into(result)
    table = _table("The largest components", "", *((image.name, "right") for image in images))
    for row in rows.component_rows(result, count=COMPONENTS):
        _add(table, row.name, *(_bytes(size) for size in row.sizes))
    shares = [
        f"{100 * image.nobody.share:.2f} % of {image.name} ({size_text(image.nobody.bytes)})"
        for image in images
        if image.nobody is not None
    ]
    lines = [f"Owned by nothing: {', '.join(shares)}.", *rows.waste_lines(result)]
    return Group(table, *(_text(line, style="dim") for line in lines))


def _packages(result: Comparison) -> RenderableType:
    found = rows.differing_packages(result)
    images = [image for image in result.images if any(image.name in row.versions for row in result.packages)]
    table = _table("Packages that differ", "", *(image.name for image in images))
    for row in found[:PACKAGES]:
        _add(table, row.name, *rows.package_cells(row, images))
    more = len(found) - PACKAGES
    parts: list[RenderableType] = [table, _text(rows.package_counts(result))]
    if more > 0:
        parts.append(_text(f"{more} more differ; `--format md` and `--format html` show all.", style="dim"))
    return Group(*parts)


def _files(result: Comparison) -> RenderableType:
    table = _table("Files that differ", "image", "", ("", "right"), "path")
    parts: list[RenderableType] = [table]
    for row in result.files:
        for change in row.largest[:FILES]:
            _add(table, row.image, change.change, size_text(change.bytes), change.path)
        parts.append(_text(f"{row.image}: {rows.files_text(row)}"))
    return Group(*parts)


def _configuration(result: Comparison) -> RenderableType:
    parts: list[RenderableType] = [_text("Configuration that differs", style="bold italic")]
    for row in result.configuration:
        parts.append(Text.assemble(plain(row.key), (f" ({row.why})", "dim")))
        parts += [
            Padding(_text(f"{image}: {value}"), (0, 0, 0, 2)) for image, value in rows.configuration_values(row.values)
        ]
    return Group(*parts)


def _findings(result: Comparison) -> RenderableType:
    table = _table("Audit", "", *((severity, "right") for severity in rows.SEVERITIES), ("waived", "right"))
    for image, counts in rows.finding_counts(result):
        table.add_row(image, *(str(count) if count else NONE for count in counts))
    worst = rows.worst_findings(result)
    lines = [
        Text(plain(f"{each['image']}: {each['id']} {each['severity']}: {each['title']}"), style="yellow")
        for each in worst
    ]
    return Group(table, *lines, Text("`invoke audit` shows all of them, with evidence and what to do.", style="dim"))


def _stages(result: Comparison) -> RenderableType:
    images = [image for image in result.images if image.stages]
    table = _table("Times of the stages when built", "", *((image.name, "right") for image in images))
    kept = [index for index, image in enumerate(result.images) if image.stages]
    for name, stages in rows.stage_rows(result):
        _add(table, name, *(rows.stage_cell(stages[index]) for index in kept))
    _add(table, "sum", *(rows.seconds_text(image.build_seconds) for image in images), style="bold")
    said = [_text(f"Power mode: {rows.power_text(result)}.")]
    return Group(table, *said, *(_text(f"* {note}", style="yellow") for note in rows.time_notes(result)))


def _table(title: str = "", *columns: str | tuple[str, str]) -> Table:
    table = Table(
        box=None, pad_edge=False, title=_text(title) if title else None, title_justify="left", title_style="bold",
        show_header=any(column not in {"", ("", "right")} for column in columns),
    )  # fmt: skip
    for column in columns:
        name, justify = (column, "left") if isinstance(column, str) else column
        table.add_column(_text(name), justify="right" if justify == "right" else "left", overflow="fold")
    return table


def _add(table: Table, *cells: str | Text, style: str = "") -> None:
    """Return a row without markup: a path may contain '[bold]'."""
    table.add_row(*(_text(cell) if isinstance(cell, str) else cell for cell in cells), style=style)


def _text(text: str, style: str = "") -> Text:
    """Return *text* without markup, and without anything that a terminal would act on."""
    return Text(plain(text), style=style, overflow="fold")


def _figure(cell: str) -> Text:
    return _text(cell, style=STYLES.get(cell, ""))


def _bytes(size: int) -> str:
    return size_text(size) if size else NONE

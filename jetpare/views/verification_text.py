"""Show the results of running the images on a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from jetpare.audit.verify import ACCEPTED, FAILED, NOT_MEASURED, OK, Outcome, Verification, VerifiedRow
from jetpare.base.text import plain

STYLES = {OK: "green", FAILED: "bold red", NOT_MEASURED: "dim", ACCEPTED: "yellow"}
TITLES = {
    "A18": "imports, libraries and computations on the CPU",
    "A19": "computations on the GPU, against the CPU's",
    "A20": "ONNX Runtime",
    "A21": "compilers",
    "A22": "OpenCV's features",
}


def outcome(result: Outcome) -> RenderableType:
    """Return the verdict, a line for each kind of check, then everything that did not simply pass."""
    parts: list[RenderableType] = [Text(verdict(result), style=STYLES[OK] if result.works else STYLES[FAILED]), Text()]
    for image in result.images:
        parts += [_summary(image), Text()]
    for name in result.differing:
        parts.append(Text(f"{plain(name)}: ok in several images, but not with the same result", style=STYLES[FAILED]))
    for pattern in result.unused:
        parts.append(Text(f"[verify] accept {pattern!r}: no failure meets it any more", style=STYLES[ACCEPTED]))
    return Group(*parts)


def verdict(result: Outcome) -> str:
    """Return the verdict in one sentence."""
    lines = []
    for image in result.images:
        if image.trouble:
            lines.append(f"{image.image} could not be run: {plain(image.trouble)}.")
            continue
        failed, open_ = image.count(FAILED), image.count(NOT_MEASURED)
        what, count = ("failed", failed) if failed else ("passed", image.count(OK))
        how = f"{count} of {len(image.rows)} checks {what}"
        accepted = image.count(ACCEPTED)
        rest = f", {accepted} failed and {'is' if accepted == 1 else 'are'} accepted" if accepted else ""
        rest += f", {open_} not measured" if open_ else ""
        lines.append(f"{image.image}: {how}{rest}{'' if image.gpu else ', no GPU'}.")
    if result.differing:
        lines.append(f"{len(result.differing)} results differ between the images.")
    elif len(result.images) > 1 and all(not image.trouble for image in result.images):
        lines.append("Results are the same in all of them.")
    return " ".join(lines)


def _summary(image: Verification) -> RenderableType:
    table = Table(title=escape(image.image), title_justify="left", box=None, pad_edge=False)
    for column in (OK, FAILED, ACCEPTED, NOT_MEASURED):
        table.add_column(column, justify="right", style=STYLES[column])
    table.add_column("checks")
    for number, title in TITLES.items():
        rows = [row for row in image.rows if row.id == number]
        counts = [sum(row.status == status for row in rows) for status in (OK, FAILED, ACCEPTED, NOT_MEASURED)]
        if rows:
            table.add_row(*[str(count) if count else "-" for count in counts], title)
    lines: list[RenderableType] = [table]
    lines += _lines([row for row in image.rows if row.status != OK])
    lines += [
        Text(f"  {plain(row.name)} says: {plain(line)}", style=STYLES[ACCEPTED])
        for row in image.rows
        for line in row.complaints
    ]
    told = [row for row in image.rows if row.id in {"A19", "A20", "A21", "A22"} and row.status == OK]
    return Group(*lines, *_lines(told))


def _lines(rows: list[VerifiedRow]) -> list[RenderableType]:
    """Return one line for each complaint, with the names of all checks that had it."""
    names: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        names.setdefault((row.status, row.detail), []).append(row.name)
    return [
        Text.assemble("  ", (status, STYLES[status]), f"  {plain(', '.join(found))}: {plain(detail)}")
        for (status, detail), found in names.items()
    ]

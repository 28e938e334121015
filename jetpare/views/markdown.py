"""Write a comparison as Markdown for a pull request or a step summary, in the sections of one written by hand.

Details are folded, and it never has more than LIMIT characters: tables are shortened, and say so. Whatever comes from
an image stands in code spans, or as character references, so that it is shown as it is and means nothing.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import humanize

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
    ImageFigures,
)
from jetpare.views import rows
from jetpare.views.rows import NONE

LIMIT = 60_000  # characters; GitHub takes 65,536
ROW_LIMITS = (300, 150, 75, 40, 20, 10, 5, 1)  # of a folded table, tried one after another until all fits
CELL = 240  # characters of one value
SIGNS = {MATCH: "✅", DIFFERS: "❌", NOT_MEASURED: "not measured", MET: "✅ met", NOT_MET: "❌ not met"}
HEADINGS = {
    RECOMMENDED: "✅ RECOMMENDED",
    NOT_RECOMMENDED: "❌ NOT RECOMMENDED",
    NO_RECOMMENDATION: "NO RECOMMENDATION",
}
KINDS = {
    "debian": "Debian package", "python": "Python package", "collected": "collected tree", "gdal": "compiled",
    "cuda": "the base's CUDA", "jetpare": "jetpare's records", "base": "base system", "nobody": "owned by nothing",
}  # fmt: skip
LEFT_OUT = "*Left out to stay within {limit} characters: {what}. `invoke compare --format html` shows all.*"
_SAFE = re.compile(r"[^`|\\]+")
_NO_MEANING = set(" .,:;%()'/=+-")  # punctuation that nothing begins with inside a line


def render(result: Comparison) -> str:
    """Return the whole report, with as many rows of its folded tables as fit."""
    for most in ROW_LIMITS:
        made = "\n".join(_document(result, most))
        if len(made) <= LIMIT:
            return made
    return _cut(made)


def _cut(text: str) -> str:
    """Cut *text* at a whole line before LIMIT, close what is folded, and add a note."""
    note = "\n\n" + LEFT_OUT.format(limit=humanize.intcomma(LIMIT), what="the rest of this report") + "\n"
    kept = text[: LIMIT - len(note) - len("\n</details>")].rpartition("\n")[0]
    open_ones = kept.count("<details>") - kept.count("</details>")
    return kept + "\n</details>" * open_ones + note


# --- text from elsewhere


def code(text: str) -> str:
    """Return *text*, which may be anything, as code on one line; a long one is cropped."""
    shown = plain(text)
    shown = shown if len(shown) <= CELL else shown[: CELL - 1] + "…"
    if not shown:
        return ""
    if _SAFE.fullmatch(shown) and shown == shown.strip():
        return f"`{shown}`"
    return f"<code>{_references(shown, keep=frozenset())}</code>"


def prose(text: str) -> str:
    """Escape *text*, which may contain anything, for use within a sentence."""
    return _references(plain(text), keep=frozenset(_NO_MEANING))


def _references(text: str, *, keep: frozenset[str]) -> str:
    special = set(string.punctuation) - keep
    escaped = "".join(f"&#{ord(char)};" if char in special else char for char in text)
    return re.sub(r"(?i)(http|https|ftp)(://)", r"\1&#58;//", escaped)  # no link of its own accord


# --- tables


def _table(columns: Sequence[str], body: Iterable[Sequence[str]], *, left: int = 1) -> Iterator[str]:
    """Return a table whose first *left* columns are words and the others figures."""
    yield _row(columns)
    yield _row([("---" if index < left else "---:") for index in range(len(columns))])
    yield from map(_row, body)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _folded(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield from ("<details>", f"<summary>{title}</summary>", "")
    yield from lines
    yield from ("", "</details>", "")


def _some(body: Sequence[Sequence[str]], most: int, what: str, columns: Sequence[str], *, left: int) -> Iterator[str]:
    """Return the first *most* rows of a table, and how many are left out."""
    yield from _table(columns, body[:most], left=left)
    if len(body) > most:
        missing = f"{humanize.intcomma(len(body) - most)} {what}"
        yield from ("", LEFT_OUT.format(limit=humanize.intcomma(LIMIT), what=missing))


# --- the sections


def _document(result: Comparison, most: int) -> Iterator[str]:
    sections = (
        _purpose, _bases, _stack, _sizes, partial(_space, most=most), _times, _versions, partial(_details, most=most),
        partial(_differences, most=most), _recommendation, _concerns,
    )  # fmt: skip
    yield from ("# Base image comparison", "")
    yield f"> **{HEADINGS[result.verdict.status]}**: {prose(result.verdict.headline)}"
    if result.caveat:
        yield from (">", f"> ⚠ {prose(result.caveat)}")
    yield ""
    for section in sections:
        yield from section(result)
    yield from ("---", "", f"{prose(rows.origin(result))} Measured {prose(result.generated)}.", "")


def _names(images: Sequence[ImageFigures]) -> list[str]:
    return [code(image.name) for image in images]


def _purpose(result: Comparison) -> Iterator[str]:
    baseline, *others = result.images
    yield from ("## Purpose", "")
    images = " and ".join(_names(others)) or "nothing"
    yield f"Compare {images} with the baseline {code(baseline.name)}, by what was measured."
    yield ""


def _bases(result: Comparison) -> Iterator[str]:
    yield from ("## Base Images", "")
    for image in result.images:
        which = "baseline" if image.name == result.baseline else "candidate"
        yield f"- {code(image.name)} ({which}){': ' + prose(image.description) if image.description else ''}"
        if image.base:
            digest = f", {code(image.base_digest)}" if image.base_digest else ""
            yield f"  - stands on {code(image.base)}{digest}"
        if image.status == BUILT:
            yield f"  - {code(image.reference)}, {code(image.id or NONE)}, {code(image.platform or NONE)}"
        else:
            yield f"  - **{image.status}**"
    yield ""


def _stack(result: Comparison) -> Iterator[str]:
    images = rows.looked_into(result)
    yield from ("## Software Stack", "")
    if not images:
        yield from ("What is in the images was not measured.", "")
        return
    body = [
        [
            code(row.name),
            ", ".join(KINDS.get(kind, prose(kind)) for kind in row.kinds),
            *(_bytes(size) for size in row.sizes),
        ]
        for row in rows.component_rows(result, count=12)
    ]
    yield from _table(["Component", "What it is", *_names(images)], body, left=2)
    yield ""


def _sizes(result: Comparison) -> Iterator[str]:
    yield from ("## Results", "", "### Size Comparison", "")
    for image in result.images[1:]:
        if found := result.difference(image.name):
            amount, share = size_text(abs(found.saved)), f"{abs(found.percent):.1f} %"
            how = "as large as the baseline" if not found.saved else f"{amount} {found.words} ({share})"
            yield f"- **{code(image.name)}: {how}**"
    yield ""
    cells = [(title, found) for title, found in rows.image_rows(result) if any(cell != NONE for cell in found)]
    body = [[title, *(prose(cell) for cell in found)] for title, found in cells]
    yield from _table(["", *_names(result.images)], body)
    yield ""
    for fall in result.waterfalls:
        yield f"From {code(result.baseline)} to {code(fall.image)}, merged file system:"
        yield ""
        body = [[f"**{code(result.baseline)}**", "", size_text(fall.start)]]
        body += [[prose(step.label), rows.signed(step.bytes), size_text(step.total_after)] for step in fall.steps]
        body.append([f"**{code(fall.image)}**", "", size_text(fall.end)])
        yield from _table(["Step", "Change", "Then"], body)
        yield ""


def _space(result: Comparison, *, most: int) -> Iterator[str]:
    images = rows.looked_into(result)
    if not images:
        return
    body = [[prose(name), *(_bytes(size) for size in sizes)] for name, sizes in rows.group_rows(result)]
    yield from _folded("What takes the space, by group", _table(["Group", *_names(images)], body))
    body = [
        [code(row.name), prose(row.group), *(_bytes(size) for size in row.sizes)]
        for row in rows.component_rows(result, count=None)
    ]
    title = f"What takes the space, by component ({humanize.intcomma(len(body))})"
    columns = ["Component", "Group", *_names(images)]
    yield from _folded(title, _some(body, most, "components", columns, left=2))


def _bytes(size: int) -> str:
    return size_text(size) if size else NONE


def _times(result: Comparison) -> Iterator[str]:
    yield from ("### Build Time", "")
    if not any(image.stages for image in result.images):
        yield from ("Not measured: no run record of these images.", "")
        return
    body = [
        [prose(name), *(prose(rows.stage_cell(stage)) for stage in found)] for name, found in rows.stage_rows(result)
    ]
    body.append(
        ["**sum**", *(rows.seconds_text(image.build_seconds) if image.stages else NONE for image in result.images)]
    )
    yield from _table(["Stage", *_names(result.images)], body)
    yield from ("", f"Power mode: {prose(rows.power_text(result))}. {_host(result)}", "")
    for note in rows.time_notes(result):
        yield f"- {prose(note)}"
    yield ""


def _host(result: Comparison) -> str:
    host = result.host or {}
    parts = [str(host["model"])] if host.get("model") else []
    parts += [f"{host['cores']} cores"] if host.get("cores") else []
    parts += [f"{size_text(host['memory_bytes'])} of memory"] if host.get("memory_bytes") else []
    return f"Host: {prose(', '.join(parts))}." if parts else "Host: not measured."


def _versions(result: Comparison) -> Iterator[str]:
    yield from ("### Software Versions", "")
    lines = list(rows.version_lines(result))
    if not lines:
        yield from ("Not measured.", "")
        return
    body = []
    for line in lines:
        found = [NONE if cell is None else code(cell[0]) if cell[0] else NOT_MEASURED for cell in line.found]
        expected = code(line.expected) if line.expected else NONE
        body.append([prose(line.component), expected, *found, _status(line)])
    yield from _table(["Component", "Expected", *_names(result.images), "Status"], body, left=len(result.images) + 3)
    yield ""


def _status(line: rows.VersionLine) -> str:
    """Return one sign for a line, '' if no version is expected."""
    states = {found[1] for found in line.found if found}
    if not line.expected or not states:
        return NONE
    return SIGNS[next(state for state in (DIFFERS, NOT_MEASURED, MATCH) if state in states)]


def _details(result: Comparison, *, most: int) -> Iterator[str]:
    """Show how the images are made: stages, collected files, layers."""
    yield from ("### Key Implementation Details", "")
    for image in result.images:
        stages = [stage.label.rpartition("/")[2] for stage in image.stages]
        if stages:
            yield f"- {code(image.name)} is built in {len(stages)} stages: {', '.join(map(prose, stages))}"
        collected = [component for component in image.components or () if component.kind == "collected"]
        if collected:
            said = ", ".join(f"{code(component.name)} ({size_text(component.bytes)})" for component in collected)
            yield f"- Collected into {code(image.name)}: {said}"
    yield ""
    for image in result.images:
        if image.layers:
            body = [
                [str(layer.index), code(layer.instruction or NONE), size_text(layer.size)] for layer in image.layers
            ]
            title = f"Layers of {_html(image.name)} ({len(body)}, {image.layers_left} left)"
            yield from _folded(title, _some(body, most, "layers", ["", "Instruction", "Size"], left=2))


def _html(text: str) -> str:
    """Escape text for <summary>, inside which Markdown is not read."""
    return _references(plain(text), keep=frozenset(_NO_MEANING))


def _differences(result: Comparison, *, most: int) -> Iterator[str]:
    yield from ("### What Differs", "")
    if result.packages:
        images = [image for image in result.images if any(image.name in row.versions for row in result.packages)]
        body = [
            [code(row.name), row.kind, row.change, *(prose(cell) for cell in rows.package_cells(row, images))]
            for row in rows.differing_packages(result)
        ]
        yield from (f"{rows.package_counts(result)}.", "")
        columns = ["Package", "Kind", "Change", *_names(images)]
        yield from _folded(
            f"Packages that differ ({humanize.intcomma(len(body))})",
            _some(body, most, "packages", columns, left=len(columns)),
        )
    for row in result.files:
        yield from (f"Files of {code(row.image)}: {rows.files_text(row)}.", "")
        body = [[code(change.path), change.change, size_text(change.bytes)] for change in row.largest]
        title = f"Largest files that differ in {_html(row.image)}"
        yield from _folded(title, _some(body, most, "files", ["Path", "Change", "Size"], left=2))
    if result.configuration:
        body = [
            [code(row.key), *(NOT_SET if value is None else code(value) for value in row.values.values()), row.why]
            for row in result.configuration
        ]
        held = [code(name) for name in result.configuration[0].values]
        title = f"Configuration that differs ({len(body)})"
        columns = ["Setting", *held, "Why it matters"]
        yield from _folded(title, _some(body, most, "settings", columns, left=len(columns)))
    if not (result.packages or result.files or result.configuration):
        yield from ("Not measured." if not rows.looked_into(result) else "Nothing.", "")


NOT_SET = "*not set*"


def _recommendation(result: Comparison) -> Iterator[str]:
    verdict = result.verdict
    yield from ("## Recommendations", "", f"### {HEADINGS[verdict.status]}", "", f"{prose(verdict.headline)}", "")
    if verdict.rules:
        body = [
            [code(rule.image), prose(rule.title), SIGNS[rule.outcome], prose(rule.evidence)] for rule in verdict.rules
        ]
        yield from _table(["Image", "Rule", "Outcome", "Evidence"], body, left=4)
        yield from ("", "An image is recommended when every rule is met; where one was not measured, nothing is.", "")
    if result.findings is not None:
        yield from _findings(result)
    for fall in result.waterfalls:
        gone = [f"{prose(step.label)} ({size_text(-step.bytes)})" for step in fall.steps[:3] if step.bytes < 0]
        if gone:
            yield f"- What {code(fall.image)} has less, above all: {', '.join(gone)}"
    yield ""


def _findings(result: Comparison) -> Iterator[str]:
    body = [[code(image), *(str(count) for count in counts)] for image, counts in rows.finding_counts(result)]
    yield from ("What the audit of the images found:", "")
    yield from _table(["Image", *rows.SEVERITIES, "waived"], body)
    yield ""
    worst = [
        [code(each["image"]), code(each["id"]), prose(each["severity"]), prose(each["title"])]
        for each in rows.worst_findings(result)
    ]
    if worst:
        columns = ["Image", "Check", "Severity", "Finding"]
        yield from _folded("Errors and warnings of the audit", _table(columns, worst, left=4))
        yield ""


def _concerns(result: Comparison) -> Iterator[str]:
    yield from ("### Potential Concerns", "")
    said = [prose(note) for note in rows.notes(result)]
    said += [_unowned(image) for image in result.images if image.nobody and image.nobody.bytes]
    said += [line for image in result.images for line in _waste(image)]
    yield from (f"- {line}" for line in said or ["None was found."])
    yield ""


def _unowned(image: ImageFigures) -> str:
    nobody = image.nobody
    assert nobody is not None  # noqa: S101
    share = f"{100 * nobody.share:.2f} %"
    return f"{code(image.name)}: {size_text(nobody.bytes)} ({share}) belong to no package and no component"


def _waste(image: ImageFigures) -> Iterator[str]:
    if image.waste is None:
        return
    twice, hidden = image.waste.duplicates, image.waste.overwritten
    if twice.bytes:
        first = f", {code(twice.sets[0].paths[0])} above all" if twice.sets else ""
        yield f"{code(image.name)}: {size_text(twice.bytes)} are the same contents under several names{first}"
    if hidden.bytes:
        first = f", {code(hidden.entries[0].path)} above all" if hidden.entries else ""
        yield f"{code(image.name)}: {size_text(hidden.bytes)} are overwritten or deleted by later layers{first}"

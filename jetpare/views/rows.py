"""Turn a comparison into rows of plain words, which the terminal's tables and the Markdown share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import humanize

from jetpare.base.text import plain
from jetpare.base.units import common_unit, duration, size_text
from jetpare.base.versions import NOT_MEASURED
from jetpare.compare.comparison import (
    BUILT,
    SIZE_NAMES,
    Change,
    Comparison,
    Difference,
    FileDifferences,
    ImageFigures,
    PackageRow,
    StageTime,
)
from jetpare.image.attribution import Component

SIZE_TITLES = {
    "layers": "uncompressed layers",
    "merged": "merged file system",
    "pull": "compressed (pull)",
    "alone": "in no other image",
}
SHORT_ID = 12  # digits, as docker shows them
TO_THE_MINUTE = 16  # characters of a time stamp
NONE = "-"
SEVERITIES = ("error", "warning", "note")
PACKAGE_TITLES = {"debian": "Debian packages", "python": "Python packages"}


def signed(count: int) -> str:
    """Return a change in bytes with its sign: '-910 MB', '+3.40 MB', '0 B'."""
    return f"{'+' if count > 0 else ''}{size_text(count)}"


def percent(difference: Difference) -> str:
    """Return the change from the baseline: '-13.4 %'."""
    return f"{-difference.percent:+.1f} %"


def seconds_text(seconds: float | None) -> str:
    """Return seconds in words: '4 min 46 s', '3.2 s', 'not measured'."""
    return NOT_MEASURED if seconds is None else duration(seconds)


# --- the images


def image_rows(result: Comparison) -> list[tuple[str, list[str]]]:
    """Return facts and sizes of the images: a title, and a cell for each image."""
    images = result.images
    rows: list[tuple[str, list[str]]] = [("status", [image.status for image in images])]
    rows += [(SIZE_TITLES[size], [size_cell(result, image, size) for image in images]) for size in SIZE_NAMES]
    rows += [
        ("layers", [_layers(image) for image in images]),
        ("build time", [_time(image) for image in images]),
        ("checks", [checks_text(image) for image in images]),
        ("created", [(image.created or NONE)[:TO_THE_MINUTE].replace("T", " ") for image in images]),
        ("image id", [(image.id or NONE).removeprefix("sha256:")[:SHORT_ID] for image in images]),
        ("base", [plain(image.base or NONE) for image in images]),
        ("platform", [image.platform or NONE for image in images]),
    ]
    if any(image.reference != image.name for image in images):
        rows.append(("tag", [image.reference for image in images]))
    return rows


def size_cell(result: Comparison, image: ImageFigures, size: str) -> str:
    """Return '5.41 GB (-13.4 %)', in the same unit for every image; a dash for an image that is not built."""
    if image.status != BUILT:
        return NONE
    difference = result.difference(image.name, size)
    text = size_text(image.sizes.get(size), unit=common_unit(each.sizes.get(size) for each in result.images))
    return f"{text} ({percent(difference)})" if difference else text


def _layers(image: ImageFigures) -> str:
    if image.layers is None:
        return NONE if image.status != BUILT else NOT_MEASURED
    return f"{len(image.layers)} ({image.layers_left} left)"


def _time(image: ImageFigures) -> str:
    if image.status != BUILT:
        return NONE
    return seconds_text(image.build_seconds) + ("*" if any(stage_marks(stage) for stage in image.stages) else "")


def checks_text(image: ImageFigures) -> str:
    """Count the statuses: '7 ok, 2 not measured'."""
    if image.status != BUILT:
        return NONE
    counts = Counter(check.status for check in image.checks)
    return ", ".join(f"{count} {status}" for status, count in counts.items()) or NOT_MEASURED


# --- versions


@dataclass(frozen=True, kw_only=True)
class VersionLine:
    """One component: the expected version, and for each image (version or None, status), None if it has no such row."""

    component: str
    expected: str
    found: tuple[tuple[str | None, str] | None, ...]


def version_lines(result: Comparison) -> Iterator[VersionLine]:
    """Return a line for every component that some image has, or should have."""
    held = [{row.component: row for row in image.versions} for image in result.images]
    for component in dict.fromkeys(name for rows in held for name in rows):
        rows = [each.get(component) for each in held]
        expected = next((row.expected for row in rows if row and row.expected), None)
        found = tuple(None if row is None else (row.measured, row.status) for row in rows)
        yield VersionLine(component=component, expected=expected or "", found=found)


# --- what takes the space


def looked_into(result: Comparison) -> tuple[ImageFigures, ...]:
    """Return the images whose contents are known."""
    return tuple(image for image in result.images if image.groups is not None)


def group_rows(result: Comparison) -> list[tuple[str, list[int]]]:
    """Return the bytes of each group in each image that was inspected, the largest in any image first."""
    images = looked_into(result)
    held = [{group.name: group.bytes for group in image.groups or ()} for image in images]
    names = dict.fromkeys(name for groups in held for name in groups)
    rows = [(plain(name), [groups.get(name, 0) for groups in held]) for name in names]
    return sorted(rows, key=lambda row: -max(row[1]))


@dataclass(frozen=True, kw_only=True)
class ComponentRow:
    """One component: its name with its version, its kind in each image, and its bytes in those that were inspected.

    What has another kind in another image (collected in one, the base's own in the other) is one row all the same.
    """

    name: str
    kinds: list[str]
    group: str
    sizes: list[int]


def component_rows(result: Comparison, *, count: int | None) -> list[ComponentRow]:
    """Return the *count* largest components; all of them if it is None."""
    images = looked_into(result)
    held: dict[tuple[str, str], dict[str, list[Component]]] = {}
    for image in images:
        for component in image.components or ():
            mine = held.setdefault((component.name, component.group), {}).setdefault(image.name, [])
            mine.append(component)
    made = []
    for (name, group), found in held.items():
        every = [component for components in found.values() for component in components]
        versions = dict.fromkeys(component.version for component in every if component.version)
        sizes = [sum(component.bytes for component in found.get(image.name, ())) for image in images]
        kinds = list(dict.fromkeys(component.kind for component in every))
        title = plain(" ".join([name, "/".join(versions)]).strip())
        made.append(ComponentRow(name=title, kinds=kinds, group=plain(group), sizes=sizes))
    return sorted(made, key=lambda row: -max(row.sizes))[:count]


def waste_lines(result: Comparison) -> Iterator[str]:
    """Return the duplicates and waste in the images, if any of it was measured."""
    held = [(image.name, image.waste) for image in result.images if image.waste is not None]
    if held:
        twice = [f"{size_text(waste.duplicates.bytes)} in {name}" for name, waste in held]
        yield f"The same contents under several names: {', '.join(twice)}."
    hidden = [
        f"{size_text(waste.overwritten.bytes)} in {name}" for name, waste in held if waste.overwritten.bytes is not None
    ]
    if hidden:
        yield f"Overwritten or deleted by later layers: {', '.join(hidden)}."


# --- what differs


def differing_packages(result: Comparison) -> list[PackageRow]:
    """Return the packages that some image lacks or has in another version, the largest first."""
    rows = [row for row in result.packages if row.change != "same"]
    return sorted(rows, key=lambda row: (-max((size or 0 for size in row.bytes.values()), default=0), row.name))


def package_counts(result: Comparison) -> str:
    """Count the packages: 'Debian packages: 12 added, 70 removed, 3 changed, 96 the same; ...'."""
    parts = []
    for kind, title in PACKAGE_TITLES.items():
        counts = Counter(row.change for row in result.packages if row.kind == kind)
        said = [f"{humanize.intcomma(counts[change])} {word}" for change, word in _CHANGES.items() if counts[change]]
        if said:
            parts.append(f"{title}: {', '.join(said)}")
    return "; ".join(parts)


_CHANGES: Mapping[Change, str] = {"added": "added", "removed": "removed", "changed": "changed", "same": "the same"}


def package_cells(row: PackageRow, images: Sequence[ImageFigures]) -> list[str]:
    """Return the version in each image, with its bytes; a dash if the image lacks it."""
    return [_package_cell(row.versions.get(image.name), row.bytes.get(image.name)) for image in images]


def _package_cell(version: str | None, size: int | None) -> str:
    if version is None:
        return NONE
    return plain(version) + (f" ({size_text(size)})" if size is not None else "")


def files_text(row: FileDifferences) -> str:
    """Count the files that are new, gone and changed in one image, with their bytes."""
    parts = [
        f"{humanize.intcomma(tally.count)} {word} ({size_text(tally.bytes)})"
        for tally, word in ((row.added, "added"), (row.removed, "removed"), (row.changed, "changed"))
    ]
    return ", ".join(parts)


def configuration_values(values: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """Return (image, its value or 'not set')."""
    for image, value in values.items():
        yield image, "not set" if value is None else plain(value)


# --- time


def finding_counts(result: Comparison) -> list[tuple[str, list[int]]]:
    """Return the open findings of each severity, and the waived ones, of every image that was audited."""
    found = result.findings or ()
    counted = []
    for image in looked_into(result):
        own = [each for each in found if each["image"] == image.name]
        opened = [each["severity"] for each in own if each["waived"] is None]
        counted.append((image.name, [*(opened.count(severity) for severity in SEVERITIES), len(own) - len(opened)]))
    return counted


def worst_findings(result: Comparison) -> list[Mapping[str, Any]]:
    """Return the open errors and warnings, in the audit's order."""
    return [each for each in result.findings or () if each["waived"] is None and each["severity"] in SEVERITIES[:2]]


def stage_marks(stage: StageTime) -> list[str]:
    """Return why this time cannot be compared with another: a warm cache, overlapping, the power mode."""
    marks = ["warm cache"] if stage.cache == "warm" else []
    return [*marks, *(["side by side with others"] if stage.overlaps else []), *stage.marks]


def stage_rows(result: Comparison) -> list[tuple[str, list[StageTime | None]]]:
    """Return the stages by their name, with each image's own."""
    held = [{stage.label.rpartition("/")[2]: stage for stage in image.stages} for image in result.images]
    names = dict.fromkeys(name for stages in held for name in stages)
    return [(name, [stages.get(name) for stages in held]) for name in names]


def stage_cell(stage: StageTime | None) -> str:
    """Return a stage's time and state: '25.2 s warm'."""
    if stage is None:
        return NONE
    return seconds_text(stage.seconds) + (f" {stage.cache}" if stage.cache else "")


def power_text(result: Comparison) -> str:
    """Return the power modes in which the stages ran: 'MAXN', 'MAXN and 15W', 'not measured'."""
    modes = dict.fromkeys(stage.power_mode or NOT_MEASURED for image in result.images for stage in image.stages)
    return " and ".join(modes) or NOT_MEASURED


def time_notes(result: Comparison) -> Iterator[str]:
    """Return why some times cannot be compared."""
    for image in result.images:
        for stage in image.stages:
            if marks := stage_marks(stage):
                yield f"{stage.label}: {'; '.join(marks)}"


# --- the rest


def notes(result: Comparison) -> Iterator[str]:
    """Return everything that a reader of the figures has to know, the images' own notes first."""
    by_note: dict[str, list[str]] = {}
    for image in result.images:
        for note in image.notes:
            by_note.setdefault(note, []).append(image.name)
    for note, names in by_note.items():
        yield plain(f"{' and '.join(names)}: {note}")
    for note in (*result.notes, *_pull_notes(result)):
        yield plain(note)
    if any(stage_marks(stage) for image in result.images for stage in image.stages):
        yield (
            "Times that met a warm cache, overlapped or fell out of the power mode do not compare; "
            "`invoke build-all --cold` measures all of them cold, one after another."
        )


def _pull_notes(result: Comparison) -> Iterator[str]:
    """Return the source of the compressed sizes, or why there are none."""
    by_how: dict[tuple[bool, str], list[str]] = {}
    for image in result.images:
        if image.pull_how:
            by_how.setdefault((image.sizes.get("pull") is None, image.pull_how), []).append(image.name)
    for (missing, how), names in by_how.items():
        hint = "; `invoke compare --compress gzip` works it out" if missing else ""
        yield f"compressed size of {' and '.join(names)}{f' {NOT_MEASURED}' if missing else ''}: {how}{hint}"


def origin(result: Comparison) -> str:
    """Return the source of the figures, in one line."""
    profile = f"Profile {result.profile}: {result.description}. " if result.profile else ""
    engine, tool = result.engine, result.tool
    return plain(
        f"{profile}Engine {engine.get('version')} ({engine.get('platform')}), {engine.get('store')} store; "
        f"{tool['name']} {tool['version']}. GB are 10^9 bytes."
    )

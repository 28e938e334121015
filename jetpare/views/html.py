"""Write a comparison as one HTML file that needs no network, no server and no library, to be sent or printed.

No name in it is trusted: they come from images. Jinja escapes all of them, `rows.plain` spells out what a page cannot
show, and the page's own policy (CSP) lets it load nothing, and run nothing but the script whose digest it names.
"""

from __future__ import annotations

import base64
import hashlib
import json
import posixpath
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jetpare.base.text import plain
from jetpare.base.units import size_text
from jetpare.base.versions import ImageCheck
from jetpare.compare.comparison import Comparison, ImageFigures, PackageRow
from jetpare.image.inventory import Inventory
from jetpare.views import rows

NOBODY = -1  # the number of the component of a file that none owns
SIZE_MEANINGS = {
    "layers": "What the image takes on an engine's disk beside no other image: all layers, uncompressed.",
    "merged": "What a container sees: without what later layers overwrote or deleted.",
    "pull": "What a registry sends: all layers, compressed.",
    "alone": "Layers that no other image of this comparison has: what it takes beside the others.",
}
SECTIONS = {
    "figures": "Key figures",
    "waterfall": "What makes the difference",
    "space": "What takes the space",
    "stages": "Build time by stage",
    "versions": "Versions",
    "packages": "Packages",
    "differences": "Files that differ",
    "configuration": "Configuration that differs",
    "waste": "Waste",
    "checks": "Checks",
    "findings": "Audit",
    "notes": "Notes",
    "measured": "How this was measured",
}
HUES = 10  # colours of style.css; what comes after the largest ones shares one
Owners = Mapping[str, str]  # path of a regular file -> key of its component


def render(
    comparison: Comparison, inventories: Mapping[str, Inventory], *, owners: Mapping[str, Owners] | None = None
) -> str:
    """Return the page. *inventories* and *owners* (`Attribution.owners`): by image name; an image may lack either."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True,
        finalize=lambda value: plain(value) if type(value) is str else value,  # not what is marked as safe
        loader=FunctionLoader(part),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "amount": size_text,
        "checks": rows.checks_text,
        "count": "{:,}".format,
        "duration": rows.seconds_text,
        "percent": rows.percent,
        "signed": rows.signed,
    }
    data = page_data(comparison, inventories, owners or {})
    style, script = part("style.css"), part("script.js")
    return environment.get_template("page.html").render(
        comparison=comparison,
        data=Markup(embedded(data)) if data["images"] else None,  # noqa: S704 - escaped for where it stands
        hue=_hue,
        policy=f"default-src 'none'; style-src {policy_source(style)}; "
        f"script-src {policy_source(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'",
        script=Markup(script),  # noqa: S704 - our own
        size_meanings=SIZE_MEANINGS,
        size_titles=rows.SIZE_TITLES,
        style=Markup(style),  # noqa: S704 - our own
        **_tables(comparison, has_trees=bool(data["images"])),
    )


def _tables(comparison: Comparison, *, has_trees: bool) -> dict[str, Any]:
    """Return what the page shows beyond the fields of the comparison, and which sections have content."""
    images = comparison.images
    looked_into = [image.name for image in rows.looked_into(comparison)]
    checks, groups = _checks(images), rows.group_rows(comparison)
    versions, notes = list(rows.version_lines(comparison)), list(rows.notes(comparison))
    filled = {
        "waterfall": comparison.waterfalls,
        "space": groups or has_trees,
        "stages": any(image.stages for image in images),
        "versions": versions,
        "packages": comparison.packages,
        "differences": comparison.files,
        "configuration": comparison.configuration,
        "waste": any(image.waste or image.nobody for image in images),
        "checks": checks,
        "findings": comparison.findings is not None,
        "notes": notes,
    }
    return {
        "finding_counts": rows.finding_counts(comparison),
        "severities": rows.SEVERITIES,
        "checks": checks,
        "contents": {section: title for section, title in SECTIONS.items() if filled.get(section, True)},
        "groups": groups,
        "longest_stage": max((stage.seconds or 0 for image in images for stage in image.stages), default=0),
        "looked_into": looked_into,
        "notes": notes,
        "packages": sorted(comparison.packages, key=_weight),
        "stacks": _stacks(looked_into, groups),
        "tally": rows.package_counts(comparison),
        "versions": versions,
    }


def _weight(row: PackageRow) -> tuple[int, str]:
    return (-max((count or 0 for count in row.bytes.values()), default=0), row.name)


def _checks(images: Sequence[ImageFigures]) -> list[tuple[str, list[ImageCheck | None]]]:
    """Return every check by its name, with its result for each image."""
    held = [{check.name: check for check in image.checks} for image in images]
    return [
        (name, [checks.get(name) for checks in held]) for name in dict.fromkeys(name for each in held for name in each)
    ]


def _stacks(
    images: Sequence[str], groups: Sequence[tuple[str, Sequence[int]]]
) -> list[tuple[str, list[dict[str, Any]], int]]:
    """Return one bar of groups for each image, all at one scale of 1000 units: (name, pieces, bytes)."""
    totals = [sum(counts[number] for _, counts in groups) for number in range(len(images))]
    scale = 1000 / (max(totals, default=0) or 1)
    stacks = []
    for number, image in enumerate(images):
        pieces, start = [], 0.0
        for place, (group, counts) in enumerate(groups):
            width, title = counts[number] * scale, f"{group}: {size_text(counts[number])}"
            pieces.append({"hue": _hue(place), "start": start, "width": width, "title": title})
            start += width
        stacks.append((image, pieces, totals[number]))
    return stacks


def _hue(place: int) -> str:
    return f"hue{place}" if place < HUES else "hue-other"


def embedded(content: object) -> str:
    """Return *content* as JSON that is safe inside <script>: in ASCII, without HTML's own characters."""
    text = json.dumps(content, separators=(",", ":"))  # ASCII, and so without U+2028 and U+2029
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


Row = tuple[int, str, str, list[int], int | list[int]]


def tree(inventory: Inventory, numbers: Mapping[str, int]) -> list[Row]:
    """Return the folders with content, each after its parent; *numbers*: path -> number of the component that owns it.

    A row: the number of the parent's row, the folder's name, the names in it that are no folders joined by '/', their
    bytes, and their components' numbers (one number where all are the same). No depth of folders costs recursion.
    """
    folders: list[Row] = [(0, "", "", [], NOBODY)]
    known = {"/": 0}
    held: dict[int, list[tuple[str, int, int]]] = {}

    def row_of(folder: str) -> int:
        missing = []
        while folder not in known:
            missing.append(folder)
            folder = posixpath.dirname(folder)
        for path in reversed(missing):
            parent, name = posixpath.split(path)
            known[path] = len(folders)
            folders.append((known[parent], plain(name), "", [], NOBODY))
        return known[missing[0] if missing else folder]

    for file in inventory.files:
        if file.kind != "dir":
            folder, name = posixpath.split(file.path)
            entry = (plain(name), file.bytes, numbers.get(file.path, NOBODY))
            held.setdefault(row_of(folder), []).append(entry)
    for number, entries in held.items():
        names, sizes, kinds = zip(*entries, strict=True)
        parent, name, *_ = folders[number]
        folders[number] = (
            parent,
            name,
            "/".join(names),
            list(sizes),
            kinds[0] if len(set(kinds)) == 1 else list(kinds),
        )
    return folders


def page_data(
    comparison: Comparison, inventories: Mapping[str, Inventory], owners: Mapping[str, Owners]
) -> dict[str, Any]:
    """Return what the script draws: group names, components as [name, number of its group], each image's `tree`.

    Groups and components come the largest first: the number stands for a colour.
    """
    groups = {name: place for place, (name, _) in enumerate(rows.group_rows(comparison))}
    held = [component for image in comparison.images for component in image.components or ()]
    components = {each.key: each for each in sorted(held, key=lambda each: -each.bytes)}
    number = {key: place for place, key in enumerate(components)}
    trees = []
    for image in comparison.images:
        if inventory := inventories.get(image.name):
            numbers = {path: number.get(key, NOBODY) for path, key in owners.get(image.name, {}).items()}
            trees.append({"name": plain(image.name), "rows": tree(inventory, numbers)})
    return {
        "groups": list(groups),
        "components": [[plain(row.name), groups.get(plain(row.group), NOBODY)] for row in components.values()],
        "images": trees,
    }


def part(name: str) -> str:
    """Return the text of a file of the page."""
    return resources.files("jetpare.views").joinpath("report", name).read_text(encoding="utf-8")


def policy_source(text: str) -> str:
    """Return what allows *text* in the page's policy: its hash (CSP 3, hash sources)."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"

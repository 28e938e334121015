"""What is in one image, summed up for the comparison: from an inventory to groups, components, and what is wasted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jetpare.base.versions import version_rows
from jetpare.compare.comparison import (
    Duplicates,
    DuplicateSet,
    GroupBytes,
    HiddenFigures,
    ImageFigures,
    LayerFigures,
    Nobody,
    Overwritten,
    PathBytes,
    WasteFigures,
)
from jetpare.image.attribution import Attribution, Component, unowned
from jetpare.image.inventory import Inventory, Settings
from jetpare.image.layers import Listing
from jetpare.image.version_sources import Told, told

if TYPE_CHECKING:
    from jetpare.image.waste import Waste

LARGEST = 20  # of whatever is named one by one
FAULTS = 3  # of an inventory that are told


@dataclass(frozen=True, kw_only=True)
class ImageContents:
    """What one image holds, whatever else is known of the image: a function of its inventory, its layers and [groups].

    ``instructions``: of its layers, by their digests. ``told``: what it says of itself. ``faults``: what could not be
    read.
    """

    bytes: int
    instructions: Mapping[str, str | None]
    settings: Settings
    components: tuple[Component, ...]
    nobody: Nobody
    waste: WasteFigures
    told: Told
    faults: tuple[str, ...]


def contents(inventory: Inventory, listing: Listing | None, found: Attribution) -> ImageContents:
    """Sum up what *inventory* holds and whose it is; *listing*: of its layers, where those were read."""
    from jetpare.image.waste import waste

    nobodys = unowned(inventory, found)
    size = sum(file.bytes for file in nobodys)
    return ImageContents(
        bytes=inventory.bytes,
        instructions={layer.diff_id: layer.instruction for layer in inventory.layers},
        settings=inventory.settings,
        components=found.components,
        nobody=Nobody(
            bytes=size,
            files=len(nobodys),
            share=size / inventory.bytes if inventory.bytes else 0.0,
            largest=tuple(PathBytes(path=file.path, bytes=file.bytes) for file in nobodys[:LARGEST]),
        ),
        waste=wasted(waste(inventory, listing)),
        told=told(inventory),
        faults=inventory.faults,
    )


def with_contents(figures: ImageFigures, held: ImageContents) -> ImageFigures:
    """Add what the image holds to *figures*. What the image says of itself counts only where no run measured it."""
    own = Told() if any(row.measured for row in figures.versions) or figures.checks else held.told
    return replace(
        figures,
        sizes={**figures.sizes, "merged": held.bytes},
        layers=tuple(_layers(figures.layers or (), held.instructions)) or figures.layers,
        config=held.settings,
        groups=tuple(grouped(held.components)),
        components=held.components,
        nobody=held.nobody,
        waste=held.waste,
        versions=version_rows(own.versions, _expected(figures)) if own.versions else figures.versions,
        checks=figures.checks or own.checks,
        notes=(*figures.notes, *own.notes, *_faults(figures, held)),
    )


def _expected(figures: ImageFigures) -> dict[str, str]:
    return {row.component: row.expected for row in figures.versions if row.expected is not None}


def grouped(components: Iterable[Component]) -> list[GroupBytes]:
    """The groups of *components*, largest first."""
    sums: dict[str, list[int]] = {}
    for component in components:
        counts = sums.setdefault(component.group, [0, 0])
        counts[0] += component.bytes
        counts[1] += component.files
    groups = (GroupBytes(name=name, bytes=size, files=count) for name, (size, count) in sums.items())
    return sorted(groups, key=lambda group: (-group.bytes, group.name))


def wasted(found: Waste) -> WasteFigures:
    """The largest of what is wasted, and the sums of all."""
    sets = [
        DuplicateSet(bytes=each.bytes, size=each.size, count=len(each.paths), paths=each.paths[:LARGEST])
        for each in found.duplicates[:LARGEST]
    ]
    hidden = [
        HiddenFigures(path=each.path, bytes=each.bytes, instruction=each.instruction) for each in found.hidden or ()
    ]
    return WasteFigures(
        duplicates=Duplicates(bytes=found.duplicate_bytes, sets=tuple(sets)),
        overwritten=Overwritten(bytes=found.hidden_bytes, entries=tuple(hidden[:LARGEST]), reason=found.reason),
    )


def _layers(known: Sequence[LayerFigures], instructions: Mapping[str, str | None]) -> Iterable[LayerFigures]:
    """Add to each layer the instruction that made it."""
    return (replace(layer, instruction=instructions.get(layer.diff_id)) for layer in known)


def _faults(figures: ImageFigures, held: ImageContents) -> Iterable[str]:
    """Say what could not be read, and where the merged size is not the one of the run that built the image."""
    merged = figures.sizes.get("merged")
    if merged is not None and merged != held.bytes:
        yield f"its files are {held.bytes} bytes, and were {merged} when it was built: one of the two was misread"
    yield from (f"not read: {fault}" for fault in held.faults[:FAULTS])
    if len(held.faults) > FAULTS:
        yield f"not read: {len(held.faults) - FAULTS} more"

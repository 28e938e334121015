"""Bytes that an image carries for nothing: the same content several times, and what later layers put out of sight.

Pure: from an inventory and the listing of its layers to what is wasted. Sizes are bytes.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from jetpare.image.inventory import File, Inventory
from jetpare.image.layers import LayerEntry, LayerListing, Listing


@dataclass(frozen=True, kw_only=True)
class Duplicate:
    """Files with the same content. ``size`` of each; ``bytes``: what all but one take. Hard links are one file."""

    bytes: int
    size: int
    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """Bytes of one layer that a later one put out of sight.

    ``written``, ``by``: the layers' indices from the bottom up. ``instruction``: of the layer that hid them, None where
    it is not known. A file that three layers write is hidden twice; one that is then deleted, a third time.
    """

    path: str
    bytes: int
    how: Literal["overwritten", "deleted"]
    written: int
    by: int
    instruction: str | None


@dataclass(frozen=True, kw_only=True)
class Waste:
    """All of it, largest first. ``hidden`` is None where the layers were not measured, for ``reason``."""

    duplicates: tuple[Duplicate, ...]
    hidden: tuple[Hidden, ...] | None
    reason: str | None = None

    @property
    def duplicate_bytes(self) -> int:
        """What would go if every content were there once."""
        return sum(each.bytes for each in self.duplicates)

    @property
    def hidden_bytes(self) -> int | None:
        """The layers' sum less the merged file system."""
        return None if self.hidden is None else sum(each.bytes for each in self.hidden)


def waste(inventory: Inventory, listing: Listing | None) -> Waste:
    """What *inventory*'s image wastes; what layers hide only where *listing* has them."""
    instructions = [layer.instruction for layer in inventory.layers]
    if listing is None or listing.layers is None:
        reason = listing.reason if listing else "the layers were not asked for"
        return Waste(duplicates=duplicates(inventory.files), hidden=None, reason=reason)
    return Waste(duplicates=duplicates(inventory.files), hidden=hidden(listing.layers, instructions))


def duplicates(files: Iterable[File]) -> tuple[Duplicate, ...]:
    """The sets of files with the same content; empty files waste nothing."""
    sets: dict[tuple[int, str], list[str]] = {}
    for file in files:
        if file.bytes and file.digest:
            sets.setdefault((file.size, file.digest), []).append(file.path)
    found = [
        Duplicate(bytes=(len(paths) - 1) * size, size=size, paths=tuple(paths))
        for (size, _), paths in sets.items()
        if len(paths) > 1
    ]
    return tuple(sorted(found, key=lambda each: (-each.bytes, each.paths)))


def hidden(layers: Sequence[LayerListing], instructions: Sequence[str | None] = ()) -> tuple[Hidden, ...]:
    """What later layers overwrite or delete, found by putting the layers on top of each other."""
    tree = _Tree()
    found: list[Hidden] = []
    for index, layer in enumerate(layers):
        own = {entry.path for entry in layer.entries if entry.kind != "whiteout"}
        instruction = instructions[index] if index < len(instructions) else None
        for path, file in tree.put(index, layer.entries):
            how: Literal["overwritten", "deleted"] = "overwritten" if path in own else "deleted"
            found.append(
                Hidden(path=path, bytes=file.size, how=how, written=file.layer, by=index, instruction=instruction)
            )
    return tuple(sorted(found, key=lambda each: (-each.bytes, each.path, each.by)))


@dataclass
class _Written:
    """A file that one layer wrote, and how many of its names can still be seen."""

    layer: int
    size: int
    names: int = 0


@dataclass
class _Tree:
    """What can be seen of the layers so far."""

    files: dict[str, _Written] = field(default_factory=dict)
    children: dict[str, set[str]] = field(default_factory=dict)

    def put(self, layer: int, entries: Sequence[LayerEntry]) -> Iterator[tuple[str, _Written]]:
        """Put one layer on top; the files whose last name goes out of sight by it, with that name."""
        for entry in entries:  # they take away from lower layers only, so all of them come first
            if entry.kind == "whiteout":
                yield from self._remove(entry.path)
            elif entry.kind == "opaque":
                for child in sorted(self.children.get(entry.path, ())):
                    yield from self._remove(child)
        written: dict[str, _Written] = {}
        for entry in entries:
            if entry.kind in {"whiteout", "opaque"} or (entry.kind == "dir" and entry.path not in self.files):
                continue
            yield from self._remove(entry.path)
            if entry.kind != "dir":
                first = entry.hardlink or entry.path
                size = entry.size if entry.kind == "file" else 0
                self._add(entry.path, written.setdefault(first, _Written(layer=layer, size=size)))

    def _add(self, path: str, file: _Written) -> None:
        file.names += 1
        self.files[path] = file
        while path != "/":
            parent = posixpath.dirname(path)
            siblings = self.children.setdefault(parent, set())
            if path in siblings:
                return
            siblings.add(path)
            path = parent

    def _remove(self, path: str) -> Iterator[tuple[str, _Written]]:
        waiting = [path]
        while waiting:
            here = waiting.pop()
            waiting += self.children.pop(here, ())
            file = self.files.pop(here, None)
            if file is not None:
                file.names -= 1
                if file.names == 0 and file.size:
                    yield here, file

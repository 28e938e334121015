"""What each layer of an image adds and removes, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from jetpare.image.inventory import Count

EntryKind = Literal["file", "dir", "link", "other", "whiteout", "opaque"]


class LayerEntry(Struct, frozen=True, gc=False):
    """One name in one layer.

    ``whiteout``: the name, and all below it, is gone from here on. ``opaque``: all that lower layers have in this
    folder is gone. ``hardlink``: the first name, in the order of paths, of the same file in this layer; its bytes
    count there.
    """

    path: str
    kind: EntryKind
    size: Count = 0
    hardlink: str | None = None

    @property
    def bytes(self) -> int:
        """What this name adds to the layer."""
        return self.size if self.kind == "file" and self.hardlink is None else 0


@dataclass(frozen=True, kw_only=True)
class LayerListing:
    """One layer: the digest of its uncompressed content, and its names in the order of their paths."""

    diff_id: str
    entries: tuple[LayerEntry, ...]

    @property
    def bytes(self) -> int:
        """The sum of its files, hard links once: what the engine counts as its size."""
        return sum(entry.bytes for entry in self.entries)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The layers of one image from the bottom up; ``layers`` is None where they were not measured, for ``reason``."""

    image_id: str
    how: Literal["overlay2", "stream"] | None
    layers: tuple[LayerListing, ...] | None
    reason: str | None = None

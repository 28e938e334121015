"""Images side by side against a baseline: a pure function from what was measured to a Comparison.

An image's size has four meanings, and each has its own name here (bytes; None is 'not measured'):

- ``layers``: the sum of the uncompressed layers, what the image takes on an engine's disk beside no other image;
- ``merged``: the file system that a container sees, without what later layers overwrote or deleted;
- ``pull``: the compressed bytes that a registry sends;
- ``alone``: the layers that no other image of this comparison has.

What an engine answers as 'Size' is one or the other of them, by its store, and so is never compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from packaging.version import InvalidVersion, Version

from jetpare.config import GB

SCHEMA = "jetpare.compare/1"
NOT_BUILT, BUILT = "NOT BUILT", "built"
MATCH, DIFFERS, NOT_MEASURED = "ok", "differs", "not measured"
SIZE_NAMES = ("layers", "merged", "pull", "alone")


@dataclass(frozen=True, kw_only=True)
class VersionRow:
    """One component of one image: what build.toml expects and what was measured in the image."""

    component: str
    expected: str | None
    measured: str | None

    @property
    def status(self) -> str:
        """'ok', 'differs', or 'not measured'; 'ok' too where nothing is expected and something was measured."""
        if self.measured is None:
            return NOT_MEASURED
        return MATCH if self.expected is None or version_matches(self.measured, self.expected) else DIFFERS


@dataclass(frozen=True, kw_only=True)
class ImageFigures:
    """What was measured of one image. Sizes in bytes by name, see SIZE_NAMES."""

    name: str
    reference: str
    status: str
    id: str | None = None
    created: str | None = None
    profile: str | None = None
    platform: str | None = None
    base: str | None = None
    revision: str | None = None
    layers: int | None = None
    sizes: Mapping[str, int | None] = field(default_factory=dict)
    layer_sizes: tuple[tuple[str, int], ...] | None = None  # (diff id, bytes) from the bottom up
    versions: tuple[VersionRow, ...] = ()
    checks: tuple[Mapping[str, Any], ...] = ()
    budget: int | None = None  # bytes of `layers` allowed
    build_seconds: float | None = None  # sum of the stages' times, each when it was last built
    build_warm: tuple[str, ...] = ()  # the stages among them that met a warm cache, so that times do not compare
    build_overlaps: bool = False  # built in one solve with others
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One size of one image against the baseline's."""

    image: str
    size: str
    saved: int  # bytes; negative where the image is larger
    percent: float  # of the baseline's size

    @property
    def words(self) -> str:
        """'smaller', 'larger' or 'equal'."""
        return "smaller" if self.saved > 0 else "larger" if self.saved < 0 else "equal"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """N images, the baseline first."""

    profile: str
    description: str
    baseline: str
    engine: Mapping[str, Any]
    images: tuple[ImageFigures, ...]
    differences: tuple[Difference, ...]
    shared: int | None  # bytes of layers that more than one image has, counted once

    def as_dict(self) -> dict[str, Any]:
        """The documented JSON form (docs/compare.md)."""
        content = asdict(self)
        for image, row in zip(content["images"], self.images, strict=True):
            image.pop("layer_sizes")
            image["versions"] = [asdict(version) | {"status": version.status} for version in row.versions]
        for difference, each in zip(content["differences"], self.differences, strict=True):
            difference["words"] = each.words
        return {"schema": SCHEMA} | content

    @property
    def over_budget(self) -> tuple[ImageFigures, ...]:
        """The images whose layers take more than build.toml allows."""
        return tuple(
            image
            for image in self.images
            if image.budget is not None and (image.sizes.get("layers") or 0) > image.budget
        )


def compare(
    images: Sequence[ImageFigures], *, baseline: str, profile: str, description: str, engine: Mapping[str, Any]
) -> Comparison:
    """Put *images* side by side. The sizes 'alone' and 'shared' are worked out here, from the layers of all of them."""
    alone, shared = split_layers({image.name: image.layer_sizes for image in images if image.status == BUILT})
    measured = [_with_alone(image, alone.get(image.name)) for image in images]
    ordered = sorted(measured, key=lambda image: image.name != baseline)
    first = ordered[0]
    differences = [
        Difference(image=image.name, size=size, saved=base - own, percent=100 * (base - own) / base)
        for image in ordered[1:]
        for size in SIZE_NAMES
        if (base := first.sizes.get(size)) and (own := image.sizes.get(size)) is not None
    ]
    return Comparison(
        profile=profile,
        description=description,
        baseline=baseline,
        engine=engine,
        images=tuple(ordered),
        differences=tuple(differences),
        shared=shared,
    )


def split_layers(
    images: Mapping[str, tuple[tuple[str, int], ...] | None],
) -> tuple[dict[str, int | None], int | None]:
    """Bytes of layers that each image has alone, and bytes that several share, counted once.

    A layer is shared where the whole chain below it is the same: that is how engines store them. None where the layers
    of an image are not known.
    """
    if any(layers is None for layers in images.values()) or not images:
        return dict.fromkeys(images), None
    holders: dict[tuple[str, ...], tuple[int, set[str]]] = {}
    for name, layers in images.items():
        chain: tuple[str, ...] = ()
        for digest, size in layers or ():
            chain = (*chain, digest)
            holders.setdefault(chain, (size, set()))[1].add(name)
    alone = {name: sum(size for size, owners in holders.values() if owners == {name}) for name in images}
    return dict(alone), sum(size for size, owners in holders.values() if len(owners) > 1)


def version_matches(measured: str, expected: str) -> bool:
    """Whether *measured* is *expected* or a longer form of it: '3.10' is met by '3.10.12', not by '3.1' or '3.100'.

    A local part is left aside unless it is expected: '2.8.0' is met by '2.8.0+cu126'.
    """
    try:
        have, want = Version(measured), Version(expected)
    except InvalidVersion:
        return measured == expected
    if want.local and want.local != have.local:
        return False
    if want.is_prerelease or want.is_postrelease:
        return have.public == want.public
    # A build of before or after a release (2.8.0a0, as NVIDIA numbers its wheels) still is of that release.
    return have.epoch == want.epoch and have.release[: len(want.release)] == want.release


def version_rows(measured: Mapping[str, str | None], expected: Mapping[str, str]) -> tuple[VersionRow, ...]:
    """A row for every component that was measured or is expected, the expected ones first."""
    names = dict.fromkeys([*expected, *measured])
    return tuple(VersionRow(component=name, expected=expected.get(name), measured=measured.get(name)) for name in names)


def gigabytes(count: int | None) -> str:
    """Decimal gigabytes, as disks and registries count: '5.45 GB'; 'not measured' for None."""
    return NOT_MEASURED if count is None else f"{count / GB:.2f} GB"


def _with_alone(image: ImageFigures, alone: int | None) -> ImageFigures:
    sizes = {name: image.sizes.get(name) for name in SIZE_NAMES} | {"alone": alone}
    return replace(image, sizes=sizes)

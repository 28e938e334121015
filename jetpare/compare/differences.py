"""What differs between N images and the baseline: pure functions from figures and inventories to a whole Comparison."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from jetpare.compare.comparison import (
    BUILT,
    SIZE_NAMES,
    Change,
    Comparison,
    ConfigurationRow,
    Difference,
    FileChange,
    FileDifferences,
    ImageFigures,
    PackageRow,
    Tally,
    Waterfall,
    WaterfallStep,
)
from jetpare.compare.verdict import judge
from jetpare.image.inventory import File, Inventory, Settings

OTHER = "other"
MAX_STEPS = 10  # of a waterfall, beside 'other'
SMALL_STEP = 0.01  # of all that moves: steps below are folded into 'other'
LARGEST = 20  # files that are named

# Why a difference of configuration matters: by the beginning of the key, the first that fits.
WHY = {
    "env NVIDIA_": "the NVIDIA runtime reads it to decide which devices and driver libraries the container gets",
    "env CUDA_": "CUDA's programs and build systems look for the toolkit and the devices by it",
    "env LD_": "the loader searches these folders first, so another library of the same name may be used",
    "env PATH": "decides which program runs when several have the name, or whether any is found",
    "env PYTHON": "changes where Python looks for modules, or how it runs",
    "env GDAL_": "GDAL finds its data and drivers by it",
    "env PROJ_": "PROJ finds its coordinate systems by it",
    "env LANG": "decides how text is encoded when nothing else says so",
    "env LC_": "decides how text is encoded when nothing else says so",
    "env TZ": "decides which local time programs show",
    "env": "a program in the image may read it",
    "entrypoint": "it is what a container runs, whatever arguments it is given",
    "cmd": "it is what a container runs when nothing else is asked for",
    "user": "it decides whose files and devices a container may use",
    "workdir": "relative paths start there",
    "ports": "it is what `docker run -P` publishes",
    "volumes": "what is written there lands in a volume, not in the container",
    "healthcheck": "orchestrators restart a container by it",
    "stop_signal": "a server that expects another signal is killed instead of ending cleanly",
}


@dataclass(frozen=True, kw_only=True)
class ContentDifferences:
    """In what the contents of several images differ; a function of their inventories and components."""

    packages: tuple[PackageRow, ...]
    files: tuple[FileDifferences, ...]


def differences(images: Sequence[ImageFigures], inventories: Mapping[str, Inventory]) -> ContentDifferences:
    """Compare the contents of *images*, the baseline first; *inventories* by image name, as far as there are any."""
    return ContentDifferences(
        packages=packages(images, inventories), files=tuple(file_differences(images, inventories))
    )


def complete(
    result: Comparison,
    inventories: Mapping[str, Inventory],
    *,
    min_saving_percent: float,
    compare: Callable[[Sequence[ImageFigures], Mapping[str, Inventory]], ContentDifferences] = differences,
) -> Comparison:
    """Return *result* with all that follows from its images, the baseline first.

    *inventories*: by image name, as far as there are any. *min_saving_percent*: of the baseline's layers, what an image
    has to save to be recommended. *compare*: what to use for `differences`, such as one that keeps its answers.
    """
    alone, shared = split_layers({image.name: _chain(image) for image in result.images if image.status == BUILT})
    images = [
        replace(image, sizes={**dict.fromkeys(SIZE_NAMES), **image.sizes, "alone": alone.get(image.name)})
        for image in sorted(result.images, key=lambda image: image.name != result.baseline)
    ]
    content = compare(images, inventories)
    known = replace(
        result,
        images=tuple(images),
        shared=shared,
        differences=tuple(size_differences(images)),
        waterfalls=tuple(waterfalls(images)),
        packages=content.packages,
        files=content.files,
        configuration=configuration({image.name: image.config for image in images if image.config is not None}),
    )
    return replace(known, verdict=judge(known, min_saving_percent=min_saving_percent))


# --- sizes


def _chain(image: ImageFigures) -> tuple[tuple[str, int], ...] | None:
    sized = [(layer.diff_id, layer.size) for layer in image.layers or () if layer.size is not None]
    return tuple(sized) if image.layers is not None and len(sized) == len(image.layers) else None


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


def size_differences(images: Sequence[ImageFigures]) -> Iterator[Difference]:
    """Every size of every image that both it and the baseline, the first one, have."""
    first = images[0]
    for image in images[1:]:
        for size in SIZE_NAMES:
            base, own = first.sizes.get(size), image.sizes.get(size)
            if base and own is not None:
                yield Difference(image=image.name, size=size, saved=base - own, percent=100 * (base - own) / base)


# --- what makes it up


def waterfalls(images: Sequence[ImageFigures]) -> Iterator[Waterfall]:
    """From the baseline's groups to each image's, where both are known."""
    before = {group.name: group.bytes for group in images[0].groups or ()}
    for image in images[1:]:
        after = {group.name: group.bytes for group in image.groups or ()}
        if before and after:
            yield waterfall(image.name, before, after)


def waterfall(image: str, before: Mapping[str, int], after: Mapping[str, int]) -> Waterfall:
    """The signed steps from *before* to *after*, bytes by group: what shrinks first, small steps in 'other', last."""
    moved = {name: after.get(name, 0) - before.get(name, 0) for name in dict.fromkeys([*before, *after])}
    least = SMALL_STEP * sum(map(abs, moved.values()))
    shown = sorted((name for name in moved if name != OTHER), key=lambda name: -abs(moved[name]))[:MAX_STEPS]
    shown = [name for name in shown if moved[name] and abs(moved[name]) >= least]
    rest = sum(moved.values()) - sum(moved[name] for name in shown)
    rows = [(name, moved[name]) for name in sorted(shown, key=lambda name: moved[name])]
    total = sum(before.values())
    steps = []
    for label, size in [*rows, *([(OTHER, rest)] if rest else [])]:
        total += size
        steps.append(WaterfallStep(label=label, bytes=size, total_after=total))
    return Waterfall(image=image, start=sum(before.values()), end=sum(after.values()), steps=tuple(steps))


# --- packages


@dataclass(frozen=True, kw_only=True)
class _Named:
    """What one image has of one name."""

    version: str
    bytes: int | None


def packages(images: Sequence[ImageFigures], inventories: Mapping[str, Inventory]) -> tuple[PackageRow, ...]:
    """Every package of every image that was looked into: Debian's and Python's, by name; what differs first."""
    kinds: tuple[Literal["debian", "python"], ...] = ("debian", "python")
    rows = [row for kind in kinds for row in _packages_of(kind, images, inventories)]
    return tuple(sorted(rows, key=lambda row: (row.change == "same", row.kind, row.name)))


def _packages_of(
    kind: Literal["debian", "python"], images: Sequence[ImageFigures], inventories: Mapping[str, Inventory]
) -> Iterator[PackageRow]:
    held = {image.name: _named(kind, inventories[image.name], image) for image in images if image.name in inventories}
    baseline = images[0].name
    for name in sorted({name for found in held.values() for name in found}):
        versions = {image: found[name].version if name in found else None for image, found in held.items()}
        sizes = {image: found[name].bytes if name in found else None for image, found in held.items()}
        yield PackageRow(kind=kind, name=name, change=_change(versions, baseline), versions=versions, bytes=sizes)


def _named(kind: Literal["debian", "python"], inventory: Inventory, image: ImageFigures) -> Mapping[str, _Named]:
    """Packages by name; one that is there twice has both versions, and the bytes of both."""
    found: dict[str, set[str]] = defaultdict(set)
    for package in inventory.packages if kind == "debian" else inventory.distributions:
        found[package.name].add(package.version)
    sizes: dict[str, int] = defaultdict(int)
    for component in image.components or ():
        if component.kind == kind:
            sizes[component.name] += component.bytes
    known = image.components is not None
    return {
        name: _Named(version=", ".join(sorted(versions)), bytes=sizes[name] if known else None)
        for name, versions in found.items()
    }


def _change(versions: Mapping[str, str | None], baseline: str) -> Change:
    if baseline not in versions:  # nothing to compare with
        return "same"
    first = versions[baseline]
    others = [version for image, version in versions.items() if image != baseline]
    if first is None:
        return "added"
    if None in others:
        return "removed"
    return "changed" if any(version != first for version in others) else "same"


# --- files


def file_differences(images: Sequence[ImageFigures], inventories: Mapping[str, Inventory]) -> Iterator[FileDifferences]:
    """The files of each image against the baseline's, where both were looked into."""
    baseline = inventories.get(images[0].name)
    for image in images[1:]:
        if baseline is not None and image.name in inventories:
            yield files_of(image.name, baseline, inventories[image.name])


def files_of(image: str, baseline: Inventory, other: Inventory) -> FileDifferences:
    """By path: kind, size, mode, owner, link target, hard link, and content where both sides have a digest."""
    before, after = (_files(each) for each in (baseline, other))
    common = [(before[path], after[path]) for path in before.keys() & after.keys()]
    added = [after[path] for path in after.keys() - before.keys()]
    removed = [before[path] for path in before.keys() - after.keys()]
    changed = [(old, new) for old, new in common if _differ(old, new)]
    alike = [new for old, new in common if not _differ(old, new) and new.bytes and not (old.digest and new.digest)]
    named = [
        *(FileChange(path=file.path, change="added", bytes=file.bytes) for file in added),
        *(FileChange(path=file.path, change="removed", bytes=file.bytes) for file in removed),
        *(FileChange(path=new.path, change="changed", bytes=new.bytes) for _, new in changed),
    ]
    return FileDifferences(
        image=image,
        added=_tally(added),
        removed=_tally(removed),
        changed=_tally([new for _, new in changed]),
        changed_before=_tally([old for old, _ in changed]),
        alike=_tally(alike),
        largest=tuple(sorted(named, key=lambda row: (-row.bytes, row.path))[:LARGEST]),
    )


def _files(inventory: Inventory) -> Mapping[str, File]:
    return {file.path: file for file in inventory.files if file.kind != "dir"}


def _differ(old: File, new: File) -> bool:
    if bool(old.digest and new.digest) and old.digest != new.digest:
        return True
    return _visible(old) != _visible(new)


def _visible(file: File) -> tuple[object, ...]:
    size = file.size if file.kind == "file" else 0  # a link's size says nothing beyond its target
    return (file.kind, size, file.mode, file.uid, file.gid, file.target, file.hardlink)


def _tally(files: Iterable[File]) -> Tally:
    sizes = [file.bytes for file in files]
    return Tally(count=len(sizes), bytes=sum(sizes))


# --- configuration


def configuration(settings: Mapping[str, Settings]) -> tuple[ConfigurationRow, ...]:
    """Every setting in which the images differ, those that are known to matter most first; labels are left out."""
    held = {name: dict(_settings(each)) for name, each in settings.items()}
    keys = dict.fromkeys(key for values in held.values() for key in values)
    rows = []
    for key in keys:
        values = {name: found.get(key) for name, found in held.items()}
        if len(set(values.values())) > 1:
            reason = next(prefix for prefix in WHY if key.startswith(prefix))
            rows.append((list(WHY).index(reason), ConfigurationRow(key=key, values=values, why=WHY[reason])))
    return tuple(row for _, row in sorted(rows, key=lambda each: (each[0], each[1].key)))


SAME_AS_UNSET = {"user": ("root", "0", "0:0", "root:root"), "workdir": ("/",)}


def _settings(settings: Settings) -> Iterator[tuple[str, str]]:
    """What is set, as text; a list as a shell would be given it."""
    for name, value in settings.env.items():
        yield f"env {name}", value
    for key in ("entrypoint", "cmd", "healthcheck"):
        if words := getattr(settings, key):
            yield key, shlex.join(words)
    for key in ("ports", "volumes"):
        if found := getattr(settings, key):
            yield key, " ".join(sorted(found))
    for key in ("user", "workdir", "stop_signal"):
        if (text := getattr(settings, key)) and text not in SAME_AS_UNSET.get(key, ()):
            yield key, text

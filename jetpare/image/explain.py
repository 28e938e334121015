"""Explain why something is in an image: what it is, who needs it, what asked for it, which layer brought it, its bytes.

Pure: from the inventory of an image, whose its files are, and its layers' listing where there is one.
"""

from __future__ import annotations

import difflib
import posixpath
import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from jetpare.image.attribution import distribution_keys, packaged
from jetpare.image.inventory import Inventory, Package
from jetpare.image.needs import HOW, MISSES, OPENS, Image, Use

EXAMPLES = 3
GDAL_PACKAGES = "/usr/share/jetpare/gdal-packages.txt"  # scripts/image/compile-gdal.sh


@dataclass(frozen=True, kw_only=True)
class Needed:
    """A component that needs the subject, with some of its files that do."""

    component: str
    how: str
    names: tuple[str, ...]
    count: int  # of files that need it; 0 where the component as a whole does
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ChainStep:
    """One step of the way from what was asked for down to the subject."""

    component: str
    how: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Brought:
    """A layer, counted from 1 at the bottom, that has something of the subject.

    ``bytes``, ``files``: what can still be seen. ``hidden_bytes``, ``hidden_files``: what a later layer put out of
    sight. ``deletes``: it takes away what lower layers have of it.
    """

    layer: int
    instruction: str | None
    bytes: int
    files: int
    hidden_bytes: int = 0
    hidden_files: int = 0
    deletes: bool = False


@dataclass(frozen=True, kw_only=True)
class Explained:
    """One answer: a path, a package, a distribution, a component or a group of one image.

    ``reasons``: how it got here. ``chain``: where nothing asked for it, the way down to it from what was asked for,
    for ``chain_reason``. ``layers`` is None where they were not measured, for ``layers_reason``.
    """

    kind: str
    name: str
    title: str
    version: str | None
    bytes: int
    files: int
    components: tuple[str, ...]
    groups: tuple[str, ...]
    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    chain: tuple[ChainStep, ...] = ()
    chain_reason: str | None = None
    needs: tuple[Needed, ...] = ()
    layers: tuple[Brought, ...] | None = None
    layers_reason: str | None = None


def explain(image: Image, word: str) -> tuple[Explained, ...]:
    """Explain everything in *image* that *word* names; return () where it names nothing (then see `similar`)."""
    return tuple(_subject(image, found) for found in _find(image, word))


def similar(image: Image, word: str) -> list[str]:
    """Return a few names in *image* that look like *word*, the closest first."""
    inventory = image.inventory
    if word.startswith("/"):
        # Only what is near it, or has its name: 60,000 paths are too many to compare.
        name = posixpath.basename(word)
        folder = posixpath.dirname(word)
        known: Iterable[str] = (
            path
            for path in inventory.by_path
            if posixpath.dirname(path) == folder or posixpath.basename(path).startswith(name[:4] or "/")
        )
    else:
        names = [package.name for package in inventory.packages] + [each.name for each in inventory.distributions]
        known = {*names, *(each.key for each in image.attribution.components)}
        known |= {each.name for each in image.attribution.components}
    return difflib.get_close_matches(word, sorted(known), n=EXAMPLES, cutoff=0.6)


# --- what a word names


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A thing that a word names: the regular files and the components that it is made of."""

    kind: str
    name: str
    title: str
    paths: frozenset[str]
    components: tuple[str, ...]
    version: str | None = None
    notes: tuple[str, ...] = ()
    place: str | None = None  # where it is looked for in the layers, where that is one path


def _find(image: Image, word: str) -> Iterator[_Found]:
    if word.startswith("/"):
        yield from _path(image, word)
        return
    found = [*_packages(image, word), *_distributions(image, word)]
    known = {key for each in found for key in each.components}
    found += [each for each in _components(image, word) if not known.issuperset(each.components)]
    if not found:
        paths = [path for path in image.inventory.by_path if word and posixpath.basename(path) == word]
        real = {image.inventory.real_path(path) or path: path for path in reversed(paths)}
        found = [each for path in real.values() for each in _path(image, path)]
    yield from found


def _path(image: Image, word: str) -> Iterator[_Found]:
    inventory = image.inventory
    asked = posixpath.normpath("/" + word.lstrip("/"))
    path = inventory.placed(asked)
    real = inventory.real_path(asked)
    file = inventory.by_path.get(path)
    if file is None and asked != "/":
        if image.listing and any(each.path == path for layer in image.listing.layers or () for each in layer.entries):
            note = "not in the image: a later layer deleted it"
            yield _Found(
                kind="path", name=path, title="deleted", paths=frozenset(), components=(), notes=(note,), place=path
            )
        return
    notes = [f"{path} is a link to {file.target}"] if file and file.kind == "link" else []
    if path != asked:
        notes.insert(0, f"{asked} is {path}, by a link among its folders")
    if real is None:
        yield _Found(
            kind="path",
            name=path,
            title="dangling link",
            paths=frozenset(),
            components=(),
            notes=tuple(notes),
            place=path,
        )
        return
    target = inventory.by_path.get(real)
    if target is None or target.kind == "dir":
        below = real.rstrip("/") + "/"
        paths = frozenset(each for each in image.attribution.owners if each.startswith(below))
        title = "folder"
    else:
        paths = frozenset({real} if target.kind == "file" else ())
        title = target.kind
        notes += _names(inventory, real)
    keys = {image.attribution.owners[each] for each in paths}
    owners = tuple(each.key for each in image.attribution.components if each.key in keys)
    yield _Found(kind="path", name=real, title=title, paths=paths, components=owners, notes=tuple(notes), place=real)


def _names(inventory: Inventory, real: str) -> list[str]:
    """Describe the other names of a file."""
    file = inventory.by_path[real]
    first = file.hardlink or file.path
    hard = [each.path for each in inventory.files if (each.hardlink or each.path) == first and each.path != real]
    base = posixpath.splitext(posixpath.basename(real))[0][:6]
    soft = [
        each.path
        for each in inventory.files
        if each.kind == "link" and base in f"{each.target}{each.path}" and inventory.real_path(each.path) == real
    ]
    return [
        f"{what}: {', '.join(names[:EXAMPLES])}{' …' if len(names) > EXAMPLES else ''}"
        for what, names in (("the same file by hard link", hard), ("links to it", soft))
        if names
    ]


def _packages(image: Image, word: str) -> Iterator[_Found]:
    for key, package in image.packages.items():
        if word in (package.name, key, f"{package.name}:{package.architecture}"):
            notes = [f"{_files(len(package.files))} in dpkg's list"] if package.files else ["dpkg lists no file of it"]
            if package.provides:
                more = f" and {len(package.provides) - EXAMPLES} more" if len(package.provides) > EXAMPLES else ""
                notes.append(f"provides {', '.join(package.provides[:EXAMPLES])}{more}")
            yield _Found(
                kind="package",
                name=package.name,
                title="distribution package",
                version=package.version,
                paths=_paths_of(image, key),
                components=(key,),
                notes=tuple(notes),
            )


def _distributions(image: Image, word: str) -> Iterator[_Found]:
    inventory = image.inventory
    keys, packages = distribution_keys(inventory), packaged(inventory)
    for key, package, each in zip(keys, packages, inventory.distributions, strict=True):
        if word == key or canonicalize_name(word) == canonicalize_name(each.name):
            notes = [f"in {each.location}"] + ([f"brought by {package}, whose files these are"] if package else [])
            yield _Found(
                kind="distribution",
                name=each.name,
                title="Python distribution",
                version=each.version,
                paths=_paths_of(image, package or key),
                components=(package or key,),
                notes=tuple(notes),
            )


def _components(image: Image, word: str) -> Iterator[_Found]:
    low = word.casefold()
    for component in image.attribution.components:
        if low in (component.key.casefold(), component.name.casefold()):
            yield _Found(
                kind="component",
                name=component.key,
                title=f"component of kind {component.kind}",
                version=component.version,
                paths=_paths_of(image, component.key),
                components=(component.key,),
            )
    keys = tuple(each.key for each in image.attribution.components if each.group.casefold() == low)
    if len(keys) > 1:
        paths = frozenset(path for path, key in image.attribution.owners.items() if key in set(keys))
        yield _Found(
            kind="group", name=word, title="group of build.toml", paths=paths, components=keys, notes=(", ".join(keys),)
        )


def _paths_of(image: Image, key: str) -> frozenset[str]:
    return frozenset(path for path, owner in image.attribution.owners.items() if owner == key)


# --- what is said of it


def _subject(image: Image, found: _Found) -> Explained:
    needs = tuple(_needs(image, found))
    reasons = tuple(_reasons(image, found))
    chain, chain_reason = ((), None) if any(_asked(image, key) for key in found.components) else _chain(image, found)
    listing = image.listing
    known = listing is not None and listing.layers is not None
    groups = dict.fromkeys(image.components[key].group for key in found.components if key in image.components)
    return Explained(
        kind=found.kind,
        name=found.name,
        title=found.title,
        version=found.version,
        bytes=sum(image.inventory.by_path[path].bytes for path in found.paths),
        files=sum(image.inventory.by_path[path].hardlink is None for path in found.paths),
        components=found.components,
        groups=tuple(groups),
        notes=found.notes,
        reasons=reasons,
        chain=chain,
        chain_reason=chain_reason,
        needs=needs,
        layers=tuple(_brought(image, found)) if known else None,
        layers_reason=None if known else (listing.reason if listing else "the layers were not asked for"),
    )


def _needs(image: Image, found: _Found) -> Iterator[Needed]:
    """Yield the components outside the subject that need it, ordered by `HOW`, then by the number of their files."""
    subject = {*found.paths, *(found.components if found.kind != "path" else ())}
    rows: dict[tuple[str, str], list[Use]] = defaultdict(list)
    for use in image.uses:
        user = str(image.component(use.user))
        if use.used in subject and subject.isdisjoint((user, use.user)):
            rows[use.how, user].append(use)
    for how, user in sorted(rows, key=lambda row: (HOW.index(row[0]), -len(rows[row]), row[1])):
        uses = rows[how, user]
        files = sorted({use.user for use in uses if use.user.startswith("/")})
        yield Needed(
            component=user,
            how=how,
            names=tuple(sorted({use.evidence for use in uses})),
            count=len(files),
            examples=tuple(files[:EXAMPLES]),
        )


def _brought(image: Image, found: _Found) -> Iterator[Brought]:
    """Yield the layers that have something of the subject, from the bottom up."""
    layers = (image.listing.layers if image.listing else None) or ()
    wanted = set(found.paths) | ({found.place} if found.place else set())
    seen: dict[str, int] = {}  # path -> the last layer that has it
    for index, layer in enumerate(layers):
        seen.update((each.path, index) for each in layer.entries if each.path in wanted and each.kind != "opaque")
    for index, layer in enumerate(layers):
        own = [each for each in layer.entries if each.path in wanted and each.kind in {"file", "link", "whiteout"}]
        if not own:
            continue
        whiteouts = [each for each in own if each.kind == "whiteout"]
        there = [each for each in own if each.kind != "whiteout"]
        last = [each for each in there if seen[each.path] == index and each.path in image.inventory.by_path]
        instructions = image.inventory.layers
        yield Brought(
            layer=index + 1,
            instruction=instructions[index].instruction if index < len(instructions) else None,
            bytes=sum(each.bytes for each in last),
            files=len(last),
            hidden_bytes=sum(each.bytes for each in there) - sum(each.bytes for each in last),
            hidden_files=len(there) - len(last),
            deletes=bool(whiteouts),
        )


# --- what asked for it


def _reasons(image: Image, found: _Found) -> Iterator[str]:
    for key in found.components[:EXAMPLES]:
        reason = _asked(image, key)
        if reason:
            yield f"{key}: {reason}" if found.kind in {"path", "group"} else reason
        package = image.packages.get(key)
        if package is not None and package.auto is not None and found.kind == "package":
            yield f"apt's mark: {'auto, a dependency' if package.auto else 'manual, asked for by name'}"


def _asked(image: Image, key: str) -> str | None:
    """Say what asked for the component by name; None where nothing did, so something else must need it."""
    kind, _, name = key.partition(":")
    package = image.packages.get(key)
    if package is not None:
        return _asked_package(image, package)
    if kind == "python":
        wanted = [
            each
            for each in image.sources.requirements
            if canonicalize_name(Requirement(each).name) == name.partition("@")[0]
        ]
        return f'[python] requirements of build.toml: "{wanted[0]}"' if wanted else None
    if kind == "collected":
        patterns = [each for each in image.sources.collect if name in each]
        return f'[collect] of build.toml: "{patterns[0]}"' if patterns else "collected out of JetPack"
    if kind == "gdal" and GDAL_PACKAGES in image.inventory.texts:
        return "compiled by the stage gdal"
    return None


def _asked_package(image: Image, package: Package) -> str | None:
    if package.name in image.sources.packages:
        return "[runtime] packages of build.toml"
    for index, layer in enumerate(image.inventory.layers, start=1):
        words = re.split(r"[\s'\"=;&]+", layer.instruction or "")
        if package.name in words and any(re.fullmatch(r"(.*/)?apt(-get|-install\.sh)?", word) for word in words):
            return f"the instruction of layer {index} installs it by name"
    if package.name in image.inventory.texts.get(GDAL_PACKAGES, "").split():
        return "GDAL's own libraries link with it (gdal-packages.txt of the stage gdal)"
    if package.essential:
        return "essential: part of every system of this distribution"
    if package.priority == "required":
        return "priority 'required': part of the base system"
    return None


def _chain(image: Image, found: _Found) -> tuple[tuple[ChainStep, ...], str | None]:
    """Find the shortest way from something that was asked for down to the subject, and what asked for that."""
    above: dict[str, list[tuple[str, Use]]] = defaultdict(list)
    for use in image.uses:
        user, used = str(image.component(use.user)), str(image.component(use.used))
        if user != used and use.how not in (OPENS, MISSES):
            above[used].append((user, use))
    first = [row for key in found.components for row in above[key]]
    if found.kind == "path":
        first = [row for row in first if not row[1].used.startswith("/") or row[1].used in found.paths]
    queue: deque[tuple[str, tuple[ChainStep, ...]]] = deque((user, (_step(user, use),)) for user, use in first)
    done = set(found.components)
    while queue:
        user, steps = queue.popleft()
        if user in done:
            continue
        done.add(user)
        reason = _asked(image, user)
        if reason:
            return steps, reason
        queue += [(up, (_step(up, use), *steps)) for up, use in above[user]]
    return (), None


def _step(user: str, use: Use) -> ChainStep:
    return ChainStep(component=user, how=use.how, name=use.evidence)


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"

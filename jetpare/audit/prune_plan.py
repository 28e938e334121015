"""What could go from an image, with bytes and proof: a list to choose from, never applied by itself.

The proof is of absence: nothing that links, names, depends on or interprets it was found in the image. What your own
code loads from elsewhere is not seen. A person copies what is right into build.toml's [prune], with a reason.
"""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from jetpare.audit.binaries import strippable
from jetpare.audit.leftovers import found
from jetpare.audit.subject import Subject
from jetpare.audit.users import Graph
from jetpare.base.text import some
from jetpare.base.units import size_text
from jetpare.image.inventory import Inventory
from jetpare.image.waste import duplicates

ROOTS = frozenset({"usr", "local", "opt", "etc", "var"})  # folders that are never named as a whole
KEPT = frozenset({"bin", "sbin", "lib", "lib64", "share", "include"})  # of which only what they hold is named
MOST_PATHS = 6  # of one item that are written out
LEAST_STRIP = 100_000  # bytes that a file must lose to be named
PROOFS = {
    "build packages": "packages for building, reading or debugging",
    "build programs": "compilers of CUDA that no package of the image owns",
    "headers": "only compilers read them",
    "static libraries": "only linkers read them",
    "tests": "folders of tests inside Python packages",
    "documentation": "only people read it; licences are kept",
    "caches": "is made again when it is needed",
    "logs": "of the build",
}


# What the project builds on purpose: nothing in an image need show who uses it, so its rule is only proposed.
ASKED_FOR = {"libgdal": "[gdal] builds it on purpose; take the rule only if nothing that you add uses GDAL:"}


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing that could go.

    ``paths``: folders or files; ``packages``: not to be installed; ``strip``: files; ``links``: files that could be
    links to the one that is named.
    """

    image: str
    check: str
    name: str
    proof: str
    bytes: int
    paths: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    strip: tuple[str, ...] = ()
    links: tuple[str, ...] = ()


def items(image: Subject) -> list[Item]:
    """Everything of at least [audit] least_mb, the largest first; no file counts in two of them."""
    folders = Folders(image.inventory)
    claimed: set[str] = set()
    made: list[Item] = []
    for item, files in (*_unused(image, folders), *_leftovers(image, folders), *_copies(image)):
        fresh = image.size(files - claimed)
        claimed |= files
        if fresh >= max(image.least, 1):
            made.append(replace(item, bytes=fresh))
    made += [item for item in _strip(image, claimed) if item.bytes >= max(image.least, 1)]
    return sorted(made, key=lambda item: -item.bytes)


def _unused(image: Subject, folders: Folders) -> Iterator[tuple[Item, set[str]]]:
    graph = Graph(image)
    for each in graph.unused():
        files = set(each.paths).union(*(graph.files[f"debian:{name}"] for name in each.packages))
        rest = len(each.parts) - 1
        proof = f"users: {each.users}" + (f"; with it {rest} that only it uses" if rest else "")
        yield (
            Item(
                image=image.name,
                check="A7",
                name=each.name,
                proof=proof,
                bytes=each.bytes,
                paths=folders.compact(each.paths),
                packages=each.packages,
            ),
            files,
        )


def _leftovers(image: Subject, folders: Folders) -> Iterator[tuple[Item, set[str]]]:
    for each in found(image):
        package = each.kind == "build packages"
        item = Item(
            image=image.name,
            check="A10",
            name=each.name if package else f"{each.kind} of {each.name}",
            proof=PROOFS[each.kind],
            bytes=each.bytes,
            paths=() if package else _globs(folders.compact(each.paths)),
            packages=(each.name,) if package else (),
        )
        yield item, set(each.paths)


def _copies(image: Subject) -> Iterator[tuple[Item, set[str]]]:
    for same in duplicates(image.inventory.files):
        names = same.paths
        yield (
            Item(
                image=image.name,
                check="A5",
                name=names[0],
                proof=f"the same content as {some(names[1:])}, which could be links to it",
                bytes=0,
                links=names[1:],
            ),
            set(names[1:]),
        )


def _strip(image: Subject, claimed: set[str]) -> Iterator[Item]:
    files = [elf for elf in strippable(image) if elf.path not in claimed]
    large = [elf for elf in files if elf.symtab_bytes + elf.debug_bytes >= LEAST_STRIP]
    yield Item(
        image=image.name,
        check="A8",
        name=f"symbols of {len(large)} files",
        proof="only debuggers read .symtab and .debug_*; no file of *.libs/ or changed by patchelf is among them",
        bytes=sum(elf.symtab_bytes + elf.debug_bytes for elf in large),
        strip=tuple(sorted(elf.path for elf in large)),
    )


class Folders:
    """How many names each folder of an image holds, so that a folder can stand for all of them."""

    def __init__(self, inventory: Inventory) -> None:
        self.known = inventory.by_path
        self.below = Counter(parent for file in inventory.files if file.kind != "dir" for parent in _parents(file.path))

    def compact(self, paths: Iterable[str]) -> tuple[str, ...]:
        """*paths*, with every folder that holds nothing else in place of what it holds."""
        wanted = sorted({path for path in paths if path in self.known})
        chosen = Counter(parent for path in wanted for parent in _parents(path))
        whole = {
            folder
            for folder, count in chosen.items()
            if count == self.below[folder] and posixpath.basename(folder) not in ROOTS
        }
        tops = (next((parent for parent in _parents(path) if parent in whole), path) for path in wanted)
        return tuple(dict.fromkeys(f"{top}/*" if posixpath.basename(top) in KEPT else top for top in tops))


def _parents(path: str) -> list[str]:
    """The folders above *path*, the topmost first, without the root."""
    found: list[str] = []
    while (path := posixpath.dirname(path)) != "/":
        found.append(path)
    return found[::-1]


def _globs(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Many folders of one name below one folder as a glob."""
    names = {posixpath.basename(path) for path in paths}
    if len(paths) <= MOST_PATHS or len(names) > 1:
        return paths
    top = posixpath.commonpath([posixpath.dirname(path) for path in paths])
    return (f"{top}/**/{names.pop()}",)


def as_toml(plan: Iterable[Item]) -> str:
    """[[prune]] rules for build.toml, each with its proof and bytes as a comment."""
    blocks = ["# What `invoke audit --prune-plan` found. Keep the rules that are right, say why, and build again."]
    for item in plan:
        asked = next((why for name, why in ASKED_FOR.items() if item.name.startswith(name)), None)
        lines = [f"# {item.image}, {item.check}, {size_text(item.bytes)}: {item.proof}"]
        if item.paths or item.strip:
            lines.append("[[prune]]")
            lines += [f"{key} = {_array(getattr(item, key))}" for key in ("paths", "strip") if getattr(item, key)]
            lines.append(f"reason = {json.dumps(f'{item.name}: {item.proof}')}")
        if asked:
            lines = [lines[0], f"# {asked}", *(f"# {line}" for line in "\n".join(lines[1:]).splitlines())]
        if item.packages:
            lines.append(f"# packages that need not be installed: {' '.join(item.packages)}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _array(paths: tuple[str, ...]) -> str:
    words = [json.dumps(path.lstrip("/")) for path in paths]
    return f"[{words[0]}]" if len(words) == 1 else "[\n" + "".join(f"    {word},\n" for word in words) + "]"

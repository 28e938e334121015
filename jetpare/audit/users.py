"""Find libraries and packages that nothing refers to (A7).

What an image holds is cut into units: a package of the distribution, a Python distribution, a library that belongs to
neither (with the commands and data that were compiled with it). The graph of who needs whom is `jetpare.image.needs`,
which `explain` queries too; here its nodes are merged by unit. What cannot be reached from what was asked for has no
users. What a program finds by other means is not seen, so this is a list to look at, never one to delete by.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from jetpare.audit.subject import Evidence, Finding, Subject
from jetpare.base.text import some
from jetpare.base.units import size_text
from jetpare.image.attribution import distribution_keys, package_keys, packaged
from jetpare.image.inventory import Elf, Package
from jetpare.image.linkage import stem
from jetpare.image.needs import LINKS, MISSES, NAMES, Use

# Packages of these sections are there for others; any other one is there because somebody wants it.
FOR_OTHERS = frozenset({"libs", "oldlibs", "libdevel", "devel", "doc", "debug", "introspection"})
BASE = frozenset({"required", "important", "standard"})


@dataclass(frozen=True, kw_only=True)
class Unused:
    """A unit without users, and the units that only it uses. Bytes of all; ``paths`` without packages' files."""

    name: str
    users: str  # 'none', or who uses it and has no users either
    bytes: int
    parts: tuple[tuple[str, int], ...]  # (unit, bytes), itself first
    paths: tuple[str, ...]
    packages: tuple[str, ...]


def unused(image: Subject) -> Iterator[Finding]:
    """A7: yield what nothing refers to, with what would go with it."""
    for each in Graph(image).unused():
        if each.bytes >= image.least and not image.allowed(each.name):
            yield image.finding(
                "A7",
                "note",
                f"users of {each.name}: {each.users}",
                subject=each.name,
                evidence=[Evidence(path=name, detail=size_text(size)) for name, size in each.parts],
                size=each.bytes,
                advice="Leave it out where your own code does not load it either.",
            )


class Graph:
    """The units of an image, and which of them refer to which."""

    def __init__(self, image: Subject) -> None:
        self.image = image
        self.inventory = image.inventory

    def unused(self) -> list[Unused]:
        """Return the units without users, each with the units that only it uses; the largest first, each unit once."""
        reached = self._reach(self.roots, within=None)
        rest = {unit for unit in self.files if unit not in reached}
        left, found = set(rest), []
        leaders = sorted(rest, key=lambda unit: (bool(self.users(unit) & rest), -self.bytes[unit], unit))
        for unit in leaders:
            if unit in left:
                chain = self._reach([unit], within=left)
                left -= chain
                found.append(self._unused(unit, sorted(chain - {unit}, key=lambda each: -self.bytes[each]), rest))
        return sorted(found, key=lambda each: -each.bytes)

    def _unused(self, unit: str, chain: list[str], rest: set[str]) -> Unused:
        commands = [
            posixpath.basename(path)
            for path in sorted(self.files[unit])
            if (elf := self.inventory.elf_by_path.get(path)) and elf.interpreter
        ]
        users = some(sorted(self._words(each) for each in self.users(unit) & rest - {unit}))
        own = f"none but its own commands ({some(commands)})" if commands and unit.startswith("library:") else "none"
        group = [unit, *chain]
        return Unused(
            name=self._words(unit),
            users=f"only {users}, without users too" if users else own,
            bytes=sum(self.bytes[each] for each in group),
            parts=tuple((self._words(each), self.bytes[each]) for each in group),
            paths=tuple(sorted(path for each in group if not each.startswith("debian:") for path in self.files[each])),
            packages=tuple(each.removeprefix("debian:") for each in group if each.startswith("debian:")),
        )

    def users(self, unit: str) -> set[str]:
        """Return the other units that refer to *unit*."""
        return self._backwards.get(unit, set()) - {unit}

    @cached_property
    def packages(self) -> Mapping[str, Package]:
        """The packages of the distribution by unit."""
        return dict(zip(package_keys(self.inventory.packages), self.inventory.packages, strict=True))

    @cached_property
    def named(self) -> Mapping[str, str]:
        """The units that an image's databases name -> their name there. What a package brought is that package's."""
        rows = zip(
            distribution_keys(self.inventory), packaged(self.inventory), self.inventory.distributions, strict=True
        )
        found = {key: each.name for key, package, each in rows if package is None}
        return {key: key.removeprefix("debian:") for key in self.packages} | found

    @cached_property
    def bytes(self) -> Mapping[str, int]:
        """The bytes of every unit."""
        return {unit: self.image.size(paths) for unit, paths in self.files.items()}

    @cached_property
    def files(self) -> Mapping[str, set[str]]:
        """The files of every unit; files of no unit are in none."""
        found: dict[str, set[str]] = {unit: set() for unit in self.named}
        for file in self.inventory.files:
            unit = self.image.owners.get(file.path) or self.loose.get(file.path)
            if unit:
                found.setdefault(unit, set()).add(file.path)
        for unit in [unit for unit in found if unit.startswith("library:")]:
            prefix, stem = _prefix(unit.removeprefix("library:")), posixpath.basename(unit)
            data = f"{prefix}/share/{stem.removeprefix('lib')}/"
            found[unit] |= {path for path in self._data if path.startswith(data)}
        return found

    @cached_property
    def _data(self) -> tuple[str, ...]:
        return tuple(
            file.path
            for file in self.inventory.files
            if "/share/" in file.path and file.kind == "file" and file.path not in self.image.owners
        )

    @cached_property
    def loose(self) -> Mapping[str, str]:
        """ELF files and links to libraries that no package owns -> their unit."""
        libraries = {
            elf.path: f"library:{posixpath.dirname(elf.path)}/{stem(elf.path)}"
            for elf in self.inventory.elfs
            if elf.path not in self.image.owners and not elf.interpreter and elf.soname
        }
        found = dict(libraries)
        for elf in self.inventory.elfs:
            if elf.path not in self.image.owners and elf.path not in libraries:
                own = self._compiled_with(elf, libraries) if elf.interpreter or "plugins" in elf.path else None
                found[elf.path] = own or f"program:{elf.path}"
        for file in self.inventory.files:
            if file.kind == "link" and ".so" in file.path and file.path not in self.image.owners:
                unit = libraries.get(self.inventory.real_path(file.path) or "")
                if unit:
                    found[file.path] = unit
        return found

    def _compiled_with(self, elf: Elf, libraries: Mapping[str, str]) -> str | None:
        """Return the unit of the first library below the same prefix that a program needs."""
        prefix = _prefix(elf.path)
        paths = (use.used for use in self._uses_of.get(elf.path, ()) if use.how in (LINKS, NAMES, MISSES))
        return next((libraries[path] for path in paths if path in libraries and _prefix(path) == prefix), None)

    @cached_property
    def _uses_of(self) -> Mapping[str, list[Use]]:
        found: dict[str, list[Use]] = defaultdict(list)
        for use in self.image.uses:
            found[use.user].append(use)
        return found

    @cached_property
    def edges(self) -> Mapping[str, set[str]]:
        """Unit -> the units that it refers to."""
        found: dict[str, set[str]] = defaultdict(set)
        for use in self.image.uses:
            found[self.unit(use.user)].add(self.unit(use.used))
        return found

    @cached_property
    def _backwards(self) -> Mapping[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for unit, others in self.edges.items():
            for other in others:
                found[other].add(unit)
        return found

    @cached_property
    def roots(self) -> set[str]:
        """The units that somebody asked for or wrote there, and those that a container starts."""
        wanted = {unit for unit, package in self.packages.items() if self._wanted(package)}
        for unit in self.named.keys() - self.packages.keys():
            if not any(user.startswith("python:") for user in self.users(unit)):
                wanted.add(unit)
        settings = self.inventory.settings
        starts = [*settings.entrypoint[:1], *settings.cmd[:1]]
        if self.inventory.distributions:
            starts.append("python3")
        for start in starts:
            path = self.inventory.program(start)
            if path:
                wanted.add(self.unit(path))
        python = {
            unit
            for path, unit in self.loose.items()
            if unit.startswith("program:") and "/python" in path and not self.inventory.elf_by_path[path].interpreter
        }
        # A script that no list names was put there by somebody on purpose.
        return wanted | python | {unit for unit in self.edges if unit.startswith("file:")}

    def _wanted(self, package: Package) -> bool:
        section = package.section.rpartition("/")[2]
        asked = package.name in self.image.requested
        return (
            asked or package.essential or package.priority in BASE or (section not in FOR_OTHERS and not package.auto)
        )

    def _reach(self, starts: Iterable[str], *, within: set[str] | None) -> set[str]:
        seen = set(starts)
        waiting = list(seen)
        while waiting:
            for unit in self.edges.get(waiting.pop(), ()):
                if unit not in seen and (within is None or unit in within):
                    seen.add(unit)
                    waiting.append(unit)
        return seen

    def unit(self, node: str) -> str:
        """Return the unit of a node of the graph: a file's, or the package or distribution that the node is."""
        return self.image.owners.get(node) or self.loose.get(node) or (f"file:{node}" if node[:1] == "/" else node)

    def _words(self, unit: str) -> str:
        """Return what a person calls a unit: the package's name, or the library's."""
        return self.named.get(unit) or posixpath.basename(unit.partition(":")[2])


def _prefix(path: str) -> str:
    """Return /usr/local for /usr/local/lib/libgdal.so.36 and for /usr/local/bin/gdalinfo."""
    return re.split(r"/(?:lib(?:64)?|s?bin)/", path)[0]

"""Libraries and packages that nothing refers to (A7).

What an image holds is cut into units: a package of the distribution, a Python distribution, a library that belongs to
neither (with the commands and data that were compiled with it). A unit refers to another one by what its ELF files
need or name (DT_NEEDED, dlopen strings), by Depends, by Requires-Dist, and by the interpreter of its scripts. What
cannot be reached from what was asked for has no users. What a program finds by other means is not seen, so this is a
list to look at, never one to delete by.
"""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from packaging.utils import canonicalize_name

from jetpare.audits.data import interpreter
from jetpare.audits.subject import Evidence, Finding, Subject, some
from jetpare.inventory import Elf, Package
from jetpare.units import size_text

# Packages of these sections are there for others; any other one is there because somebody wants it.
FOR_OTHERS = frozenset({"libs", "oldlibs", "libdevel", "devel", "doc", "debug", "introspection"})
BASE = frozenset({"required", "important", "standard"})
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*")


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
    """A7: what nothing refers to, with what would go with it."""
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
    """The units of an image and who refers to whom."""

    def __init__(self, image: Subject) -> None:
        self.image = image
        self.inventory = image.inventory

    def unused(self) -> list[Unused]:
        """Units without users, each with those that only it keeps; the largest first. No unit stands in two."""
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
        users = some(sorted(_words(each) for each in self.users(unit) & rest - {unit}))
        own = f"none but its own commands ({some(commands)})" if commands and unit.startswith("library:") else "none"
        group = [unit, *chain]
        return Unused(
            name=_words(unit),
            users=f"only {users}, without users too" if users else own,
            bytes=sum(self.bytes[each] for each in group),
            parts=tuple((_words(each), self.bytes[each]) for each in group),
            paths=tuple(sorted(path for each in group if not each.startswith("debian:") for path in self.files[each])),
            packages=tuple(each.removeprefix("debian:") for each in group if each.startswith("debian:")),
        )

    def users(self, unit: str) -> set[str]:
        """The other units that refer to *unit*."""
        return self._backwards.get(unit, set()) - {unit}

    @cached_property
    def bytes(self) -> Mapping[str, int]:
        """Of every unit."""
        return {unit: self.image.size(paths) for unit, paths in self.files.items()}

    @cached_property
    def files(self) -> Mapping[str, set[str]]:
        """The files of every unit; files of no unit are in none."""
        found: dict[str, set[str]] = {f"debian:{each.name}": set() for each in self.inventory.packages}
        found |= {f"python:{each.name}": set() for each in self.inventory.distributions}
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
            elf.path: f"library:{posixpath.dirname(elf.path)}/{_stem(elf.path)}"
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
        """The unit of the first library below the same prefix that a program needs."""
        prefix = _prefix(elf.path)
        paths = (path for name in elf.needed for path in self.image.libraries.get(name, ()))
        return next((libraries[path] for path in paths if path in libraries and _prefix(path) == prefix), None)

    @cached_property
    def edges(self) -> Mapping[str, set[str]]:
        """Unit -> the units that it refers to."""
        found: dict[str, set[str]] = defaultdict(set)
        for references in (self._linked(), self._depends(), self._requires(), self._interpreted()):
            for unit, others in references:
                found[unit].update(others)
        return found

    def _linked(self) -> Iterator[tuple[str, set[str]]]:
        for elf in self.inventory.elfs:
            names = (*elf.needed, *elf.strings)
            yield self._unit(elf.path), {self._unit(path) for n in names for path in self.image.libraries.get(n, ())}

    def _depends(self) -> Iterator[tuple[str, set[str]]]:
        providers: dict[str, set[str]] = defaultdict(set)
        for package in self.inventory.packages:
            for name in (package.name, *(_first(text) for text in package.provides)):
                providers[name].add(f"debian:{package.name}")
        for package in self.inventory.packages:
            names = [_first(each) for text in package.depends for each in text.split("|")]
            yield f"debian:{package.name}", set().union(*(providers.get(name, set()) for name in names))

    def _requires(self) -> Iterator[tuple[str, set[str]]]:
        for each in self.inventory.distributions:
            names = [canonicalize_name(_first(text)) for text in each.requires if "extra ==" not in text]
            others = {f"python:{there.name}" for name in names if (there := self.image.distributions.get(name))}
            yield f"python:{each.name}", others

    def _interpreted(self) -> Iterator[tuple[str, set[str]]]:
        for script, line in self.inventory.interpreters.items():
            path = self._program(interpreter(line) or "")
            if path:
                yield self._unit(script), {self._unit(path)}

    @cached_property
    def _backwards(self) -> Mapping[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for unit, others in self.edges.items():
            for other in others:
                found[other].add(unit)
        return found

    @cached_property
    def roots(self) -> set[str]:
        """What is there because somebody asked for it, and what a container starts."""
        wanted = {f"debian:{each.name}" for each in self.inventory.packages if self._wanted(each)}
        for each in self.inventory.distributions:
            unit = f"python:{each.name}"
            if not any(user.startswith("python:") for user in self.users(unit)):
                wanted.add(unit)
        settings = self.inventory.settings
        starts = [*settings.entrypoint[:1], *settings.cmd[:1]]
        if self.inventory.distributions:
            starts.append("python3")
        for start in starts:
            path = self._program(start)
            if path:
                wanted.add(self._unit(path))
        python = {
            unit
            for path, unit in self.loose.items()
            if unit.startswith("program:") and "/python" in path and not self.inventory.elf_by_path[path].interpreter
        }
        return wanted | python

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

    def _unit(self, path: str) -> str:
        return self.image.owners.get(path) or self.loose.get(path) or f"file:{path}"

    def _program(self, name: str) -> str | None:
        if name.startswith("/"):
            return self.inventory.real_path(name)
        return self.image.tree.command(name, self.inventory.settings.env.get("PATH", ""))


def _words(unit: str) -> str:
    """A unit as a person calls it: the package's name, or the library's."""
    kind, _, name = unit.partition(":")
    return posixpath.basename(name) if kind in {"library", "program", "file"} else name


def _stem(path: str) -> str:
    return posixpath.basename(path).split(".so")[0]


def _prefix(path: str) -> str:
    """/usr/local of /usr/local/lib/libgdal.so.36 and of /usr/local/bin/gdalinfo."""
    return re.split(r"/(?:lib(?:64)?|s?bin)/", path)[0]


def _first(text: str) -> str:
    match = NAME.match(text.strip())
    return match[0] if match else ""

"""What a check is given, and what it gives: a Subject (one image and what is known beside it), and Findings."""

from __future__ import annotations

import fnmatch
import hashlib
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from jetpare.config import Audit as Rules
from jetpare.host_libraries import HOST_LIBRARIES
from jetpare.inventory import Distribution, Elf, Inventory, Package
from jetpare.linkage import Linkage, resolve

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # the worst first
MB = 10**6


class NotMeasured(Exception):  # noqa: N818 - what happened, in words
    """A check cannot be done on this image; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One thing that was seen: a path, a package or a variable, and what about it."""

    path: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong, or could go, in one image.

    ``subject``: what it is about, the same from run to run (a library's name, a path, a package). ``searched``: where
    a name that is missing was looked for. ``bytes``: what could be saved; None where that is not the question, or not
    measured. ``waived``: the reason of the waiver that applies, None where none does.
    """

    id: str
    severity: Severity
    title: str
    image: str
    subject: str
    evidence: tuple[Evidence, ...] = ()
    searched: tuple[str, ...] = ()
    bytes: int | None = None
    advice: str = ""
    waived: str | None = None

    @property
    def fingerprint(self) -> str:
        """The same for the same fault of the same image, whatever its evidence and its bytes are today."""
        words = f"{self.id}\0{self.image}\0{self.subject}"
        return hashlib.sha256(words.encode(errors="replace")).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One image to audit. Everything but the inventory may be missing; a check that needs it is then not measured.

    ``layers_bytes``: the sum of the layers, in bytes of files; None where the store counts otherwise. ``collect``:
    the required patterns of [collect] that must match in this image, placeholders filled in. ``provided``: [python]
    provided. ``pruned``: globs of what was taken away on purpose, relative to the root. ``versions``, ``checks``: what
    scripts/image/probe.py measured while the image was built. ``requested``: the distribution packages that build.toml
    names.
    """

    name: str
    reference: str
    inventory: Inventory
    rules: Rules = field(default_factory=Rules)
    baseline: Inventory | None = None
    baseline_name: str = ""
    cuda: bool = False
    gpu_arch: str | None = None
    budget: int | None = None
    layers_bytes: int | None = None
    collect: tuple[str, ...] = ()
    provided: tuple[str, ...] = ()
    pruned: tuple[str, ...] = ()
    requested: tuple[str, ...] = ()
    expected: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str | None] = field(default_factory=dict)
    checks: tuple[Mapping[str, Any], ...] = ()

    @property
    def least(self) -> int:
        """The smallest waste worth a finding, in bytes."""
        return int(self.rules.least_mb * MB)

    @cached_property
    def tree(self) -> Tree:
        """The image's names, for looking up paths as a program inside would."""
        return Tree(self.inventory)

    @cached_property
    def owners(self) -> Mapping[str, str]:
        """The real path of every file that a package or a distribution lists -> 'debian:NAME' or 'python:NAME'."""
        found = {
            self.tree.real(path): f"python:{each.name}"
            for each in self.inventory.distributions
            for path in each.files or ()
        }
        real = self.tree.real
        found |= {real(path): f"debian:{each.name}" for each in self.inventory.packages for path in each.files}
        return found

    @cached_property
    def packages(self) -> Mapping[str, Package]:
        """Distribution packages by name."""
        return {each.name: each for each in self.inventory.packages}

    @cached_property
    def distributions(self) -> Mapping[str, Distribution]:
        """Python distributions by normalized name; of several of one name, the last."""
        return {normalized(each.name): each for each in self.inventory.distributions}

    @cached_property
    def libraries(self) -> Mapping[str, tuple[str, ...]]:
        """Every name under which a shared object can be asked for -> the real paths of the objects that have it."""
        found: dict[str, dict[str, None]] = {}
        elfs = self.inventory.elf_by_path
        for elf in self.inventory.elfs:
            if elf.type == "dyn":
                for name in {elf.soname, posixpath.basename(elf.path)} - {None}:
                    found.setdefault(str(name), {})[elf.path] = None
        for file in self.inventory.files:
            if file.kind == "link" and ".so" in file.path:
                real = self.inventory.real_path(file.path)
                if real in elfs:
                    found.setdefault(posixpath.basename(file.path), {})[str(real)] = None
        return {name: tuple(paths) for name, paths in found.items()}

    @cached_property
    def linkage(self) -> Linkage:
        """What every ELF file needs, and where the image's loader finds it."""
        own = dict.fromkeys(self.rules.host_libraries, "[audit] host_libraries")
        return resolve(self.inventory, allow={**HOST_LIBRARIES, **own})

    @cached_property
    def linked(self) -> frozenset[str]:
        """The files that another one links."""
        return frozenset(edge.path for edge in self.linkage.edges if edge.path and edge.path != edge.user)

    @cached_property
    def baseline_libraries(self) -> frozenset[str]:
        """The names of libraries that the baseline's loader finds: in its cache, or in one of its folders."""
        if self.baseline is None:
            return frozenset()
        folders = {self.baseline.real_path(folder) for folder in self.baseline.loader_dirs}
        names = {name for name, _ in self.baseline.loader_cache}
        return frozenset(
            names | {posixpath.basename(f.path) for f in self.baseline.files if posixpath.dirname(f.path) in folders}
        )

    def size(self, paths: Iterable[str]) -> int:
        """The bytes of these names together."""
        by_path = self.inventory.by_path
        return sum(by_path[path].bytes for path in set(paths) if path in by_path)

    def was_pruned(self, path: str) -> bool:
        """Whether *path*, or a folder above it, was taken away on purpose."""
        return any(at_or_below(path, glob) for glob in self.pruned)

    def allowed(self, name: str) -> bool:
        """Whether [audit] allow lets this package or path be."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.rules.allow)

    def finding(  # noqa: PLR0913 - a finding is what it says
        self,
        check: str,
        severity: Severity,
        title: str,
        *,
        subject: str,
        advice: str,
        evidence: Iterable[Evidence] = (),
        searched: tuple[str, ...] = (),
        size: int | None = None,
    ) -> Finding:
        """A finding about this image."""
        return Finding(
            id=check,
            severity=severity,
            title=title,
            image=self.name,
            subject=subject,
            evidence=tuple(evidence),
            searched=searched,
            bytes=size,
            advice=advice,
        )


class Tree:
    """Looks up names as a program in the image would; every folder is resolved once."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self._real: dict[str, str | None] = {"/": "/"}

    def folder(self, path: str) -> str | None:
        """The real path of a folder, None where it is not there."""
        if path not in self._real:
            self._real[path] = self.inventory.real_path(path)
        return self._real[path]

    def real(self, path: str) -> str:
        """*path* with its folder's links followed, as dpkg means it; *path* itself where its folder is not there."""
        folder, name = posixpath.split(path)
        found = self.folder(folder)
        return path if found is None else posixpath.join(found, name)

    def exists(self, path: str) -> bool:
        """Whether there is such a name; a link counts, wherever it leads."""
        return self.real(path) in self.inventory.by_path

    @cached_property
    def children(self) -> Mapping[str, tuple[str, ...]]:
        """The names in every folder."""
        found: dict[str, list[str]] = {}
        for file in self.inventory.files:
            folder, name = posixpath.split(file.path)
            if name:
                found.setdefault(folder, []).append(name)
        return {folder: tuple(names) for folder, names in found.items()}

    def glob(self, pattern: str) -> tuple[str, ...]:
        """The real paths that *pattern*, absolute or relative to the root, matches."""
        found: list[str] = ["/"]
        for part in (part for part in pattern.split("/") if part):
            folders = [real for path in found if (real := self.folder(path)) is not None]
            found = [
                posixpath.join(folder, name)
                for folder in folders
                for name in self.children.get(folder, ())
                if fnmatch.fnmatchcase(name, part)
            ]
        return tuple(found)

    def command(self, name: str, path: str) -> str | None:
        """Where *name* stands on *path*, the variable's text; None where it does not."""
        for folder in path.split(":"):
            found = self.inventory.real_path(posixpath.join(folder or "/", name))
            if found is not None:
                return found
        return None


def at_or_below(path: str, glob: str) -> bool:
    """Whether *glob*, relative to the root, names *path* or a folder above it; ** stands for any folders, or none."""
    return _fits(path.strip("/").split("/"), glob.strip("/").split("/"))


def _fits(names: list[str], parts: list[str]) -> bool:
    if not parts:
        return True
    if parts[0] == "**":
        return _fits(names, parts[1:]) or (bool(names) and _fits(names[1:], parts))
    return bool(names) and fnmatch.fnmatchcase(names[0], parts[0]) and _fits(names[1:], parts[1:])


def normalized(name: str) -> str:
    """A distribution's name in the form in which names are compared."""
    return name.lower().replace("_", "-").replace(".", "-")


def megabytes(count: int) -> str:
    """'81.6 MB', '1.23 GB'."""
    return f"{count / 10**9:.2f} GB" if count >= 10**9 else f"{count / MB:.1f} MB"


def some(words: Iterable[str], most: int = 3) -> str:
    """'a, b, c and 5 more'."""
    names = list(words)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def libraries_folder(elf: Elf) -> bool:
    """Whether a wheel's repair tool put it there: a folder NAME.libs, whose files must stay as they are."""
    return posixpath.dirname(elf.path).endswith(".libs")

"""What a check is given, and what it gives: a Subject (one image and what is known beside it), and Findings."""

from __future__ import annotations

import fnmatch
import hashlib
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from packaging.utils import canonicalize_name

from jetpare.base.units import MB
from jetpare.base.versions import ImageCheck
from jetpare.config.schema import AuditSettings as Rules
from jetpare.image.attribution import listed_by
from jetpare.image.inventory import Distribution, Elf, Inventory, Package

if TYPE_CHECKING:
    from jetpare.image.linkage import Linkage
    from jetpare.image.needs import Use

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # the worst first


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
    checks: tuple[ImageCheck, ...] = ()

    @property
    def least(self) -> int:
        """The smallest waste worth a finding, in bytes."""
        return int(self.rules.least_mb * MB)

    @cached_property
    def tree(self) -> FileTree:
        """The image's names, for looking up paths as a program inside would."""
        return FileTree(self.inventory)

    @cached_property
    def owners(self) -> Mapping[str, str]:
        """The real path of every file that a package or a distribution lists -> its key: debian:NAME, python:NAME."""
        return listed_by(self.inventory)

    @cached_property
    def packages(self) -> Mapping[str, Package]:
        """Distribution packages by name."""
        return {each.name: each for each in self.inventory.packages}

    @cached_property
    def distributions(self) -> Mapping[str, Distribution]:
        """Python distributions by normalized name; of several of one name, the last."""
        return {canonicalize_name(each.name): each for each in self.inventory.distributions}

    @cached_property
    def libraries(self) -> Mapping[str, tuple[str, ...]]:
        """Every name under which a shared object can be asked for -> the real paths of the objects that have it."""
        from jetpare.image.linkage import libraries

        return libraries(self.inventory)

    @cached_property
    def linkage(self) -> Linkage:
        """What every ELF file needs, and where the image's loader finds it."""
        from jetpare.image.host_libraries import allowed
        from jetpare.image.linkage import resolve

        return resolve(self.inventory, allow=allowed(self.rules.host_libraries))

    @cached_property
    def uses(self) -> tuple[Use, ...]:
        """Who needs whom: the image's graph of files, packages and distributions."""
        from jetpare.image.needs import uses

        return uses(self.inventory, self.linkage)

    @cached_property
    def linked(self) -> frozenset[str]:
        """The files that another one links."""
        from jetpare.image.needs import LINKS, RUNS

        return frozenset(use.used for use in self.uses if use.how in (LINKS, RUNS))

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


class FileTree:
    """Looks up names as a program in the image would."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory

    def exists(self, path: str) -> bool:
        """Whether there is such a name; a link counts, wherever it leads."""
        return self.inventory.placed(path) in self.inventory.by_path

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
            folders = [real for path in found if (real := self.inventory.real_path(path)) is not None]
            found = [
                posixpath.join(folder, name)
                for folder in folders
                for name in self.children.get(folder, ())
                if fnmatch.fnmatchcase(name, part)
            ]
        return tuple(found)


def at_or_below(path: str, glob: str) -> bool:
    """Whether *glob*, relative to the root, names *path* or a folder above it; ** stands for any folders, or none."""
    return _fits(path.strip("/").split("/"), glob.strip("/").split("/"))


def _fits(names: list[str], parts: list[str]) -> bool:
    if not parts:
        return True
    if parts[0] == "**":
        return _fits(names, parts[1:]) or (bool(names) and _fits(names[1:], parts))
    return bool(names) and fnmatch.fnmatchcase(names[0], parts[0]) and _fits(names[1:], parts[1:])


def libraries_folder(elf: Elf) -> bool:
    """Whether a wheel's repair tool put it there: a folder NAME.libs, whose files must stay as they are."""
    return posixpath.dirname(elf.path).endswith(".libs")

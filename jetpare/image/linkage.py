"""Resolve what every file of an image links to, and what it may open by name. Pure: see `loader`.

Every executable and library is the start of a process of its own, as `ldd FILE` sees it. A library that such a process
lacks may still be there when the file is really used, because something else has loaded it before: a program or a
library that is found to load both, or an import that the file's Python distribution requires. That is 'company', and
who provides it is said.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from jetpare.image.host_libraries import HOST_LIBRARIES, OPTIONAL_LIBRARIES, Dispensable
from jetpare.image.inventory import Distribution, Elf, Inventory
from jetpare.image.loader import Loader, NeededLibrary, Process, SearchRule

EdgeStatus = Literal["found", "company", "host", "broken", "missing"]
DlopenStatus = Literal["found", "company", "elsewhere", "host", "alternative", "optional", "missing"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Edge:
    """One DT_NEEDED of one file, or, with its slashes, the interpreter that a program names.

    ``path``: the real file that is loaded; of 'broken', the file that stops the loader. ``rule``: what found it.
    ``by``: of 'company', the file whose process has it, which is ``path`` itself where nothing is seen to load it, so
    that Python code would have to, by its path; of 'host', what mounts it; of 'broken', what is wrong. ``searched``:
    where a name that is not found was looked for, in order. ``elsewhere``: files of that name, or with that soname,
    which no search reaches. ``unmet``: versions, such as GLIBC_2.38, that the user wants of ``path`` and that it does
    not define.
    """

    user: str
    name: str
    status: EdgeStatus
    path: str | None = None
    rule: SearchRule | None = None
    by: str | None = None
    searched: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    unmet: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Dlopen:
    """A name in the read-only strings of one file, which its code may hand to dlopen.

    'elsewhere': no search reaches it, but the image has it, and code may put its path together. 'alternative': not
    there, but another version that the same file names is, or, of a name without version, any version. 'optional': code
    is known to do without. ``path``: what is opened; of 'alternative', the other version. ``by``: the file in whose
    process it is, what mounts it, or why code does without. ``elsewhere``: all the files of that name, of 'elsewhere'.
    """

    user: str
    name: str
    status: DlopenStatus
    path: str | None = None
    by: str | None = None
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Linkage:
    """What needs what in one image. ``skipped``: ELF files that its loader has nothing to do with -> why."""

    edges: tuple[Edge, ...]
    dlopens: tuple[Dlopen, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def resolve(
    inventory: Inventory,
    *,
    allow: Mapping[str, str] = HOST_LIBRARIES,
    optional: Sequence[Dispensable] = OPTIONAL_LIBRARIES,
) -> Linkage:
    """Resolve every NEEDED and every dlopen name of *inventory*; *allow* as `Loader` has it.

    *optional*: which dlopen names code does without.
    """
    loader = Loader(inventory, allow=allow)
    skipped = {elf.path: why for elf in inventory.elfs if (why := loader.why_not(elf))}
    processes = {elf.path: loader.start(elf) for elf in inventory.elfs if elf.path not in skipped}
    image = _Image(inventory, loader, processes)
    return Linkage(
        edges=tuple(edge for process in processes.values() for edge in _edges(image, process)),
        dlopens=tuple(each for process in processes.values() for each in _dlopens(image, process, optional)),
        skipped=skipped,
        notes=tuple(loader.notes()),
    )


def libraries(inventory: Inventory) -> Mapping[str, tuple[str, ...]]:
    """Map every name by which a shared object can be asked for to the real paths of the objects that have it.

    A name is the object's soname, its file's name, or that of a link or hard link to it.
    """
    found: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for file in inventory.files:
        if file.kind in ("file", "link") and ".so" in file.path:
            real = inventory.by_path.get(inventory.real_path(file.path) or "")
            elf = inventory.elf_by_path.get(real.hardlink or real.path) if real else None
            if elf and elf.type == "dyn":
                found[posixpath.basename(file.path)][elf.path] = None
    for elf in inventory.elfs:
        if elf.type == "dyn":
            for name in (posixpath.basename(elf.path), elf.soname):
                if name:
                    found[name][elf.path] = None
    return {name: tuple(paths) for name, paths in found.items()}


def _edges(image: _Image, process: Process) -> Iterator[Edge]:
    elf = process.root.elf
    if elf.interpreter:
        found = process.interpreter
        path, rule = (found.elf.path, found.rule) if found else (None, None)
        searched = () if found else (elf.interpreter,)
        status: EdgeStatus = "found" if found else "missing"
        yield Edge(user=elf.path, name=elf.interpreter, status=status, path=path, rule=rule, searched=searched)
    for need in process.needs:
        if need.user is process.root:
            yield _edge(image, process, need)


def _edge(image: _Image, process: Process, need: NeededLibrary) -> Edge:
    elf, name = need.user.elf, need.name
    if need.object:
        return Edge(
            user=elf.path,
            name=name,
            status="found",
            path=need.object.elf.path,
            rule=need.rule,
            unmet=unmet(elf, name, need.object.elf),
        )
    if need.host:
        return Edge(user=elf.path, name=name, status="host", by=need.host)
    if need.wrong:
        path, why = need.wrong
        return Edge(user=elf.path, name=name, status="broken", path=path, rule=need.rule, by=why)
    if company := image.company(elf.path, name):
        provided, by = company
        return Edge(
            user=elf.path, name=name, status="company", path=provided.path, by=by, unmet=unmet(elf, name, provided)
        )
    searched = image.loader.searched(process, process.root, name)
    return Edge(user=elf.path, name=name, status="missing", searched=searched, elsewhere=image.elsewhere(name))


def unmet(user: Elf, name: str, provider: Elf) -> tuple[str, ...]:
    """Return the versions that *user* wants of *name* and *provider* lacks; one that defines none has them all."""
    defined = set(provider.versions_defined)
    return tuple(version for version in user.versions_needed.get(name, ()) if defined and version not in defined)


def _dlopens(image: _Image, process: Process, optional: Sequence[Dispensable]) -> Iterator[Dlopen]:
    elf = process.root.elf
    own = {elf.soname, posixpath.basename(elf.path), *elf.needed}
    found = [_dlopen(image, process, name) for name in elf.strings if name not in own]
    there = {
        stem(need.name): need.object.elf.path for need in process.needs if need.object and need.user is process.root
    }
    there |= {stem(each.name): each.path for each in found if each.path is not None}
    for each in found:
        if each.status != "missing":
            yield each
        elif other := there.get(stem(each.name)) or image.versioned(each.name):
            yield Dlopen(user=each.user, name=each.name, status="alternative", path=other)
        elif why := next((entry.why for entry in optional if entry.covers(each.user, each.name)), None):
            yield Dlopen(user=each.user, name=each.name, status="optional", by=why)
        else:
            yield each


def _dlopen(image: _Image, process: Process, name: str) -> Dlopen:
    user = process.root.elf.path
    need = image.loader.find(process, process.root, name)
    if need.object:
        return Dlopen(user=user, name=name, status="found", path=need.object.elf.path)
    if host := need.host or image.loader.host(posixpath.basename(name)):
        return Dlopen(user=user, name=name, status="host", by=host)
    if company := image.company(user, name):
        return Dlopen(user=user, name=name, status="company", path=company[0].path, by=company[1])
    if elsewhere := image.elsewhere(name):
        return Dlopen(user=user, name=name, status="elsewhere", path=elsewhere[0], elsewhere=elsewhere)
    return Dlopen(user=user, name=name, status="missing")


def stem(name: str) -> str:
    """Return the name of a library, or of its path, without its version: libcudnn of libcudnn.so.9."""
    return posixpath.basename(name).partition(".so")[0]


class _Image:
    """What several files of one image need to know of each other, worked out when it is asked for."""

    def __init__(self, inventory: Inventory, loader: Loader, processes: Mapping[str, Process]) -> None:
        self.inventory = inventory
        self.loader = loader
        self.processes = processes
        self._scopes: dict[str, Mapping[str, tuple[Elf, str]]] = {}

    def elsewhere(self, name: str) -> tuple[str, ...]:
        """Return the loadable files that bear *name*: as their file's name, a link's or their soname."""
        return tuple(path for path in self._named.get(posixpath.basename(name), ()) if self._fits(path, name))

    def versioned(self, name: str) -> str | None:
        """Return a version of *name*, which has none: libnvrtc.so.12 for libnvrtc.so. Code adds the version itself."""
        return self._versions.get(name)

    def company(self, user: str, name: str) -> tuple[Elf, str] | None:
        """What *name* is for *user* where another loads it first, and the file that this other process starts with."""
        together = self._together.get((user, name))
        if together is not None:
            return together
        return next((scope[name] for key in self._owners.get(user, ()) if name in (scope := self._scope(key))), None)

    @cached_property
    def _named(self) -> Mapping[str, tuple[str, ...]]:
        known = libraries(self.inventory).items()
        loadable = {name: tuple(path for path in paths if path in self.processes) for name, paths in known}
        return {name: paths for name, paths in loadable.items() if paths}

    @cached_property
    def _versions(self) -> Mapping[str, str]:
        return {f"{stem(name)}.so": paths[0] for name, paths in self._named.items() if ".so." in name}

    def _fits(self, path: str, name: str) -> bool:
        return "/" not in name.strip("/") or path.endswith("/" + name.lstrip("/"))

    @cached_property
    def _together(self) -> Mapping[tuple[str, str], tuple[Elf, str]]:
        """What the NEEDED of a file is in the process of another that loads both."""
        together: dict[tuple[str, str], tuple[Elf, str]] = {}
        for path, process in self.processes.items():
            for need in process.needs:
                if need.object:
                    together.setdefault((need.user.elf.path, need.name), (need.object.elf, path))
        return together

    @cached_property
    def _distributions(self) -> Mapping[str, Sequence[Distribution]]:
        named: defaultdict[str, list[Distribution]] = defaultdict(list)
        for each in self.inventory.distributions:
            named[_canonical(each.name)].append(each)
        return named

    @cached_property
    def _owners(self) -> Mapping[str, tuple[str, ...]]:
        """The Python distributions that a file belongs to."""
        owners: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
        for name, distributions in self._distributions.items():
            for path in (path for each in distributions for path in each.files or () if path in self.processes):
                owners[path] = (*owners[path], name)
        return owners

    def _scope(self, distribution: str) -> Mapping[str, tuple[Elf, str]]:
        """The names that are loaded where *distribution* and all that it requires have been imported.

        First what their files load, then those files themselves, which Python code may load by their paths.
        """
        if distribution not in self._scopes:
            paths = (*self._imported(distribution), *self._pythons)
            every = [(name, each, path) for path in paths for name, each in self.processes[path].names.items()]
            every.sort(key=lambda one: one[1].elf.path == one[2])
            self._scopes[distribution] = {name: (each.elf, path) for name, each, path in reversed(every)}
        return self._scopes[distribution]

    def _imported(self, distribution: str) -> list[str]:
        """The ELF files of *distribution* and of all that it requires."""
        closure, waiting = {distribution: None}, [distribution]
        while waiting:
            for each in self._distributions.get(waiting.pop(), ()):
                new = [name for text in each.requires if (name := required(text)) and name not in closure]
                closure |= dict.fromkeys(new)
                waiting += new
        files = (path for name in closure for each in self._distributions.get(name, ()) for path in each.files or ())
        return [path for path in files if path in self.processes]

    @cached_property
    def _pythons(self) -> list[str]:
        return [
            path
            for path, process in self.processes.items()
            if process.root.elf.interpreter and posixpath.basename(path).startswith("python3")
        ]


def _canonical(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def required(text: str) -> str | None:
    """Return the distribution that a Requires-Dist names; None for one of an extra, and for what is none."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    return None if "extra" in str(requirement.marker or "") else _canonical(requirement.name)

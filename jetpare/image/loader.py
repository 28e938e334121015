"""glibc's dynamic loader over an Inventory: what a process that starts with a file would map, and where it finds it.

A model of elf/dl-load.c in glibc 2.35 (Ubuntu 22.04) and 2.36 (Debian 12); nothing is run. Not modelled, since an
Inventory does not tell: DF_1_NODEFLIB, ABI notes that ask for a newer kernel, and the subfolders for hardware that
glibc 2.37 dropped (tls, haswell ...).
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from jetpare.image.inventory import Elf, File, Inventory

SearchRule = Literal["loaded", "path", "rpath", "LD_LIBRARY_PATH", "runpath", "cache", "default"]

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_TOKEN = re.compile(r"\$(?:\{(ORIGIN|LIB|PLATFORM)\}|(ORIGIN|LIB|PLATFORM)(?![A-Za-z0-9_]))")
_HWCAPS = "/glibc-hwcaps/"
_CACHE = "/etc/ld.so.cache"
_PRELOAD = "/etc/ld.so.preload"
_SETID = 0o6000
_ELF_HEADER = 64  # bytes
_NEEDS = 2_000_000  # followed in all processes together; the rehearsal's larger image has some 29,000


@dataclass(kw_only=True, slots=True, eq=False)
class Object:
    """One object of a process.

    ``name``: as it was asked for; '' of the first. ``found``: the path by which it was opened, links not followed;
    $ORIGIN is that path's folder. ``identity``: its file, whatever the name. ``parent``: the object that asked first.
    """

    name: str
    found: str
    identity: str
    elf: Elf
    rule: SearchRule | None = None
    parent: Object | None = None
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class NeededLibrary:
    """How one NEEDED of ``user`` came out: one of ``object``, ``wrong``, ``host``, or nothing of that was found.

    ``wrong``: the file that stops the loader, and what is wrong with it. ``host``: what mounts it at run time.
    """

    user: Object
    name: str
    object: Object | None = None
    rule: SearchRule | None = None
    wrong: tuple[str, str] | None = None
    host: str | None = None


@dataclass(kw_only=True, slots=True, eq=False)
class Process:
    """What the loader maps when it starts with ``root``; ``objects`` and ``needs`` are in the order of loading."""

    root: Object
    secure: bool
    environment: tuple[str, ...] = ()  # the folders of LD_LIBRARY_PATH
    interpreter: Object | None = None
    objects: list[Object] = field(default_factory=list)
    needs: list[NeededLibrary] = field(default_factory=list)
    names: dict[str, Object] = field(default_factory=dict)  # whatever an object is known by already
    identities: dict[str, Object] = field(default_factory=dict)


class Openable:
    """What the loader of one image finds when it opens a path."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.machine = _MACHINES.get(inventory.platform.partition("/")[2].partition("/")[0], "")
        self._opened: dict[str, tuple[str, Elf] | str | None] = {}

    def open(self, found: str) -> tuple[str, Elf] | str | None:
        """Return the file (its identity, what it is), or what is wrong with it; None for none, or another machine's."""
        if found not in self._opened:
            self._opened[found] = self._look(found)
        return self._opened[found]

    def _look(self, found: str) -> tuple[str, Elf] | str | None:
        file = self.inventory.by_path.get(self.inventory.real_path(found) or "")
        if file is None:
            return None
        if file.kind == "dir":
            return "cannot read file data"
        elf = self._elf(file)
        if elf is None:
            return "file too short" if file.size < _ELF_HEADER else "invalid ELF header"
        if not self.loadable(elf):
            return None
        return (
            (file.hardlink or file.path, elf)
            if elf.type in ("exec", "dyn")
            else "only ET_DYN and ET_EXEC can be loaded"
        )

    def _elf(self, file: File) -> Elf | None:
        return self.inventory.elf_by_path.get(file.path) or self.inventory.elf_by_path.get(file.hardlink or file.path)

    def foreign(self, path: str) -> bool:
        """Return whether *path* is there and for another machine."""
        real = self.inventory.real_path(path)
        elf = self._elf(self.inventory.by_path[real]) if real else None
        return elf is not None and not self.loadable(elf)

    def loadable(self, elf: Elf) -> bool:
        """Return whether *elf* is for this machine."""
        return elf.machine == self.machine and elf.bits == 64  # noqa: PLR2004


class SearchPaths:
    """Where the loader of one image looks for a library: search paths, its cache, and its default folders."""

    def __init__(self, inventory: Inventory, files: Openable) -> None:
        self.inventory = inventory
        self.files = files
        self.lib, self.default = self._built_in()
        self._cwd = inventory.settings.workdir or "/"
        self._cache: dict[str, list[str]] = {}
        for soname, path in inventory.loader_cache:
            if _HWCAPS not in path:
                self._cache.setdefault(soname, []).append(path)

    def tries(self, process: Process, user: Object, name: str) -> Iterator[tuple[SearchRule, str]]:
        """Yield the paths that are tried for *name*, in order, and by which rule."""
        if "/" in name:
            yield "path", posixpath.join(self._cwd, name)
            return
        if not name:
            return
        for rule, folders in self.rules(process, user):
            if rule == "cache":
                yield from ((rule, path) for path in self._cached(name))
            for folder in folders:
                yield rule, f"{folder}/{name}"

    def rules(self, process: Process, user: Object) -> Iterator[tuple[SearchRule, tuple[str, ...]]]:
        """Yield the folders that *user* searches, in order, and by which rule; none for the cache, which has paths."""
        if not user.elf.runpath:
            loaders = list(_chain(user))
            for each in loaders if process.root in loaders else (*loaders, process.root):
                yield "rpath", each.rpath
        yield "LD_LIBRARY_PATH", process.environment
        yield "runpath", user.runpath
        yield "cache", ()
        yield "default", self.default

    def _cached(self, name: str) -> list[str]:
        """Return the cache's first entry for this machine: only that is tried, whether its file is there or not."""
        return [path for path in self._cache.get(name, ()) if not self.files.foreign(path)][:1]

    def set_paths(self, process: Process, user: Object) -> None:
        """Fill in the search paths that *user* brings: RPATH counts only where there is no RUNPATH."""
        user.runpath = self.places(process, user, user.elf.runpath)
        user.rpath = () if user.elf.runpath else self.places(process, user, user.elf.rpath)

    def places(self, process: Process, user: Object, written: Iterable[str]) -> tuple[str, ...]:
        """Return a search path's folders: tokens replaced, each once; an empty one is the working directory."""
        entries = tuple(written)
        if entries in ((), ("",)):
            return ()
        expanded = [self.expand(process, user, entry) if entry else self._cwd for entry in entries]
        return tuple(dict.fromkeys(posixpath.join(self._cwd, entry.rstrip("/") or "/") for entry in expanded if entry))

    def expand(self, process: Process, user: Object, text: str) -> str:
        """Return *text* with $ORIGIN, $LIB and $PLATFORM replaced; '' where a setuid program may not use it."""
        tokens = list(_TOKEN.finditer(text))
        if not tokens:
            return text
        origin = posixpath.dirname(user.found)
        values = {"ORIGIN": origin, "LIB": self.lib, "PLATFORM": self.files.machine}
        expanded = _TOKEN.sub(lambda token: values[token[1] or token[2]], text)
        uses_origin = [token for token in tokens if "ORIGIN" in (token[1], token[2])]
        if process.secure and uses_origin:
            first = all(
                token.start() == 0 and text[token.end() : token.end() + 1] in ("", "/") for token in uses_origin
            )
            trusted = (posixpath.normpath(expanded) + "/").startswith(tuple(f"{folder}/" for folder in self.default))
            if not first or (user is process.root and not trusted):
                return ""
        return expanded

    def _built_in(self) -> tuple[str, tuple[str, ...]]:
        """$LIB and the default folders as glibc was configured: Debian's and Ubuntu's, else upstream's and Fedora's."""
        triplet = f"{self.files.machine}-linux-gnu"
        if any(self.inventory.real_path(f"{lib}/{triplet}") for lib in ("/lib", "/usr/lib")):
            return f"lib/{triplet}", (f"/lib/{triplet}", f"/usr/lib/{triplet}", "/lib", "/usr/lib")
        return "lib64", ("/lib64", "/usr/lib64")


class Loader:
    """ld.so of one image.

    *env*: what the processes get; the image's own unless given. *allow*: names or globs that the host mounts at run
    time -> what mounts them; an empty placeholder of such a file counts as the host's. Subfolders glibc-hwcaps are not
    searched: what only they hold is missing on another processor.
    """

    def __init__(
        self,
        inventory: Inventory,
        *,
        env: Mapping[str, str] | None = None,
        allow: Mapping[str, str] | None = None,
    ) -> None:
        self.inventory = inventory
        self.env = inventory.settings.env if env is None else env
        self.allow = allow or {}
        self.files = Openable(inventory)
        self.search = SearchPaths(inventory, self.files)
        self.interpreter = self._usual_interpreter()
        self._left = _NEEDS
        self._hosts: dict[str, str | None] = {}

    def why_not(self, elf: Elf) -> str | None:
        """Why this loader has nothing to do with *elf*; None if it has."""
        if elf.type not in ("exec", "dyn"):
            return f"of type {elf.type}: nothing that is loaded"
        if not self.files.loadable(elf):
            return f"for {elf.machine}, {elf.bits} bits"
        if elf.interpreter and not posixpath.basename(elf.interpreter).startswith("ld-linux"):
            return f"for another loader: {elf.interpreter}"
        musl = next((name for name in elf.needed if "musl" in name), None)
        return f"for another C library: {musl}" if musl else None

    def start(self, elf: Elf, *, secure: bool | None = None) -> Process:
        """The process that starts with *elf*, a program or a library.

        *secure*: whether as a setuid program; by its mode unless given.
        """
        file = self.inventory.by_path.get(elf.path)
        if secure is None:
            secure = bool(elf.interpreter and file and file.mode & _SETID)
        root = Object(name="", found=elf.path, identity="", elf=elf)  # glibc does not compare the first object's file
        process = Process(root=root, secure=secure)
        if not secure:
            places = re.split("[:;]", self.env.get("LD_LIBRARY_PATH", "")) if self.env.get("LD_LIBRARY_PATH") else []
            process.environment = self.search.places(process, root, places)
        self._enter(process, root)
        self._enter_interpreter(process, elf.interpreter or self.interpreter)
        for name in self._preloads(process):
            self._map(process, root, name)  # one that is missing is left out, with a message
        for user in process.objects:  # grows meanwhile: breadth first
            if self._left < 0 and user is not root:
                break
            self._left -= len(user.elf.needed)
            process.needs.extend(self._map(process, user, name) for name in user.elf.needed)
        return process

    def find(self, process: Process, user: Object, name: str) -> NeededLibrary:
        """What *name* would be for *user* in *process*, without loading it."""
        return self._map(process, user, name, enter=False)

    def searched(self, process: Process, user: Object, name: str) -> tuple[str, ...]:
        """Where *user* looks for *name*, in order, each once: folders, the cache; for a name with a slash that path."""
        if "/" in name:
            return tuple(
                found for _, found in self.search.tries(process, user, self.search.expand(process, user, name))
            )
        places = [
            place
            for rule, places in self.search.rules(process, user)
            for place in (places if rule != "cache" else (_CACHE,))
        ]
        return tuple(dict.fromkeys(places))

    def host(self, name: str) -> str | None:
        """What mounts *name* at run time, if the host does."""
        if name not in self._hosts:
            self._hosts[name] = next((why for glob, why in self.allow.items() if fnmatchcase(name, glob)), None)
        return self._hosts[name]

    def notes(self) -> Iterator[str]:
        """What about this image's loader is worth knowing."""
        if not self.files.machine:
            yield f"{self.inventory.platform}: no rules for this platform, so nothing was resolved"
        if self._left < 0:
            yield f"more than {_NEEDS} names to follow: of the later files only their own were resolved"
        if not self.inventory.loader_cache:
            yield "no /etc/ld.so.cache: folders of /etc/ld.so.conf are not searched"
        if self.interpreter and self.files.open(self.interpreter) is None:
            yield f"{self.interpreter}: programs name it as their interpreter, and it is not there"

    def _usual_interpreter(self) -> str | None:
        """What loads a library by itself: the interpreter that most programs of the image name."""
        counted = Counter(elf.interpreter for elf in self.inventory.elfs if elf.interpreter and not self.why_not(elf))
        return counted.most_common(1)[0][0] if counted else None

    def _preloads(self, process: Process) -> list[str]:
        wanted = "" if process.secure else self.env.get("LD_PRELOAD", "")
        return [*re.split(r"[\s:]+", wanted), *re.split(r"[\s:]+", self.inventory.texts.get(_PRELOAD, ""))]

    def _map(self, process: Process, user: Object, name: str, *, enter: bool = True) -> NeededLibrary:
        """As glibc's _dl_map_object: an object that is known by *name* already, else the first file that fits."""
        asked = self.search.expand(process, user, name)
        known = process.names.get(asked)
        if known is not None:
            return NeededLibrary(user=user, name=name, object=known, rule="loaded")
        for rule, found in self.search.tries(process, user, asked):
            opened = self.files.open(found)
            if opened is None:
                continue
            if isinstance(opened, str):
                host = self.host(name)
                return NeededLibrary(
                    user=user, name=name, rule=rule, host=host, wrong=None if host else (found, opened)
                )
            identity, elf = opened
            loaded = process.identities.get(identity)
            if loaded is None:
                loaded = Object(name=asked, found=found, identity=identity, elf=elf, rule=rule, parent=user)
                if enter:
                    self._enter(process, loaded)
            if enter:
                process.names.setdefault(asked, loaded)
            return NeededLibrary(user=user, name=name, object=loaded, rule=rule)
        return NeededLibrary(user=user, name=name, host=self.host(name))

    def _enter(self, process: Process, new: Object) -> None:
        self.search.set_paths(process, new)
        process.objects.append(new)
        if new.identity:
            process.identities[new.identity] = new
        for name in (new.name, new.elf.soname):
            if name:
                process.names.setdefault(name, new)

    def _enter_interpreter(self, process: Process, path: str | None) -> None:
        """The loader is an object of the process too, known by its soname and by what the program calls it."""
        opened = self.files.open(path) if path else None
        if path is None or not isinstance(opened, tuple):
            return
        identity, elf = opened
        process.interpreter = Object(name=path, found=path, identity=identity, elf=elf, rule="path")
        for name in (path, elf.soname):
            if name:
                process.names.setdefault(name, process.interpreter)


def _chain(user: Object | None) -> Iterator[Object]:
    while user is not None:
        yield user
        user = user.parent

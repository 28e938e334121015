"""Hold what is in one image: data only, the same whichever way it was read, and its form on disk.

Paths are absolute, ``/usr/bin/env``; a name that is not UTF-8 is kept by surrogateescape. Sizes are bytes. What could
not be read is None, or absent, and never 0; `faults` says what went wrong where.

The annotations are the check: whatever comes from an image or from disk goes through `read_rows` or `loads`, which
refuse a value that does not fit its column.
"""

from __future__ import annotations

import gc
import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import cache, cached_property
from types import GenericAlias
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta, Struct, structs

SCHEMA = "jetpare.inventory/1"
MAX_LINKS = 40  # as the kernel follows them

Kind = Literal["file", "dir", "link", "device", "fifo", "socket"]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
FileDigest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class File(Struct, frozen=True, gc=False):
    """One name in the merged file system.

    ``hardlink``: the first name, in the order of paths, of the inode that this is another name of; its bytes count
    there. ``target``: of a symbolic link, as it is written. ``digest``: BLAKE2b-256 of the content in hexadecimal,
    where it was worked out: for every non-empty regular file of whose size there are several in the image.
    """

    path: str
    kind: Kind
    size: Count = 0
    mode: Count = 0
    uid: Count = 0
    gid: Count = 0
    target: str | None = None
    hardlink: str | None = None
    digest: FileDigest | None = None

    @property
    def bytes(self) -> int:
        """What this name adds to the image: 0 for further names of a hard link, and for all but regular files."""
        return self.size if self.kind == "file" and self.hardlink is None else 0


class Elf(Struct, frozen=True):
    """One ELF file, by what its headers, dynamic section and sections say (ELF gABI; gnu.org's DT_GNU extensions).

    ``type``: exec, dyn, rel, core. ``machine``: as `uname -m` says it (x86_64, aarch64), else EM_… . ``rpath`` and
    ``runpath``: as written, split at colons. ``strings``: names of shared objects in read-only data that are not in
    ``needed``: what it may dlopen. ``gpu``: of the code in its fat binaries, such as sm_87 (machine code) and
    compute_90 (PTX); None without a fat binary. ``symtab_bytes``, ``debug_bytes``: of .symtab and .strtab, and of
    .debug_*: what strip would take. ``patched``: changed by patchelf or auditwheel, so that strip may break it.
    """

    path: str
    type: str
    machine: str
    bits: Count
    interpreter: str | None = None
    soname: str | None = None
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    versions_needed: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)  # by library: GLIBC_2.34 ...
    versions_defined: tuple[str, ...] = ()
    build_id: str | None = None
    symtab_bytes: Count = 0
    debug_bytes: Count = 0
    patched: bool = False
    gpu: tuple[str, ...] | None = None
    strings: tuple[str, ...] = ()


class Package(Struct, frozen=True):
    """One package of the distribution, from dpkg's database. ``files`` as its list has them, folders left out."""

    name: str
    version: str
    architecture: str
    source: str = ""
    section: str = ""
    priority: str = ""
    essential: bool = False
    auto: bool | None = None  # installed as a dependency only, by apt's extended_states; None where that is not known
    depends: tuple[str, ...] = ()  # each as written, alternatives joined by ' | '; Pre-Depends too
    provides: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


class Distribution(Struct, frozen=True):
    """One Python distribution: a *.dist-info or *.egg-info folder. ``files``: absolute, from RECORD or the like."""

    name: str
    version: str
    location: str  # the folder that holds the dist-info, such as /opt/venv/lib/python3.11/site-packages
    info: str  # the dist-info folder's absolute path
    requires: tuple[str, ...] = ()  # Requires-Dist, as written
    tags: tuple[str, ...] = ()  # wheel tags
    installer: str | None = None
    top_level: tuple[str, ...] = ()  # importable names
    files: tuple[str, ...] | None = None  # None where no list says


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The image's configuration that a container gets."""

    env: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    healthcheck: tuple[str, ...] = ()
    stop_signal: str = ""


class LayerInfo(Struct, frozen=True):
    """One layer from the bottom up. ``size`` as the engine counts it; None where it cannot be paired with the layer."""

    diff_id: str
    size: Count | None
    instruction: str | None
    created: str | None = None


class Mention(Struct, frozen=True):
    """A path of a build that a text file names: where, which line, and the path."""

    path: str
    line: Count
    text: str


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """Everything that was found in one image. ``files`` are in the order of their paths."""

    image_id: str
    platform: str
    how: Literal["container", "stream"]
    settings: Settings
    layers: tuple[LayerInfo, ...]
    files: tuple[File, ...]
    elfs: tuple[Elf, ...] = ()
    packages: tuple[Package, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    loader_dirs: tuple[str, ...] = ()  # of /etc/ld.so.conf and what it includes, in order
    loader_cache: tuple[tuple[str, str], ...] = ()  # (soname, path) of /etc/ld.so.cache, in its order
    interpreters: Mapping[str, str] = field(default_factory=dict)  # executable script -> its #! line, without '#!'
    mentions: tuple[Mention, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)  # small files kept whole, such as /etc/os-release
    faults: tuple[str, ...] = ()  # what could not be read, and why

    @cached_property
    def by_path(self) -> Mapping[str, File]:
        """Every name by its path."""
        return {file.path: file for file in self.files}

    @cached_property
    def elf_by_path(self) -> Mapping[str, Elf]:
        """Every ELF file by its path."""
        return {elf.path: elf for elf in self.elfs}

    @property
    def bytes(self) -> int:
        """The merged file system's size: regular files, hard links once."""
        return sum(file.bytes for file in self.files)

    def real_path(self, path: str) -> str | None:
        """Follow every symbolic link of *path* inside the image; None where it leads nowhere, or in circles.

        Everything that reads an image follows links by this and by `placed`, so that all of it agrees. A folder that
        was looked up once is kept.
        """
        folder, slash, name = path.rpartition("/")
        start = self._followed_folder(folder) if slash else _ROOT
        found = start and self._follow(*start, [name])
        return found[0] if found else None

    def placed(self, path: str) -> str:
        """Follow the links among the folders of *path*, not its last name, which need not exist: as dpkg means a path.

        A path whose folder is not there is returned as it is.
        """
        folder, _, name = path.rpartition("/")
        found = self._followed_folder(folder)
        return posixpath.join(found[0], name) if found else path

    def program(self, name: str) -> str | None:
        """Return the real path of a program: of a path itself, or of a name on the image's own PATH."""
        if name.startswith("/"):
            return self.real_path(name)
        folders = self.settings.env.get("PATH", "").split(":") if name else ()
        places = (self.real_path(posixpath.join(folder or "/", name)) for folder in folders)
        return next((place for place in places if place is not None), None)

    @cached_property
    def _folders(self) -> dict[str, tuple[str, int] | None]:
        return {}

    def _followed_folder(self, folder: str) -> tuple[str, int] | None:
        if folder not in self._folders:
            self._folders[folder] = self._follow(*_ROOT, folder.split("/"))
        return self._folders[folder]

    def _follow(self, done: str, links: int, names: list[str]) -> tuple[str, int] | None:
        """Walk *names* from *done*, a real path that took *links* links so far; the real path, and the links."""
        rest = [name for name in reversed(names) if name]
        while rest:
            name = rest.pop()
            if name in (".", ".."):
                done = posixpath.dirname(done) if name == ".." else done
                continue
            here = posixpath.join(done, name)
            file = self.by_path.get(here)
            if file is None:
                return None
            if file.kind != "link":
                done = here
                continue
            links += 1
            if links > MAX_LINKS or not file.target:
                return None
            done = "/" if file.target.startswith("/") else done
            rest += [step for step in reversed(file.target.split("/")) if step]
        return done, links

    def as_dict(self) -> dict[str, Any]:
        """Return the form on disk (docs/inventory.md): tables of rows, since key names would be most of the bytes."""
        content: dict[str, Any] = {"schema": SCHEMA}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in TABLES:
                rows = [structs.astuple(row) for row in value]
                content[each.name] = {"columns": list(TABLES[each.name].__struct_fields__), "rows": rows}
            else:
                content[each.name] = asdict(value) if isinstance(value, Settings) else value
        return content


_ROOT = ("/", 0)  # a real path, and the links that were followed on the way to it

TABLES: Mapping[str, type[Struct]] = {
    "files": File,
    "elfs": Elf,
    "packages": Package,
    "distributions": Distribution,
    "layers": LayerInfo,
    "mentions": Mention,
}
Pairs = list[tuple[str, str]]
LISTS: Mapping[str, Any] = {
    "loader_dirs": list[str],
    "loader_cache": Pairs,
    "interpreters": Pairs,
    "texts": Pairs,
    "faults": list[str],
}
PATHS = ("path", "hardlink")  # columns that hold an absolute path in its shortest form


# --- what comes from outside, checked


def decoded(data: bytes, kind: Any) -> Any:  # noqa: ANN401 - whatever *kind* says
    """Decode JSON as the type *kind*. ValueError where a value does not fit, RecursionError where it is too deep.

    msgspec refuses the escapes of half a surrogate pair, by which a name that is not UTF-8 is written; only what has
    some takes the slower way, and of those only bytes (U+DC80 to U+DCFF) are taken.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    except msgspec.DecodeError:
        content = json.loads(data.decode())
    json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogateescape")  # UnicodeError where it is no byte
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def read_rows(name: str, rows: Any) -> list[Any]:  # noqa: ANN401
    """Make the rows of the table *name* out of what `rows_of` decoded: the inventory's own classes, or plain values."""
    return _made(TABLES[name], rows) if name in TABLES else list(rows)


@cache
def rows_of(name: str) -> Any:  # noqa: ANN401 - a type that is made here
    """The type of the rows of the table *name*, each a list or an object with all its columns. KeyError for another."""
    return LISTS[name] if name in LISTS else _rows_of(TABLES[name])


def check_names(files: Sequence[File], others: Iterable[Elf | Mention]) -> None:
    """ValueError where a name stands twice, or out of order, or is of no file."""
    names = [file.path for file in files]
    there = set(names)
    if len(there) != len(names) or sorted(names) != names:
        raise ValueError("files are not in the order of their paths")
    named = {file.hardlink for file in files} | {each.path for each in others}
    if not named - {None} <= there:
        raise ValueError("names of files that are not there")


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector out of a block: it would go through 100,000 new rows again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@uncollected()
def loads(data: bytes) -> Inventory:
    """Decode the JSON of `Inventory.as_dict`. ValueError for another schema, or where a value does not fit."""
    stored = decoded(data, _stored())
    tables: dict[str, Any] = {}
    for name, kind in TABLES.items():
        table = getattr(stored, name)
        if table.columns != list(kind.__struct_fields__):
            raise ValueError(f"the columns of {name} are not those of this version")
        tables[name] = tuple(_made(kind, table.rows))
    check_names(tables["files"], (*tables["elfs"], *tables["mentions"]))
    return Inventory(
        image_id=stored.image_id,
        platform=stored.platform,
        how=stored.how,
        settings=Settings(**structs.asdict(stored.settings)),
        loader_dirs=tuple(stored.loader_dirs),
        loader_cache=tuple(stored.loader_cache),
        interpreters=stored.interpreters,
        texts=stored.texts,
        faults=tuple(stored.faults),
        **tables,
    )


@cache
def _columns(kind: type) -> type[Struct]:
    """An object with every field of *kind*, which itself would let those with a default be left out."""
    return msgspec.defstruct(kind.__name__, list(get_type_hints(kind, include_extras=True).items()))


@cache
def _rows_of(kind: type[Struct]) -> Any:  # noqa: ANN401 - a type that is made here
    row = GenericAlias(tuple, tuple(get_type_hints(kind, include_extras=True).values()))
    return GenericAlias(list, (row | _columns(kind),))


@cache
def _stored() -> type[Struct]:
    """The type of `Inventory.as_dict`."""
    kinds: dict[str, Any] = {"schema": Literal["jetpare.inventory/1"], "image_id": str, "platform": str}
    kinds |= {"how": Literal["container", "stream"], "settings": _columns(Settings)}
    for name, kind in TABLES.items():
        kinds[name] = msgspec.defstruct(name, [("columns", list[str]), ("rows", _rows_of(kind))])
    kinds |= {**LISTS, "interpreters": dict[str, str], "texts": dict[str, str]}
    return msgspec.defstruct("Stored", list(kinds.items()))


def _made(kind: type[Struct], rows: list[Any]) -> list[Any]:
    made = [kind(*(row if type(row) is tuple else structs.astuple(row))) for row in rows]
    for column in set(PATHS) & set(kind.__struct_fields__):
        for row in made:
            path = getattr(row, column)
            if path is not None and not _is_path(path):
                raise ValueError(f"no path: {path!r:.80}")
    return made


def _is_path(text: str) -> bool:
    if text[:1] != "/" or "//" in text or "\0" in text:
        return False
    return ("/." not in text and text[-1] != "/") or posixpath.normpath(text) == text

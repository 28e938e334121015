"""What is in one image: data only, the same whichever way it was read, and its form on disk.

Paths are absolute, ``/usr/bin/env``; a name that is not UTF-8 is kept by surrogateescape. Sizes are bytes. What could
not be read is None, or absent, and never 0; `faults` says what went wrong where.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

SCHEMA = "jetpare.inventory/1"
MAX_LINKS = 40  # as the kernel follows them

Kind = Literal["file", "dir", "link", "device", "fifo", "socket"]


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One name in the merged file system.

    ``hardlink``: the first name, in the order of paths, of the inode that this is another name of; its bytes count
    there. ``target``: of a symbolic link, as it is written. ``digest``: BLAKE2b-256 of the content in hexadecimal,
    where it was worked out: for every non-empty regular file of whose size there are several in the image.
    """

    path: str
    kind: Kind
    size: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    target: str | None = None
    hardlink: str | None = None
    digest: str | None = None

    @property
    def bytes(self) -> int:
        """What this name adds to the image: 0 for further names of a hard link, and for all but regular files."""
        return self.size if self.kind == "file" and self.hardlink is None else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Elf:
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
    bits: int
    interpreter: str | None = None
    soname: str | None = None
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    versions_needed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by library: GLIBC_2.34 ...
    versions_defined: tuple[str, ...] = ()
    build_id: str | None = None
    symtab_bytes: int = 0
    debug_bytes: int = 0
    patched: bool = False
    gpu: tuple[str, ...] | None = None
    strings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
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


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerInfo:
    """One layer from the bottom up. ``size`` as the engine counts it; None where it cannot be paired with the layer."""

    diff_id: str
    size: int | None
    instruction: str | None
    created: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Mention:
    """A path of a build that a text file names: where, which line, and the path."""

    path: str
    line: int
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
        """*path* with every symbolic link followed inside the image; None where it leads nowhere, or in circles."""
        done, rest, links = "/", [part for part in path.split("/") if part], 0
        while rest:
            part = rest.pop(0)
            if part == "..":
                done = posixpath.dirname(done)
                continue
            if part == ".":
                continue
            here = posixpath.join(done, part)
            file = self.by_path.get(here)
            if file is None:
                return None
            if file.kind == "link":
                links += 1
                if links > MAX_LINKS or not file.target:
                    return None
                done = "/" if file.target.startswith("/") else done
                rest = [step for step in file.target.split("/") if step] + rest
            else:
                done = here
        return done

    def as_dict(self) -> dict[str, Any]:
        """The form on disk (docs/inventory.md): tables of rows, since names of keys would be most of the bytes."""
        content: dict[str, Any] = {"schema": SCHEMA}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in _TABLES:
                columns = [column.name for column in fields(_TABLES[each.name])]
                rows = [[_plain(getattr(row, column)) for column in columns] for row in value]
                content[each.name] = {"columns": columns, "rows": rows}
            else:
                content[each.name] = asdict(value) if isinstance(value, Settings) else _plain(value)
        return content

    def dumps(self) -> str:
        """`as_dict` as JSON in ASCII, so that names that are not UTF-8 survive."""
        return json.dumps(self.as_dict(), separators=(",", ":"))


_TABLES: Mapping[str, type] = {
    "files": File,
    "elfs": Elf,
    "packages": Package,
    "distributions": Distribution,
    "layers": LayerInfo,
    "mentions": Mention,
}


def from_dict(content: Mapping[str, Any]) -> Inventory:
    """The inverse of `Inventory.as_dict`. ValueError for another schema, or a form that does not fit."""
    if content.get("schema") != SCHEMA:
        raise ValueError(f"schema {content.get('schema')!r} is not {SCHEMA!r}")
    try:
        values: dict[str, Any] = {
            each.name: content[each.name] for each in fields(Inventory) if each.name not in _TABLES
        }
        for name, kind in _TABLES.items():
            values[name] = tuple(_rows(kind, content[name]["columns"], content[name]["rows"]))
        values["settings"] = Settings(**{key: _frozen(value) for key, value in content["settings"].items()})
        for name in ("loader_dirs", "loader_cache", "faults"):
            values[name] = _frozen(values[name])
        return Inventory(**values)
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is no inventory: {error!r}") from error


def _rows(kind: type, columns: list[str], rows: list[list[Any]]) -> Iterator[Any]:
    for row in rows:
        yield kind(**{name: _frozen(value) for name, value in zip(columns, row, strict=True)})


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
    return dict(value) if isinstance(value, Mapping) else value


def _frozen(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, list):
        return tuple(_frozen(each) for each in value)
    if isinstance(value, dict):
        return {key: _frozen(each) for key, each in value.items()}
    return value

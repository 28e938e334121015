"""Read what is in a file tree: the tables of an Inventory, as plain rows.

Needs the standard library and pyelftools only, and Python 3.8: `jetpare.xray` sends this file and pyelftools into a
container of the image, where the image's own Python runs it over the real root (`main`). Where there is no such Python
the same functions read the tar stream of `docker export` on the host (`read_tar`). Both make an `Entry` for every name
and a `Look` at every content, and `tables` makes the same rows of them.

Nothing in an image is trusted: whatever is read has a limit, and what goes beyond it is a fault, by name.
"""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import io
import itertools
import json
import mmap
import os
import posixpath
import re
import resource
import stat
import struct
import sys
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, Dict, NamedTuple  # noqa: UP035 - Python 3.8 cannot subscript dict

if TYPE_CHECKING:
    Look = dict[str, Any]
    Table = tuple[str, list[Any]]

CHUNK = 1 << 20
BLOCK = 64 << 10  # of a stream at a time: tarfile copies the rest of it for every header
SMALL = 256 << 10  # a file up to this size is read whole, and searched when it is text
KEPT = 8 << 20  # a file whose content is needed, such as dpkg's status, is read up to this size
ALL_KEPT = 128 << 20  # of all of them together
NAMES = 192 << 20  # bytes of all paths together, 200 more for each
ALL_READ = 256 << 20  # of what was kept, by whatever names; lists of 100,000 files take some 30 MB of it
PART = 100  # bytes of it that each line and each comma costs, since it becomes a string
FOLLOWED = 128 << 20  # characters of paths and of links' targets
INCLUDES = 100  # in the loader's configuration; most have one
TEXT = 64 << 10  # a file that is kept whole in the inventory
ALL_TEXTS = 8 << 20  # of all of them together
ALL_ELVES = 128 << 20  # of what all ELF files say; those of 5 GB of libraries say 0.5 MB
CONTENT = 16 << 30  # a larger file, which can only be a sparse one, is not read
ROWS = 1000  # to a line of output
READS = 250_000  # by pyelftools in one file; libtorch_cuda.so takes some 800
SECTIONS = 20_000  # in one ELF file
FAT_ENTRIES = 500_000  # in one ELF file, and what looks like one; libtorch_cuda.so has some 30,000
FAT_BYTES = 4 << 30  # looked through in all sections of one ELF file
RODATA = 256 << 20  # searched in one ELF file
HITS = 50_000  # looked at in the read-only data of one ELF file
MENTIONS = 5  # of one file
LINKS = 40  # as the kernel follows them

# What an engine mounts or makes in every container: the image's own, if it has any, cannot be seen either way. Docker's
# init layer replaces these files before a container starts, and before it is exported.
ENGINE_TREES = ("proc", "sys", "dev")
ENGINE_FILES = frozenset({"/.dockerenv", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab"})

TEXTS = re.compile(
    r"/etc/(?:os-release|lsb-release|debian_version|nv_tegra_release|ld\.so\.preload)"
    r"|/usr/lib/os-release"
    r"|/usr/share/jetpare/.*"
    r"|/var/lib/dpkg/diversions"
    r"|/usr/local/cuda[^/]*/version\.(?:json|txt)"
    r"|/usr/(?:local/)?include/(?:.*/)?(?:cudnn_version[^/]*|NvInferVersion|gdal_version)\.h"
    r"|.*/torch/version\.py"
)
NEEDED_CONTENT = re.compile(
    r"/etc/(?:.*\.conf|ld\.so\.cache)"
    r"|/var/lib/dpkg/(?:status|status\.d/.*|info/[^/]*\.list)"
    r"|/var/lib/apt/extended_states"
    r"|.*\.dist-info/(?:METADATA|RECORD|WHEEL|INSTALLER|top_level\.txt)"
    r"|.*\.egg-info/(?:PKG-INFO|installed-files\.txt|requires\.txt|top_level\.txt)"
    r"|.*\.egg-info"
)
BUILDER_PLACES = (b"/build", b"/opt/stage/", b"/workspace/", b"/__w/", b"/root/", b"/tmp/", b"/home/runner/")
BUILDER_PATHS = re.compile(
    rb"(?<![\w.~$})/-])(?:/builds?|/opt/stage|/(?:github/)?workspace|/__w|/home/runner"
    rb"|/root(?=/[^.])|/tmp(?=/(?:build|pip-|tmp|uv)[\w.-]*/))/[\w.+@%/-]+"
)
NOT_SEARCHED = re.compile(r"/var/lib/dpkg/.*|/usr/share/(?:doc|man|info|perl|locale)/.*|/tmp/.*|/root/.*")
SO_NAME = re.compile(rb"(?:/[\w.+/-]+/)?lib[\w.+-]+\.so(?:\.[0-9]+)*")

MACHINES = {
    "EM_386": "i686",
    "EM_X86_64": "x86_64",
    "EM_ARM": "armv7l",
    "EM_AARCH64": "aarch64",
    "EM_PPC64": "ppc64le",
    "EM_S390": "s390x",
    "EM_RISCV": "riscv64",
}
ELF_TYPES = {"ET_EXEC": "exec", "ET_DYN": "dyn", "ET_REL": "rel", "ET_CORE": "core"}
ELF_MAGIC = b"\x7fELF"
KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFIFO: "fifo",
}


class Entry(NamedTuple):
    """One name. ``inode``: what names of the same file have in common, None where there is but one."""

    path: str
    kind: str
    size: int
    mode: int
    uid: int
    gid: int
    target: str | None
    inode: Any


ROOT_ENTRY = Entry("/", "dir", 0, 0o755, 0, 0, None, None)  # `docker export` does not tell of it


def is_engines(path: str) -> bool:
    """Whether a container's engine, and not its image, put *path* there."""
    return path in ENGINE_FILES or path.split("/", 2)[1] in ENGINE_TREES


# --- a real tree


def scan(root: str, faults: list[str]) -> list[Entry]:
    """Every name below *root*, which stands for /. Sockets are left out: no image can hold one."""
    entries, folders, room = [ROOT_ENTRY], ["/"], NAMES
    while folders and room > 0:
        folder = folders.pop()
        try:
            with os.scandir(root + folder) as found:
                for each in found:
                    path = posixpath.join(folder, each.name)
                    if is_engines(path):
                        continue
                    entry = _entry(path, each)
                    if entry is not None:
                        entries.append(entry)
                        room -= len(path) + 200
                        if entry.kind == "dir":
                            folders.append(path)
        except OSError as error:
            faults.append(f"{folder}: {error.strerror}")
    if room <= 0:
        raise ValueError(f"more than {len(entries)} names")
    return entries


def _entry(path: str, found: os.DirEntry[str]) -> Entry | None:
    status = found.stat(follow_symlinks=False)
    kind = KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    return Entry(
        path=path,
        kind=kind,
        size=status.st_size if kind == "file" else 0,
        mode=0o777 if kind == "link" else stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        target=os.readlink(found.path) if kind == "link" else None,  # noqa: PTH115 - a Path would cost more than the call
        inode=(status.st_dev, status.st_ino) if status.st_nlink > 1 and kind != "dir" else None,
    )


def first_names(entries: Iterable[Entry]) -> dict[Any, str]:
    """The first name, in the order of paths, of everything that has several."""
    first: dict[Any, str] = {}
    for entry in entries:
        if entry.inode is not None and (entry.inode not in first or entry.path < first[entry.inode]):
            first[entry.inode] = entry.path
    return first


def contents(entries: Iterable[Entry]) -> list[Entry]:
    """The entries that have content: regular files that are not empty, by their first name."""
    entries = list(entries)
    first = first_names(entries)
    return [e for e in entries if e.kind == "file" and e.size and (e.inode is None or first[e.inode] == e.path)]


def shared_sizes(files: Iterable[Entry]) -> set[int]:
    """Sizes that several files have: their digests tell whether they are equal."""
    once: set[int] = set()
    several: set[int] = set()
    for file in files:
        (several if file.size in once else once).add(file.size)
    return several


def look_all(root: str, files: list[Entry], tell: Callable[[int], None]) -> dict[str, Look]:
    """A look at each of *files*, by as many processes as there are processors."""
    global _JOB  # noqa: PLW0603 - forked processes inherit it, which costs nothing
    _JOB = (root, files, shared_sizes(files))
    # The large ones first, so that none of them is begun last; the small ones in handfuls.
    order = sorted(range(len(files)), key=lambda index: -files[index].size)
    large = [index for index in order if files[index].size > CHUNK]
    small = order[len(large) :]
    jobs = [[index] for index in large] + [small[start : start + 200] for start in range(0, len(small), 200)]
    looks = Looks()
    for done in _in_processes(_look_some, jobs):
        for path, seen in done.items():
            looks.add(path, seen)
        tell(len(looks))
    return looks


class Looks(Dict[str, Any]):  # noqa: UP006
    """What was seen by path; contents, and what ELF files say, are kept as long as there is room for them."""

    room = ALL_KEPT
    elves = ALL_ELVES

    def add(self, path: str, seen: Look) -> None:
        """Keep *seen*, without its content or what its ELF headers say where there is no room left."""
        content = seen.get("content")
        if content is not None:
            self.room -= len(content)
            if self.room < 0:
                del seen["content"]
                seen["faults"] = [*seen.get("faults", ()), "not kept, there is too much of its kind"]
        if "elf" in seen:
            self.elves -= len(json.dumps(seen["elf"]))
            if self.elves < 0:
                del seen["elf"]
                seen["faults"] = [*seen.get("faults", ()), "not kept, ELF files say too much"]
        self[path] = seen


_JOB: tuple[str, list[Entry], set[int]] = ("", [], set())


def _look_some(indexes: list[int]) -> dict[str, Look]:
    root, files, sizes = _JOB
    looks = {}
    for entry in (files[index] for index in indexes):
        try:
            with open(root + entry.path, "rb", buffering=0) as file:  # noqa: PTH123 - names that are not UTF-8, fast
                looks[entry.path] = look(entry, file, digest=entry.size in sizes)
        except OSError as error:
            looks[entry.path] = {"faults": [str(error.strerror)]}
    return looks


def _in_processes(work: Callable[[Any], Any], jobs: list[Any]) -> Iterator[Any]:
    count = min(len(os.sched_getaffinity(0)), len(jobs), 8)
    try:
        from multiprocessing import get_context

        pool = get_context("fork").Pool(count) if count > 1 else None
    except (ImportError, OSError, ValueError):  # a Python without it, no /dev/shm, no threads left
        pool = None
    if pool is None:
        yield from map(work, jobs)
        return
    with pool:
        yield from pool.imap_unordered(work, jobs)


# --- a stream


def read_tar(
    file: IO[bytes], tell: Callable[[int], None], folder: str | None = None
) -> tuple[list[Entry], dict[str, Look]]:
    """The same as `scan` and `look_all` from what `docker export` gives; large ELF files go through *folder*.

    Everything is read once and in order, so each content gets its digest; `tables` drops those that nothing needs.
    """
    entries: dict[str, Entry] = {"/": ROOT_ENTRY}
    looks, room = Looks(), NAMES
    with tarfile.open(fileobj=file, mode="r|", bufsize=BLOCK, encoding="utf-8", errors="surrogateescape") as opened:
        archive: Any = opened
        for member in archive:
            archive.members = []  # tarfile keeps every member otherwise
            path = posixpath.normpath("/" + member.name.lstrip("/"))
            if path == "/" or is_engines(path):
                continue
            room -= len(path) + 200
            if room < 0:
                raise tarfile.TarError(f"more than {len(entries)} names")
            entry = _tar_entry(path, member, entries)
            entries[path] = entry
            if member.isreg() and entry.size:
                looks.add(path, _look_in_tar(entry, archive.extractfile(member), folder))
                tell(len(looks))
    everything = list(entries.values())
    first = first_names(everything)
    inodes = {entry.path: entry.inode for entry in everything}
    return everything, {first.get(inodes[path], path): seen for path, seen in looks.items()}


def _tar_entry(path: str, member: tarfile.TarInfo, entries: dict[str, Entry]) -> Entry:
    if member.islnk():
        origin = posixpath.normpath("/" + member.linkname.lstrip("/"))
        if origin in entries:
            entry = entries[origin]
            inode = entry.inode or origin
            entries[origin] = entry._replace(inode=inode)
            return entry._replace(path=path, inode=inode)
    kind = (
        "file" if member.isreg() else "dir" if member.isdir() else "link" if member.issym() else
        "fifo" if member.isfifo() else "device"
    )  # fmt: skip
    return Entry(
        path=path,
        kind=kind,
        size=member.size if kind == "file" else 0,
        mode=0o777 if kind == "link" else stat.S_IMODE(member.mode),
        uid=member.uid,
        gid=member.gid,
        target=member.linkname if kind == "link" else None,
        inode=None,
    )


def _look_in_tar(entry: Entry, file: IO[bytes] | None, folder: str | None) -> Look:
    if file is None:
        return {}
    head = file.read(min(entry.size, CHUNK))
    in_memory = io.BytesIO(head)
    if entry.size <= CHUNK or entry.size > CONTENT:
        return look(entry, in_memory, digest=True)
    if head[:4] != ELF_MAGIC and not is_kept(entry.path):
        return {**look(entry, in_memory), "digest": _digest(_chain(head, file))}
    with tempfile.TemporaryFile(dir=folder) as spool:
        spool.writelines(_chain(head, file))
        spool.flush()
        return look(entry, spool, digest=True)


def _chain(head: bytes, file: IO[bytes]) -> Iterator[bytes]:
    yield head
    yield from iter(lambda: file.read(CHUNK), b"")


# --- one file's content


def is_kept(path: str) -> bool:
    """Whether the content of the file *path* is needed beyond a look at it."""
    return NEEDED_CONTENT.fullmatch(path) is not None or TEXTS.fullmatch(path) is not None


def look(entry: Entry, file: IO[bytes], *, digest: bool = False) -> Look:
    """What the content says: {"digest", "elf", "script", "mentions", "content", "faults"}, what there is of them."""
    seen: Look = {}
    if entry.size > CONTENT:
        return {"faults": [f"{entry.size} bytes are too many to be read"]}
    data = _at(file, 0, entry.size if entry.size <= SMALL else 512)
    if digest:
        file.seek(0)
        whole = len(data) == entry.size
        seen["digest"] = _digest([data] if whole else iter(lambda: file.read(CHUNK), b""))
    if is_kept(entry.path):
        if entry.size <= KEPT:
            seen["content"] = _at(file, 0, entry.size)
        else:
            seen["faults"] = [f"{entry.size} bytes are too many to be read"]
    if data[:4] == ELF_MAGIC:
        try:
            seen["elf"] = read_elf(file)
        except Exception as error:  # noqa: BLE001 - pyelftools answers a broken file with whatever it meets first
            words = " ".join(str(error).split())[:200]
            seen.setdefault("faults", []).append(f"this ELF file cannot be read ({type(error).__name__}: {words})")
        return seen
    if data[:2] == b"#!" and entry.mode & 0o111:
        seen["script"] = data[2:512].split(b"\n")[0].decode("utf-8", "surrogateescape").strip()
    if len(data) == entry.size and any(place in data for place in BUILDER_PLACES):
        found = [] if b"\0" in data or NOT_SEARCHED.fullmatch(entry.path) else list(mentions(data))
        if found:
            seen["mentions"] = found
    return seen


def _at(file: IO[bytes], offset: int, size: int) -> bytes:
    """*size* bytes from *offset* on, fewer where the file ends."""
    file.seek(offset)
    data = file.read(size)
    while len(data) < size:  # a file that is not buffered may give less at a time
        part = file.read(size - len(data))
        if not part:
            break
        data += part
    return data


def _digest(chunks: Iterable[bytes]) -> str:
    made = hashlib.blake2b(digest_size=32)
    for chunk in chunks:
        made.update(chunk)
    return made.hexdigest()


def mentions(data: bytes) -> Iterator[tuple[int, str]]:
    """(line, path) of the paths of a build that the text *data* names, the first few of them."""
    for match in itertools.islice(BUILDER_PATHS.finditer(data), MENTIONS):
        yield data.count(b"\n", 0, match.start()) + 1, match[0][:300].decode("utf-8", "surrogateescape")


# --- ELF


class _Bounded:
    """A file for pyelftools that ends a hostile table: too many reads, or one too large, are an error."""

    def __init__(self, file: Any) -> None:  # noqa: ANN401 - BytesIO or mmap
        self._file = file
        self._left = READS
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        self._left -= 1
        if self._left < 0 or not 0 <= size <= CHUNK:
            raise ValueError("its tables are larger than is read")
        data: bytes = self._file.read(size)
        return data


def read_elf(file: IO[bytes]) -> dict[str, Any]:
    """The columns of an Elf, without its path. Raises whatever pyelftools answers a broken file with."""
    if isinstance(file, io.BytesIO):
        return _read_elf(file, file)
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return _read_elf(mapped, file)


def _read_elf(stream: Any, file: IO[bytes]) -> dict[str, Any]:  # noqa: ANN401
    from elftools.elf.elffile import ELFFile

    bounded: Any = _Bounded(stream)
    elf = ELFFile(bounded)
    count = elf.num_sections()
    if count > SECTIONS:
        raise ValueError(f"{count} sections")
    sections = list(elf.iter_sections()) if elf["e_shoff"] else []
    dynamic = _dynamic(elf, sections)
    needed = dynamic.get("DT_NEEDED", [])
    machine = elf["e_machine"]
    size = {section.name: 0 if section["sh_type"] == "SHT_NOBITS" else section["sh_size"] for section in sections}
    rodata = [s for s in sections if s.name.startswith(".rodata") and s["sh_type"] != "SHT_NOBITS"]
    fat = _fat_sections(sections)
    return {
        "type": ELF_TYPES.get(elf["e_type"], str(elf["e_type"])),
        "machine": MACHINES.get(machine, str(machine)),
        "bits": elf.elfclass,
        "interpreter": next((segment.get_interp_name() for segment in _segments(elf, "PT_INTERP")), None),
        "soname": next(iter(dynamic.get("DT_SONAME", [])), None),
        "needed": needed,
        "rpath": _paths(dynamic.get("DT_RPATH")),
        "runpath": _paths(dynamic.get("DT_RUNPATH")),
        "versions_needed": _versions_needed(sections),
        "versions_defined": _versions_defined(sections),
        "build_id": _build_id(sections),
        "symtab_bytes": size.get(".symtab", 0) + size.get(".strtab", 0),
        "debug_bytes": sum(each for name, each in size.items() if name.startswith((".debug_", ".zdebug_"))),
        "patched": _is_patched(elf, sections),
        "gpu": gpu_architectures(file, fat) if fat else None,
        "strings": [name for name in _so_names(file, rodata) if name not in needed],
    }


def _segments(elf: Any, kind: str) -> Iterator[Any]:  # noqa: ANN401
    return iter(elf.iter_segments(kind))


def _dynamic(elf: Any, sections: list[Any]) -> dict[str, list[str]]:  # noqa: ANN401
    """The strings of the dynamic section: of its section, or of its segment in a file without sections."""
    names = {"DT_NEEDED": "needed", "DT_SONAME": "soname", "DT_RPATH": "rpath", "DT_RUNPATH": "runpath"}
    found: dict[str, list[str]] = defaultdict(list)
    tables = [section for section in sections if section["sh_type"] == "SHT_DYNAMIC"]
    for table in tables[:1] or _segments(elf, "PT_DYNAMIC"):
        for tag in table.iter_tags():
            name = tag.entry.d_tag
            if name in names:
                found[name].append(getattr(tag, names[name]))
    return found


def _paths(values: list[str] | None) -> list[str]:
    return [path for value in values or [] for path in value.split(":")]


def _versions_needed(sections: list[Any]) -> dict[str, list[str]]:
    tables = [section for section in sections if section["sh_type"] == "SHT_GNU_verneed"]
    return {need.name: [aux.name for aux in auxes] for table in tables for need, auxes in table.iter_versions()}


def _versions_defined(sections: list[Any]) -> list[str]:
    tables = [section for section in sections if section["sh_type"] == "SHT_GNU_verdef"]
    base = 1  # VER_FLG_BASE: the library's own name
    return [
        next(iter(auxes)).name
        for table in tables
        for version, auxes in table.iter_versions()
        if not version["vd_flags"] & base
    ]


def _build_id(sections: list[Any]) -> str | None:
    for section in sections:
        if section.name == ".note.gnu.build-id" and section["sh_type"] == "SHT_NOTE":
            for note in section.iter_notes():
                if note["n_type"] == "NT_GNU_BUILD_ID":
                    return str(note["n_desc"])
    return None


def _is_patched(elf: Any, sections: list[Any]) -> bool:  # noqa: ANN401
    """Whether patchelf moved something: linkers put .dynstr before the code, the program headers after the header."""
    address = {section.name: section["sh_addr"] for section in sections}
    moved = 0 < address.get(".text", 0) < address.get(".dynstr", 0)
    return moved or bool(elf["e_phnum"] and elf["e_phoff"] != elf["e_ehsize"])


FAT_MAGIC = b"\x50\xed\x55\xba"
FAT_HEADER = struct.Struct("<IHHQ")  # magic, version, size of this header, size of what follows
FAT_ENTRY = struct.Struct("<HHIQIIHHI")  # kind, ?, size of this header, size of the payload, ?, ?, minor, major, arch
FAT_KINDS = {1: "compute", 2: "sm"}  # PTX, machine code; both may be compressed, their headers are not


def _fat_sections(sections: list[Any]) -> list[tuple[int, int]]:
    """(offset, size) of the sections that may hold fat binaries, in a file that has any; of huge ones the beginning."""
    names = {section.name for section in sections}
    if not names & {".nv_fatbin", "__nv_relfatbin"}:
        return []
    holders = (".nv_fatbin", "__nv_relfatbin", ".data", ".rodata", ".cask_resource")
    found, room = [], FAT_BYTES
    for section in sections:
        if section.name.startswith(holders) and section["sh_type"] != "SHT_NOBITS":
            size = min(section["sh_size"], room)
            room -= size
            found.append((section["sh_offset"], size))
    return found


def gpu_architectures(file: IO[bytes], sections: list[tuple[int, int]]) -> list[str]:
    """The architectures in the fat binaries of *sections* (offset, size), such as sm_87, without reading their code.

    A fat binary is a header and entries that have headers of their own. A section for them is a chain of such; cuFFT
    has its kernels among its data. The layout is that of CUDA's fatbinary_section.h and `cuobjdump --list-elf`.
    """
    found: set[tuple[str, int]] = set()
    left = FAT_ENTRIES
    for start, size in sections:
        position, end = start, start + size
        while position < end:
            position = _find_magic(file, position, end)
            head = _at(file, position, FAT_HEADER.size)
            if position >= end or len(head) < FAT_HEADER.size:
                break
            left -= 1
            if left < 0:
                raise ValueError(f"more than {FAT_ENTRIES} entries in its fat binaries")
            _, version, header, length = FAT_HEADER.unpack(head)
            if version != 1 or header < FAT_HEADER.size or position + header + length > end:
                position += len(FAT_MAGIC)
                continue
            entry, position = position + header, position + header + length
            while entry + FAT_ENTRY.size <= position:
                left -= 1
                if left < 0:
                    raise ValueError(f"more than {FAT_ENTRIES} entries in its fat binaries")
                kind, _, header, payload, _, _, _, _, arch = FAT_ENTRY.unpack(_at(file, entry, FAT_ENTRY.size))
                if kind in FAT_KINDS and arch:
                    found.add((FAT_KINDS[kind], arch))
                entry += max(header + payload, FAT_ENTRY.size)
    return [f"{kind}_{arch}" for kind, arch in sorted(found, key=lambda each: (each[1], each[0]))]


def _find_magic(file: IO[bytes], position: int, end: int) -> int:
    """Where the next fat binary begins, *end* where there is none. In a chain that is here, or after some padding."""
    size = 64
    while position < end:
        block = _at(file, position, min(size, end - position))
        found = block.find(FAT_MAGIC)
        if found >= 0:
            return position + found
        if len(block) <= len(FAT_MAGIC):
            break
        position += len(block) - len(FAT_MAGIC) + 1
        size = min(4 * size, CHUNK)
    return end


def _so_names(file: IO[bytes], sections: list[Any]) -> list[str]:
    """Strings in read-only data that are the name of a shared object and nothing else: dlopen takes such."""
    found: set[bytes] = set()
    hits, room, overlap = HITS, RODATA, 1024
    for section in sections:
        position, end = section["sh_offset"], section["sh_offset"] + section["sh_size"]
        tail = b"\0"
        while position < end and room > 0:
            part = _at(file, position, min(CHUNK, end - position))
            if not part:
                break
            position += len(part)
            room -= len(part)
            block = tail + part
            at = block.find(b".so")
            while at >= 0 and hits > 0:
                hits -= 1
                begin, stop = block.rfind(b"\0", max(0, at - overlap), at), block.find(b"\0", at, at + overlap)
                if begin >= 0 and stop > 0 and SO_NAME.fullmatch(block, begin + 1, stop):
                    found.add(block[begin + 1 : stop])
                at = block.find(b".so", at + 3)
            tail = block[-overlap:]
    return sorted(name.decode("ascii", "replace") for name in found)


# --- everything together


def tables(entries: list[Entry], looks: dict[str, Look], faults: list[str]) -> Iterator[Table]:
    """The tables of an Inventory, as (name, rows); rows of the order of its columns, or objects with named columns."""
    first = first_names(entries)
    files = contents(entries)
    several = shared_sizes(files)
    digests = {file.path: looks.get(file.path, {}).get("digest") for file in files if file.size in several}
    entries = sorted(entries, key=lambda entry: entry.path)
    yield "files", [_file_row(entry, first, digests) for entry in entries]

    tree = Tree(entries, {path: seen["content"] for path, seen in looks.items() if "content" in seen})
    yield "elfs", [_elf_row(path, looks[path]["elf"]) for path in sorted(looks) if "elf" in looks[path]]
    yield "packages", list(packages(tree, faults))
    yield "distributions", list(distributions(tree, faults))
    yield "loader_dirs", loader_dirs(tree)
    yield "loader_cache", loader_cache(tree.read("/etc/ld.so.cache") or b"", faults)
    yield "interpreters", [[path, looks[path]["script"]] for path in sorted(looks) if "script" in looks[path]]
    yield (
        "mentions",
        [[path, line, text] for path in sorted(looks) for line, text in looks[path].get("mentions", ())],
    )
    yield "texts", list(texts(tree, faults))
    yield (
        "faults",
        faults
        + tree.faults
        + [f"{path}: {fault}" for path in sorted(looks) for fault in looks[path].get("faults", ())],
    )


def _file_row(entry: Entry, first: dict[Any, str], digests: dict[str, str | None]) -> list[Any]:
    name = entry.path if entry.inode is None else first[entry.inode]
    return [*entry[:7], None if name == entry.path else name, digests.get(name)]


def _elf_row(path: str, elf: dict[str, Any]) -> dict[str, Any]:
    """With its path; auditwheel uses patchelf on all that it puts into a *.libs folder."""
    return {"path": path, **elf, "patched": elf["patched"] or ".libs/" in path}


class Tree:
    """Names, links and the contents that were kept, with links followed inside the image."""

    def __init__(self, entries: Iterable[Entry], content: dict[str, bytes]) -> None:
        self.content = content
        self.kinds: dict[str, str] = {}
        self.links: dict[str, str] = {}
        first: dict[Any, str] = {}
        self._same: dict[str, str] = {}
        for entry in entries:  # in the order of paths
            self.kinds[entry.path] = entry.kind
            if entry.target is not None:
                self.links[entry.path] = entry.target
            if entry.inode is not None:
                self._same[entry.path] = first.setdefault(entry.inode, entry.path)
        self._folders: dict[str, str | None] = {"/": "/"}
        self._room = {"bytes": ALL_READ, "characters": FOLLOWED, "includes": INCLUDES}
        self.faults: list[str] = []

    def spend(self, what: str, amount: int) -> bool:
        """Take *amount* of the room for *what*; False, and a fault the first time, where there is no more."""
        had = self._room[what]
        self._room[what] = left = max(had - amount, -1)
        if left < 0 <= had:
            self.faults.append(f"/: some lists and links were not followed, they have too many {what}")
        return left >= 0

    def real(self, path: str) -> str | None:
        """*path* with links followed; None where they lead in circles. It need not exist."""
        folder, name = posixpath.split(path)
        if folder not in self._folders:
            self._folders[folder] = self._walk(folder)
        above = self._folders[folder]
        here = None if above is None else posixpath.join(above, name)
        return self._walk(here) if here in self.links else here

    def _walk(self, path: str | None) -> str | None:
        done, rest, hops = "/", [step for step in (path or "").split("/") if step][::-1], 0
        if not self.spend("characters", len(path or "")):
            return None
        while rest:
            step = rest.pop()
            if step in (".", ".."):
                done = posixpath.dirname(done) if step == ".." else done
                continue
            here = posixpath.join(done, step)
            target = self.links.get(here)
            if target is None:
                done = here
                continue
            hops += 1
            if hops > LINKS:
                return None
            done = "/" if target.startswith("/") else done
            rest += [step for step in target.split("/") if step][::-1]
            if not self.spend("characters", len(target)):
                return None
        return done

    def read(self, path: str) -> bytes | None:
        """The content of the file *path*, if it was kept."""
        real = self.real(path)
        content = None if real is None else self.content.get(self._same.get(real, real))
        if content is None or not self.spend(
            "bytes", len(content) + PART * (content.count(b"\n") + content.count(b","))
        ):
            return None
        return content

    def text(self, path: str) -> str:
        """The same as text; empty where there is none."""
        return _decoded(self.read(path) or b"")

    def is_folder(self, path: str) -> bool:
        """Whether *path* is a folder, or a link to one."""
        real = self.real(path)
        return real is not None and self.kinds.get(real) == "dir"


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def fields(text: str) -> Iterator[list[tuple[str, str]]]:
    """The paragraphs of a control file (Debian policy 5.1; METADATA and WHEEL begin the same), each (key, value)."""
    paragraph: list[tuple[str, list[str]]] = []
    for line in itertools.chain(text.split("\n"), ("",)):
        if not line.strip():
            if paragraph:
                yield [(key, "\n".join(lines)) for key, lines in paragraph]
            paragraph = []
        elif line[0] in " \t":
            if paragraph:
                paragraph[-1][1].append(line.strip())
        else:
            key, _, value = line.partition(":")
            paragraph.append((key.strip().lower(), [value.strip()]))


# --- packages of the distribution


def packages(tree: Tree, faults: list[str]) -> Iterator[dict[str, Any]]:
    """What dpkg's database says is installed; the form with a file for each package, in status.d, too."""
    states = tree.read("/var/lib/apt/extended_states")
    marks = {
        (row.get("package"), row.get("architecture")): row.get("auto-installed") == "1"
        for row in map(dict, fields(_decoded(states or b"")))
    }
    status = [dict(row) for row in fields(tree.text("/var/lib/dpkg/status"))]
    for path in sorted(tree.content):
        if path.startswith("/var/lib/dpkg/status.d/") and not path.endswith(".md5sums"):
            status += [{**dict(row), "status": "installed", "list": path} for row in fields(tree.text(path))]
    for row in status:
        if "package" in row and row.get("status", "").split(" ")[-1] == "installed":
            auto = marks.get((row["package"], row.get("architecture")), False)
            yield _package(tree, row, auto=None if states is None else auto, faults=faults)


def _package(tree: Tree, row: dict[str, str], *, auto: bool | None, faults: list[str]) -> dict[str, Any]:
    name, architecture = row["package"], row.get("architecture", "")
    info = "/var/lib/dpkg/info/"
    lists = [f"{info}{name}:{architecture}.list", f"{info}{name}.list"]
    known = next((content for content in map(tree.read, lists) if content is not None), None)
    found = None if known is None else _decoded(known).split("\n")
    if found is None and "list" in row:
        found = ["/" + line.split(None, 1)[-1] for line in tree.text(row["list"] + ".md5sums").split("\n") if line]
    if found is None and not any(tree.kinds.get(path) == "file" for path in lists):
        faults.append(f"/var/lib/dpkg/status: {name} has no list of its files")
    paths = [path for path in found or [] if path.startswith("/") and path != "/."]
    folders = {posixpath.dirname(path) for path in paths}
    return {
        "name": name,
        "version": row.get("version", ""),
        "architecture": architecture,
        "source": row.get("source", "").split(" ")[0] or name,
        "section": row.get("section", ""),
        "priority": row.get("priority", ""),
        "essential": row.get("essential") == "yes",
        "auto": auto,
        "depends": [*_relations(row.get("pre-depends", "")), *_relations(row.get("depends", ""))],
        "provides": _relations(row.get("provides", "")),
        "files": [path for path in paths if path not in folders and not tree.is_folder(path)],
    }


def _relations(value: str) -> list[str]:
    return [" ".join(each.split()) for each in value.split(",") if each.strip()]


# --- Python distributions


def distributions(tree: Tree, faults: list[str]) -> Iterator[dict[str, Any]]:
    """Every *.dist-info and *.egg-info, wherever it stands."""
    for path in sorted(tree.kinds):
        if path.endswith(".dist-info") and tree.kinds[path] == "dir":
            yield from _distribution(tree, path, f"{path}/METADATA", faults)
        elif path.endswith(".egg-info"):
            yield from _distribution(tree, path, path if tree.kinds[path] == "file" else f"{path}/PKG-INFO", faults)


def _distribution(tree: Tree, info: str, metadata: str, faults: list[str]) -> Iterator[dict[str, Any]]:
    location = posixpath.dirname(info)
    head = next(fields(tree.text(metadata).replace("\r\n", "\n")), [])
    values = dict(reversed(head))
    if not values.get("name"):
        faults.append(f"{info}: no name in {posixpath.basename(metadata)}")
        return
    files = _record(tree, info, location, faults)
    wheel = next(fields(tree.text(f"{info}/WHEEL")), [])
    requires = [value for key, value in head if key == "requires-dist"]
    yield {
        "name": values["name"],
        "version": values.get("version", ""),
        "location": location,
        "info": info,
        "requires": requires or _egg_requires(tree.text(f"{info}/requires.txt")),
        "tags": [value for key, value in wheel if key == "tag"],
        "installer": tree.text(f"{info}/INSTALLER").strip() or None,
        "top_level": tree.text(f"{info}/top_level.txt").split() or _top_level(location, files or ()),
        "files": files,
    }


def _record(tree: Tree, info: str, location: str, faults: list[str]) -> list[str] | None:
    """Absolute paths of a distribution's files: from RECORD, or from installed-files.txt (relative to the egg-info)."""
    listed = tree.text(f"{info}/installed-files.txt").split("\n")
    rows = [posixpath.join(info, line) for line in listed if line and tree.spend("bytes", len(info))]
    record = tree.read(f"{info}/RECORD")
    if record is not None:
        rows, bad = [], 0
        try:
            for row in csv.reader(io.StringIO(_decoded(record).replace("\0", "�"), newline="")):
                good = len(row) == 3 and row[0] and "�" not in row[0]  # noqa: PLR2004 - path, hash, size
                if good and tree.spend("bytes", len(location)):
                    rows.append(posixpath.join(location, row[0]))
                else:
                    bad += bool(row)
        except csv.Error:
            bad += 1
        if bad:
            faults.append(f"{info}/RECORD: {bad} rows that are no path, hash and size")
    elif not rows:
        return None
    return sorted({posixpath.normpath(row) for row in rows})


def _egg_requires(text: str) -> list[str]:
    return [line for line in text.partition("[")[0].split("\n") if line.strip()]


def _top_level(location: str, files: Iterable[str]) -> list[str]:
    """Names that can be imported, from the first step of each file's path."""
    names = set()
    for path in files:
        if path.startswith(location + "/"):
            step, _, rest = path[len(location) + 1 :].partition("/")
            name = step if rest else step.split(".")[0] if step.endswith((".py", ".so")) else ""
            if name.isidentifier() and name != "__pycache__":
                names.add(name)
    return sorted(names)


# --- the loader


def loader_dirs(tree: Tree) -> list[str]:
    """The folders that /etc/ld.so.conf and what it includes name, one to a line, in their order (ldconfig(8))."""
    found: list[str] = []
    waiting, seen = ["/etc/ld.so.conf"], set()
    while waiting:
        conf = waiting.pop()
        if conf.startswith(ADD):
            found.append(conf[len(ADD) :])
        elif conf not in seen:
            seen.add(conf)
            waiting += _steps(tree, conf)[::-1]
    return list(dict.fromkeys(found))


ADD = "add "


def _steps(tree: Tree, conf: str) -> list[str]:
    """What the lines of *conf* say: files to read next, and folders, each after `ADD`."""
    steps = []
    for line in tree.text(conf).split("\n"):
        words = line.partition("#")[0].split()
        if words[:1] == ["include"]:
            for pattern in words[1:]:
                if not tree.spend("includes", 1):
                    break
                absolute = posixpath.join(posixpath.dirname(conf), pattern)
                steps += sorted(each for each in tree.kinds if _matches(each, absolute))
        elif words and words[0] != "hwcap":
            steps.append(ADD + (" ".join(words).partition("=")[0].rstrip("/") or "/"))
    return steps


def _matches(path: str, pattern: str) -> bool:
    """As glob(7): a star stands for no slash."""
    return path.count("/") == pattern.count("/") and fnmatch.fnmatchcase(path, pattern)


CACHE_MAGIC = b"glibc-ld.so.cache1.1"
CACHED = 16_000  # files in it; a full system has some 3,000
PATH = 4096  # PATH_MAX of limits.h


def loader_cache(data: bytes, faults: list[str]) -> list[list[str]]:
    """(soname, path) of /etc/ld.so.cache in its order: the format since glibc 2.2, alone or after the older one.

    struct cache_file_new: magic, nlibs, len_strings, flags, 3 bytes, extensions, 12 bytes; then 24 bytes for each:
    flags, key, value, osversion, hwcap, where key and value are places in the file, from the magic on.
    """
    start = data.find(CACHE_MAGIC)
    if start < 0:
        if data:
            faults.append("/etc/ld.so.cache: not of a format that is known")
        return []
    data = data[start:]
    for order in "<>":
        if len(data) >= 48:  # noqa: PLR2004 - the header
            count, length = struct.unpack_from(order + "II", data, 20)
            if count <= CACHED and 48 + count * 24 + length <= len(data):
                rows = [struct.unpack_from(order + "iII", data, 48 + 24 * index) for index in range(count)]
                return [[_c_string(data, key), _c_string(data, value)] for _, key, value in rows]
    faults.append("/etc/ld.so.cache: shorter than it says, or of too many files")
    return []


def _c_string(data: bytes, start: int) -> str:
    return data[start : start + PATH].partition(b"\0")[0].decode("utf-8", "surrogateescape")


def texts(tree: Tree, faults: list[str]) -> Iterator[list[str]]:
    """(path, content) of the small files that are kept whole, by every name that they have."""
    room = ALL_TEXTS
    for path in sorted(tree.kinds):
        if tree.kinds[path] in ("file", "link") and TEXTS.fullmatch(path):
            content = tree.read(path)
            room -= 0 if content is None or len(content) > TEXT else len(content)
            if room < 0:
                faults.append(f"{path}: the last of too many files to be kept")
                return
            if content is not None and len(content) <= TEXT:
                yield [path, content.decode("utf-8", "surrogateescape")]
            elif content is not None:
                faults.append(f"{path}: {len(content)} bytes are too many to be kept")


# --- inside a container


def collect(root: str, tell: Callable[[int, int], None]) -> Iterator[Table]:
    """The tables of the tree below *root*, which is '' for the real one."""
    faults: list[str] = []
    entries = scan(root, faults)
    files = contents(entries)
    tell(0, len(files))
    looks = look_all(root, files, lambda done: tell(done, len(files)))
    yield from tables(entries, looks, faults)


def main() -> None:
    """Read / and write the tables to stdout: a line of JSON for each (name, some rows); "end" is the last one.

    It tells of the memory in KiB, of this process and its largest helper, and of the seconds of a processor.
    """
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # nothing else writes there

    def line(name: str, rows: Any) -> None:  # noqa: ANN401
        out.write(json.dumps([name, rows], separators=(",", ":")) + "\n")

    def tell(done: int, total: int) -> None:
        line("progress", [done, total])
        out.flush()

    for name, rows in collect("", tell):
        for start in range(0, len(rows), ROWS):
            line(name, rows[start : start + ROWS])
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    line("end", [sum(each.ru_maxrss for each in used), sum(each.ru_utime + each.ru_stime for each in used)])
    out.flush()
    sys.stderr.flush()

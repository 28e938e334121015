"""Read what is in a file tree: the tables of an Inventory, as plain rows.

Needs only the standard library, pyelftools and Python 3.8: `jetpare.image.read` sends this folder and pyelftools into
a container of the image, where the image's own Python runs `main.main` over the real root. Without such a Python, the
same functions read the tar stream of `docker export` on the host (`read_tar`). Both make a `TreeEntry` for every name
and a `Look` at every content, from which `main.tables` makes the same rows.

Nothing in an image is trusted: whatever is read has a limit, and what goes beyond it is a fault, by name.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import posixpath
import re
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Dict  # noqa: UP035 - Python 3.8 cannot subscript dict

from jetpare.image.collector import limits
from jetpare.image.collector.elf import ELF_MAGIC, read_elf

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


ROOT_ENTRY = limits.TreeEntry("/", "dir", 0, 0o755, 0, 0, None, None)  # `docker export` does not tell of it


def is_engines(path: str) -> bool:
    """Whether a container's engine, and not its image, put *path* there."""
    return path in ENGINE_FILES or path.split("/", 2)[1] in ENGINE_TREES


# --- a real tree


def scan(root: str, faults: list[str]) -> list[limits.TreeEntry]:
    """Every name below *root*, which stands for /. Sockets are left out: no image can hold one."""
    entries, folders, room = [ROOT_ENTRY], ["/"], limits.NAMES
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


def _entry(path: str, found: os.DirEntry[str]) -> limits.TreeEntry | None:
    status = found.stat(follow_symlinks=False)
    kind = limits.KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    return limits.TreeEntry(
        path=path,
        kind=kind,
        size=status.st_size if kind == "file" else 0,
        mode=0o777 if kind == "link" else stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        target=os.readlink(found.path) if kind == "link" else None,  # noqa: PTH115 - a Path would cost more than the call
        inode=(status.st_dev, status.st_ino) if status.st_nlink > 1 and kind != "dir" else None,
    )


def first_names(entries: Iterable[limits.TreeEntry]) -> dict[Any, str]:
    """The first name, in the order of paths, of everything that has several."""
    first: dict[Any, str] = {}
    for entry in entries:
        if entry.inode is not None and (entry.inode not in first or entry.path < first[entry.inode]):
            first[entry.inode] = entry.path
    return first


def contents(entries: Iterable[limits.TreeEntry]) -> list[limits.TreeEntry]:
    """The entries that have content: regular files that are not empty, by their first name."""
    entries = list(entries)
    first = first_names(entries)
    return [e for e in entries if e.kind == "file" and e.size and (e.inode is None or first[e.inode] == e.path)]


def shared_sizes(files: Iterable[limits.TreeEntry]) -> set[int]:
    """Sizes that several files have: their digests tell whether they are equal."""
    once: set[int] = set()
    several: set[int] = set()
    for file in files:
        (several if file.size in once else once).add(file.size)
    return several


def look_all(root: str, files: list[limits.TreeEntry], tell: Callable[[int], None]) -> dict[str, limits.Look]:
    """A look at each of *files*, by as many processes as there are processors."""
    global _JOB  # noqa: PLW0603 - forked processes inherit it, which costs nothing
    _JOB = (root, files, shared_sizes(files))
    # The large ones first, so that none of them is begun last; the small ones in handfuls.
    order = sorted(range(len(files)), key=lambda index: -files[index].size)
    large = [index for index in order if files[index].size > limits.CHUNK]
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

    room = limits.ALL_KEPT
    elves = limits.ALL_ELVES

    def add(self, path: str, seen: limits.Look) -> None:
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


_JOB: tuple[str, list[limits.TreeEntry], set[int]] = ("", [], set())


def _look_some(indexes: list[int]) -> dict[str, limits.Look]:
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
) -> tuple[list[limits.TreeEntry], dict[str, limits.Look]]:
    """The same as `scan` and `look_all` from what `docker export` gives; large ELF files go through *folder*.

    Everything is read once and in order, so each content gets its digest; `tables` drops those that nothing needs.
    """
    entries: dict[str, limits.TreeEntry] = {"/": ROOT_ENTRY}
    looks, room = Looks(), limits.NAMES
    with tarfile.open(
        fileobj=file, mode="r|", bufsize=limits.BLOCK, encoding="utf-8", errors="surrogateescape"
    ) as opened:
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


def _tar_entry(path: str, member: tarfile.TarInfo, entries: dict[str, limits.TreeEntry]) -> limits.TreeEntry:
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
    return limits.TreeEntry(
        path=path,
        kind=kind,
        size=member.size if kind == "file" else 0,
        mode=0o777 if kind == "link" else stat.S_IMODE(member.mode),
        uid=member.uid,
        gid=member.gid,
        target=member.linkname if kind == "link" else None,
        inode=None,
    )


def _look_in_tar(entry: limits.TreeEntry, file: IO[bytes] | None, folder: str | None) -> limits.Look:
    if file is None:
        return {}
    head = file.read(min(entry.size, limits.CHUNK))
    in_memory = io.BytesIO(head)
    if entry.size <= limits.CHUNK or entry.size > limits.CONTENT:
        return look(entry, in_memory, digest=True)
    if head[:4] != ELF_MAGIC and not is_kept(entry.path):
        return {**look(entry, in_memory), "digest": _digest(_chain(head, file))}
    with tempfile.TemporaryFile(dir=folder) as spool:
        spool.writelines(_chain(head, file))
        spool.flush()
        return look(entry, spool, digest=True)


def _chain(head: bytes, file: IO[bytes]) -> Iterator[bytes]:
    yield head
    yield from iter(lambda: file.read(limits.CHUNK), b"")


# --- one file's content


def is_kept(path: str) -> bool:
    """Whether the content of the file *path* is needed beyond a look at it."""
    return NEEDED_CONTENT.fullmatch(path) is not None or TEXTS.fullmatch(path) is not None


def look(entry: limits.TreeEntry, file: IO[bytes], *, digest: bool = False) -> limits.Look:
    """What the content says: {"digest", "elf", "script", "mentions", "content", "faults"}, what there is of them."""
    seen: limits.Look = {}
    if entry.size > limits.CONTENT:
        return {"faults": [f"{entry.size} bytes are too many to be read"]}
    data = limits.read_at(file, 0, entry.size if entry.size <= limits.SMALL else 512)
    if digest:
        file.seek(0)
        whole = len(data) == entry.size
        seen["digest"] = _digest([data] if whole else iter(lambda: file.read(limits.CHUNK), b""))
    if is_kept(entry.path):
        if entry.size <= limits.KEPT:
            seen["content"] = limits.read_at(file, 0, entry.size)
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


def _digest(chunks: Iterable[bytes]) -> str:
    made = hashlib.blake2b(digest_size=32)
    for chunk in chunks:
        made.update(chunk)
    return made.hexdigest()


def mentions(data: bytes) -> Iterator[tuple[int, str]]:
    """(line, path) of the paths of a build that the text *data* names, the first few of them."""
    for match in itertools.islice(BUILDER_PATHS.finditer(data), limits.MENTIONS):
        yield data.count(b"\n", 0, match.start()) + 1, match[0][:300].decode("utf-8", "surrogateescape")

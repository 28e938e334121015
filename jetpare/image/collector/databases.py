"""Read dpkg's, Python's and the loader's databases. Runs inside any container: Python 3.8, standard library only."""

from __future__ import annotations

import csv
import fnmatch
import io
import itertools
import posixpath
import struct
from collections.abc import Iterable, Iterator
from typing import Any

from jetpare.image.collector import limits
from jetpare.image.collector.tree import TEXTS


class ImageTree:
    """Names, links and the contents that were kept, with links followed inside the image."""

    def __init__(self, entries: Iterable[limits.TreeEntry], content: dict[str, bytes]) -> None:
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
        self._room = {"bytes": limits.ALL_READ, "characters": limits.FOLLOWED, "includes": limits.INCLUDES}
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
            if hops > limits.LINKS:
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
            "bytes", len(content) + limits.PART * (content.count(b"\n") + content.count(b","))
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


def packages(tree: ImageTree, faults: list[str]) -> Iterator[dict[str, Any]]:
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


def _package(tree: ImageTree, row: dict[str, str], *, auto: bool | None, faults: list[str]) -> dict[str, Any]:
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


def distributions(tree: ImageTree, faults: list[str]) -> Iterator[dict[str, Any]]:
    """Every *.dist-info and *.egg-info, wherever it stands."""
    for path in sorted(tree.kinds):
        if path.endswith(".dist-info") and tree.kinds[path] == "dir":
            yield from _distribution(tree, path, f"{path}/METADATA", faults)
        elif path.endswith(".egg-info"):
            yield from _distribution(tree, path, path if tree.kinds[path] == "file" else f"{path}/PKG-INFO", faults)


def _distribution(tree: ImageTree, info: str, metadata: str, faults: list[str]) -> Iterator[dict[str, Any]]:
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


def _record(tree: ImageTree, info: str, location: str, faults: list[str]) -> list[str] | None:
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


def loader_dirs(tree: ImageTree) -> list[str]:
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


def _steps(tree: ImageTree, conf: str) -> list[str]:
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


def texts(tree: ImageTree, faults: list[str]) -> Iterator[list[str]]:
    """(path, content) of the small files that are kept whole, by every name that they have."""
    room = limits.ALL_TEXTS
    for path in sorted(tree.kinds):
        if tree.kinds[path] in ("file", "link") and TEXTS.fullmatch(path):
            content = tree.read(path)
            room -= 0 if content is None or len(content) > limits.TEXT else len(content)
            if room < 0:
                faults.append(f"{path}: the last of too many files to be kept")
                return
            if content is not None and len(content) <= limits.TEXT:
                yield [path, content.decode("utf-8", "surrogateescape")]
            elif content is not None:
                faults.append(f"{path}: {len(content)} bytes are too many to be kept")

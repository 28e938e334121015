"""What the collector reads at the most. Runs inside any container: Python 3.8, standard library only."""

from __future__ import annotations

import stat
from typing import IO, Any, Dict, List, NamedTuple, Tuple  # noqa: UP035 - Python 3.8 cannot subscript dict

Look = Dict[str, Any]  # noqa: UP006 - of a content: what was found there
TableRows = Tuple[str, List[Any]]  # noqa: UP006

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
KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFIFO: "fifo",
}


class TreeEntry(NamedTuple):
    """One name. ``inode``: what names of the same file have in common, None where there is but one."""

    path: str
    kind: str
    size: int
    mode: int
    uid: int
    gid: int
    target: str | None
    inode: Any


def read_at(file: IO[bytes], offset: int, size: int) -> bytes:
    """*size* bytes from *offset* on, fewer where the file ends."""
    file.seek(offset)
    data = file.read(size)
    while len(data) < size:  # a file that is not buffered may give less at a time
        part = file.read(size - len(data))
        if not part:
            break
        data += part
    return data

"""Read ELF files by hand, with the standard library alone: an image has no pyelftools.

Imported by the scripts next to it, so whatever mounts one of those mounts this file too. Files are 64-bit and
little-endian, as on x86-64 and arm64 (ELF-64 gABI); `is_supported` says whether a file is.
"""

from __future__ import annotations

import contextlib
import os
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

MAGIC = b"\x7fELF"
SUPPORTED = MAGIC + b"\x02\x01"  # 64 bits, little-endian
HEADER_BYTES = 64
PT_LOAD, PT_DYNAMIC = 1, 2
DT_NULL, DT_STRTAB, DT_SONAME = 0, 5, 14
SHT_NOBITS, SHT_DYNSYM = 8, 11
SHF_ALLOC = 2
SYMBOL_BYTES = 24
NAME_BYTES = 4096  # the longest soname that is read


class Segment(NamedTuple):
    """A row of the program headers. ``size`` is in the file, ``memory`` in memory; both in bytes."""

    kind: int
    flags: int
    offset: int
    address: int
    size: int
    memory: int
    align: int


class Section(NamedTuple):
    """A row of the section headers; ``size`` in bytes."""

    kind: int
    flags: int
    address: int
    offset: int
    size: int


def starts_with(path: str | Path, head: bytes) -> bool:
    """Say whether *path* is a file that can be read and begins with *head*."""
    with contextlib.suppress(OSError):
        if os.path.isfile(path):  # noqa: PTH113 - a string works too; a FIFO would wait for a writer
            with open(path, "rb") as file:  # noqa: PTH123
                return file.read(len(head)) == head
    return False


def is_elf(path: str | Path) -> bool:
    """Say whether *path* is an ELF file: lib*.so may be a linker script."""
    return starts_with(path, MAGIC)


def is_supported(path: str | Path) -> bool:
    """Say whether the other functions can read *path*: a 64-bit little-endian ELF file."""
    return starts_with(path, SUPPORTED)


def machine(path: Path) -> int:
    """Return the number of the processor that *path* is for (e_machine): 62 is x86-64, 183 is arm64."""
    with path.open("rb") as file:
        return int.from_bytes(file.read(20)[18:], "little")


def segments(file: BinaryIO) -> list[Segment]:
    """Return the program headers in their order. Raises struct.error where the table is cut off."""
    found = []
    for row in _table(file, place=32, sizes=54):
        kind, flags, offset, address, _, size, memory, align = struct.unpack_from("<IIQQQQQQ", row)
        found.append(Segment(kind, flags, offset, address, size, memory, align))
    return found


def sections(file: BinaryIO) -> dict[str, Section]:
    """Return the sections by name. Raises struct.error, IndexError or ValueError where the tables are damaged."""
    rows = [struct.unpack_from("<IIQQQQ", row) for row in _table(file, place=40, sizes=58)]
    file.seek(62)
    (index,) = struct.unpack("<H", file.read(2))
    file.seek(rows[index][4])
    names = file.read(rows[index][5])
    return {
        names[name : names.index(b"\0", name)].decode(): Section(kind, flags, address, offset, size)
        for name, kind, flags, address, offset, size in rows
    }


def dynamic(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield the tags and values of the dynamic section up to its end mark."""
    for segment in segments(file):
        if segment.kind == PT_DYNAMIC:
            file.seek(segment.offset)
            data = file.read(segment.size)
            for tag, value in struct.iter_unpack("<qQ", data[: len(data) // 16 * 16]):
                if tag == DT_NULL:
                    break
                yield tag, value


def soname(path: Path) -> str:
    """Return the DT_SONAME of *path*; empty for a file without one, damaged ones and other files included."""
    if not is_supported(path):
        return ""
    with path.open("rb") as file, contextlib.suppress(struct.error, ValueError, OverflowError, OSError):
        entries = dict(dynamic(file))
        if DT_SONAME not in entries or DT_STRTAB not in entries:
            return ""
        address = entries[DT_STRTAB] + entries[DT_SONAME]
        for each in segments(file):
            if each.kind == PT_LOAD and each.address <= address < each.address + each.size:
                file.seek(each.offset + address - each.address)
                return file.read(NAME_BYTES).split(b"\0", 1)[0].decode(errors="replace")
    return ""


def _table(file: BinaryIO, *, place: int, sizes: int) -> list[bytes]:
    """Return the rows of one of the two tables; *place* and *sizes*: where the header has its offset and its form."""
    file.seek(0)
    header = file.read(HEADER_BYTES)
    (start,), (entry, count) = struct.unpack_from("<Q", header, place), struct.unpack_from("<HH", header, sizes)
    file.seek(start)
    rows = file.read(entry * count)
    return [rows[index * entry : (index + 1) * entry] for index in range(count)]

"""File trees and ELF files made of bytes, for what reads images."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path

LIBRARY = "/usr/lib/libdemo.so.1"
FAT = struct.Struct("<IHHQ")
FAT_ENTRY = struct.Struct("<HHIQIIHHI")
PROGBITS, STRTAB, DYNAMIC, NOTE, VERNEED, NOBITS = 1, 3, 6, 7, 0x6FFFFFFE, 8


def fat_binary(*entries: tuple[int, int]) -> bytes:
    """One fat binary with an entry of 40 bytes of code for each (kind, arch)."""
    body = b"".join(
        FAT_ENTRY.pack(kind, 0x101, 64, 40, 40, 0, 0, 0, arch).ljust(64, b"\0") + b"\xaa" * 40 for kind, arch in entries
    )
    return FAT.pack(0xBA55ED50, 1, 16, len(body)) + body


def elf(sections: Mapping[str, tuple[int, bytes]], *, machine: int = 62, count: int | None = None) -> bytes:
    """A 64-bit little-endian ELF library of *sections*: name -> (type, content). *count*: what it says there are."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in [*sections, ".shstrtab"])
    offset, blobs, headers = 64, [], [bytes(64)]
    order = [*sections, ".shstrtab"]
    for name, (kind, content) in {**sections, ".shstrtab": (STRTAB, names)}.items():
        link = order.index(".dynstr") + 1 if kind in (DYNAMIC, VERNEED) else 0
        info = 1 if kind == VERNEED else 0
        where = names.index(b"\0" + name.encode() + b"\0") + 1
        headers.append(
            struct.pack(
                "<IIQQQQIIQQ", where, kind, 2, 0, offset, len(content), link, info, 1, 16 if kind == DYNAMIC else 0
            )
        )
        blobs.append(content)
        offset += len(content)
    number = len(headers) if count is None else count
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head = struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 0, offset, 0, 64, 56, 0, 64, number, len(headers) - 1)
    return ident + head + b"".join(blobs) + b"".join(headers)


def library() -> bytes:
    """A library with all that an Elf tells: names, a version, a build id, symbols, fat binaries, strings."""
    dynstr = b"\0libdemo.so.1\0libc.so.6\0$ORIGIN/../x:/opt\0GLIBC_2.34\0"
    place = {text: dynstr.index(text) for text in (b"libdemo", b"libc", b"$ORIGIN", b"GLIBC")}
    tags = [(1, place[b"libc"]), (14, place[b"libdemo"]), (29, place[b"$ORIGIN"]), (0, 0)]
    need = struct.pack("<HHIII", 1, 1, place[b"libc"], 16, 0) + struct.pack("<IHHII", 0, 0, 2, place[b"GLIBC"], 0)
    note = struct.pack("<III4s", 4, 4, 3, b"GNU\0") + bytes.fromhex("deadbeef")
    rodata = b"x\0libcuda.so.1\0libc.so.6\0cannot open libno.so.1: %s\0lib%s.so\0/opt/x/libplug.so\0libcut.so"
    return elf(
        {
            ".dynstr": (STRTAB, dynstr),
            ".dynamic": (DYNAMIC, b"".join(struct.pack("<QQ", *tag) for tag in tags)),
            ".gnu.version_r": (VERNEED, need),
            ".note.gnu.build-id": (NOTE, note),
            ".rodata": (PROGBITS, rodata),
            ".nv_fatbin": (PROGBITS, fat_binary((2, 87), (1, 90)) + bytes(8) + fat_binary((2, 86), (8, 50))),
            ".data": (PROGBITS, b"\x50\xed\x55\xba not one" + fat_binary((2, 72))),
            ".symtab": (PROGBITS, bytes(48)),
            ".strtab": (PROGBITS, bytes(10)),
            ".debug_info": (PROGBITS, bytes(100)),
        }
    )


def archive(entries: Mapping[str, bytes | str | tarfile.TarInfo]) -> bytes:
    """A tar of *entries*, as `docker import` takes it: content, '-> target', or a member that is something else."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, what in entries.items():
            member = what if isinstance(what, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.name, content = name.lstrip("/"), what if isinstance(what, bytes) else b""
            if isinstance(what, str):
                member.type, member.linkname = tarfile.SYMTYPE, what.removeprefix("-> ")
            if isinstance(what, bytes):
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def plant(root: Path, entries: Mapping[str, bytes | str]) -> None:
    """The same on disk."""
    for name, what in entries.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(what, str):
            path.symlink_to(what.removeprefix("-> "))
        else:
            path.write_bytes(what)

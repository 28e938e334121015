"""Read ELF files. Runs inside any container: Python 3.8, standard library and pyelftools only."""

from __future__ import annotations

import io
import mmap
import re
import struct
from collections import defaultdict
from collections.abc import Iterator
from typing import IO, Any

from jetpare.image.collector import limits

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


# --- ELF


class _Bounded:
    """A file for pyelftools that ends a hostile table: too many reads, or one too large, are an error."""

    def __init__(self, file: Any) -> None:  # noqa: ANN401 - BytesIO or mmap
        self._file = file
        self._left = limits.READS
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        self._left -= 1
        if self._left < 0 or not 0 <= size <= limits.CHUNK:
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
    if count > limits.SECTIONS:
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
    found, room = [], limits.FAT_BYTES
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
    left = limits.FAT_ENTRIES
    for start, size in sections:
        position, end = start, start + size
        while position < end:
            position = _find_magic(file, position, end)
            head = limits.read_at(file, position, FAT_HEADER.size)
            if position >= end or len(head) < FAT_HEADER.size:
                break
            left -= 1
            if left < 0:
                raise ValueError(f"more than {limits.FAT_ENTRIES} entries in its fat binaries")
            _, version, header, length = FAT_HEADER.unpack(head)
            if version != 1 or header < FAT_HEADER.size or position + header + length > end:
                position += len(FAT_MAGIC)
                continue
            entry, position = position + header, position + header + length
            while entry + FAT_ENTRY.size <= position:
                left -= 1
                if left < 0:
                    raise ValueError(f"more than {limits.FAT_ENTRIES} entries in its fat binaries")
                kind, _, header, payload, _, _, _, _, arch = FAT_ENTRY.unpack(
                    limits.read_at(file, entry, FAT_ENTRY.size)
                )
                if kind in FAT_KINDS and arch:
                    found.add((FAT_KINDS[kind], arch))
                entry += max(header + payload, FAT_ENTRY.size)
    return [f"{kind}_{arch}" for kind, arch in sorted(found, key=lambda each: (each[1], each[0]))]


def _find_magic(file: IO[bytes], position: int, end: int) -> int:
    """Where the next fat binary begins, *end* where there is none. In a chain that is here, or after some padding."""
    size = 64
    while position < end:
        block = limits.read_at(file, position, min(size, end - position))
        found = block.find(FAT_MAGIC)
        if found >= 0:
            return position + found
        if len(block) <= len(FAT_MAGIC):
            break
        position += len(block) - len(FAT_MAGIC) + 1
        size = min(4 * size, limits.CHUNK)
    return end


def _so_names(file: IO[bytes], sections: list[Any]) -> list[str]:
    """Strings in read-only data that are the name of a shared object and nothing else: dlopen takes such."""
    found: set[bytes] = set()
    hits, room, overlap = limits.HITS, limits.RODATA, 1024
    for section in sections:
        position, end = section["sh_offset"], section["sh_offset"] + section["sh_size"]
        tail = b"\0"
        while position < end and room > 0:
            part = limits.read_at(file, position, min(limits.CHUNK, end - position))
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

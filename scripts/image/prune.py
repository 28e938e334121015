"""Removes and strips what [[prune]] of build.toml names in the system that it runs in, and writes down what it took.

usage: PRUNE='[{"paths": ["opt/x/*.h"], "strip": [], "reason": "..."}]' python3 prune.py --tools ROOT

Patterns are relative to the root; one that matches nothing ends it, before anything was touched. ROOT is the root of a
system that has `strip`. A file that the loader would not map as before, byte for byte, ends it too: that is what strip
does to some files that patchelf has changed. What was taken is in /usr/share/jetpare/prune.tsv, by pattern: bytes,
files, 'removed' or 'stripped', the pattern, the reason.
"""

from __future__ import annotations

import argparse
import glob
import hashlib
import json
import os
import platform
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import elf
from elf import Section, Segment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

MANIFEST = Path("usr/share/jetpare/prune.tsv")
CHUNK = elf.SYMBOL_BYTES << 16
NEVER = ("proc/", "sys/", "dev/", "run/jetpare/", "./", "../")


def main(argv: list[str]) -> int:
    """Check every pattern, then do the work."""
    parser = argparse.ArgumentParser(description="Removes and strips what build.toml's [[prune]] names.")
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--root", type=Path, default=Path("/"))
    args = parser.parse_args(argv)
    rules = json.loads(os.environ["PRUNE"])
    found = {
        (number, kind, pattern): matches(args.root, pattern)
        for number, rule in enumerate(rules)
        for kind in ("paths", "strip")
        for pattern in rule.get(kind, ())
    }
    nothing = [pattern for (_, _, pattern), paths in found.items() if not paths]
    if nothing:
        print(f"prune: nothing matches {', '.join(nothing)}. Correct [[prune]] in build.toml.", file=sys.stderr)
        return 1
    lines: list[tuple[int, int, str, str, str]] = []
    try:
        for (number, kind, pattern), paths in found.items():
            sizes = [
                size for path in paths for size in (removed(path) if kind == "paths" else stripped(path, args.tools))
            ]
            done = "removed" if kind == "paths" else "stripped"
            lines.append((sum(sizes), len(sizes), done, pattern, rules[number]["reason"]))
    except ValueError as error:
        print(f"prune: {error}", file=sys.stderr)
        return 1
    manifest = args.root / MANIFEST
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text("".join("\t".join(str(word) for word in line) + "\n" for line in lines))
    for rule in rules:
        bytes_taken = sum(line[0] for line in lines if line[-1] == rule["reason"])
        print(f"prune: {bytes_taken / 1e6:8.1f} MB  {rule['reason']}")
    print(f"prune: {sum(line[0] for line in lines) / 1e6:8.1f} MB in all")
    return 0


def matches(root: Path, pattern: str) -> list[Path]:
    """What *pattern* names below *root*, links not followed out of it. Nothing that the engine mounts."""
    names = glob.glob(pattern, root_dir=root, recursive=True)  # noqa: PTH207 - Path.glob follows links until 3.13
    kept = (name for name in sorted(map(os.path.normpath, names)) if not f"{name}/".startswith(NEVER))
    return [root / name for name in kept]


def removed(path: Path) -> Iterator[int]:
    """Remove *path* with all below it, and the bytes of each file; what a pattern before has taken is no fault."""
    if path.is_dir() and not path.is_symlink():
        for folder, _, names in os.walk(path):
            yield from (taken(Path(folder, name)) for name in names)
        shutil.rmtree(path)
    elif os.path.lexists(path):
        size = taken(path)
        path.unlink()
        yield size


def taken(path: Path) -> int:
    """The bytes that the image loses with *path*: none for a link, and a hard link only with its last name."""
    state = path.lstat()
    return state.st_size if path.is_file() and not path.is_symlink() and state.st_nlink == 1 else 0


def stripped(path: Path, tools: Path) -> Iterator[int]:
    """Strip what neither the loader nor a linker needs, and its bytes. ValueError where the result is not sound."""
    if path.is_symlink() or not elf.is_supported(path):
        return
    before, copy = path.stat().st_size, path.with_name(f"{path.name}.stripped")
    done = subprocess.run(
        [*strip_command(tools), "--strip-unneeded", "--preserve-dates", "-o", copy, path],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        if done.returncode:
            raise ValueError(f"strip {path}: {done.stderr.strip()}")
        try:
            trouble = unsound(path, copy)
        except (struct.error, IndexError, ValueError):
            trouble = "its headers cannot be read"
        if trouble:
            raise ValueError(f"strip would break {path}: {trouble}. Take it out of [[prune]] strip in build.toml.")
        shutil.copymode(path, copy)
        yield before - copy.stat().st_size
        copy.replace(path)
    finally:
        copy.unlink(missing_ok=True)


def strip_command(tools: Path) -> list[str | Path]:
    """The strip of *tools* for this system's files, run by its own loader: both may be of another architecture."""
    names = (f"usr/bin/{platform.machine()}-linux-gnu-strip", "usr/bin/strip")
    strip = next((each for each in (tools / name for name in names) if each.exists()), None)
    if strip is None:
        raise ValueError(f"there is no strip in {tools}")
    for loader in tools.glob("usr/lib/*-linux-gnu/ld-linux-*.so.*"):
        if elf.machine(loader) == elf.machine(strip):
            return [loader, "--library-path", loader.parent, strip]
    return [strip]  # linked statically, or a script


def unsound(original: Path, result: Path) -> str:
    """Why a process would not find in *result* what it finds in *original*; empty where it would.

    Segments have to be at the same addresses, and sections that are in memory have to be there with the same content.
    What stands after the last section of a segment is nobody's, be it zeros or an older table that patchelf left there,
    unless the dynamic section points at it.
    """
    with original.open("rb") as old, result.open("rb") as new:
        want, have = loaded(old), loaded(new)
        if [placing(each) for each in have] != [placing(each) for each in want]:
            return "its segments changed"
        for after, before in zip(have, want, strict=True):
            askew = after.align > 1 and after.offset % after.align != after.address % after.align
            if askew or after.memory > before.memory:
                return "a segment is not aligned, or grew"
        known, kept = in_memory(old), in_memory(new)
        lost = cut_off(old, known, zip(have, want, strict=True))
        if lost:
            return f"what is used of a segment is gone: {', '.join(lost)}"
        for name, section in known.items():
            other = kept.get(name)
            if other is None or (other.address, other.size) != (section.address, section.size):
                return f"{name} is gone, or elsewhere"
            if section.kind != elf.SHT_NOBITS and content(old, section) != content(new, other):
                return f"{name} changed"
    return ""


def placing(segment: Segment) -> tuple[int, int, int]:
    """Return where a segment has to be, and how it may be used."""
    return segment.address, segment.align, segment.flags


def loaded(file: BinaryIO) -> list[Segment]:
    """Return what the loader maps, in the order of the file's headers."""
    return [each for each in elf.segments(file) if each.kind == elf.PT_LOAD]


def in_memory(file: BinaryIO) -> dict[str, Section]:
    """Return the sections that are in memory while a process runs, by name."""
    return {name: each for name, each in elf.sections(file).items() if each.flags & elf.SHF_ALLOC}


def cut_off(file: BinaryIO, known: dict[str, Section], pairs: Iterable[tuple[Segment, Segment]]) -> list[str]:
    """The sections, and whatever .dynamic points at, that stood at a segment's end which the shorter one has not."""
    found = []
    for after, before in pairs:
        start, stop = after.address + after.memory, before.address + before.memory
        found += [name for name, each in known.items() if each.address < stop and start < each.address + each.size]
        found += [f"{value:#x} in .dynamic" for _, value in elf.dynamic(file) if start <= value < stop]
    return found


def content(file: BinaryIO, section: Section) -> bytes:
    """A digest of a section; of symbols without the number of the section they are in, which strip counts anew."""
    found = hashlib.sha256()
    file.seek(section.offset)
    left = section.size
    while left > 0 and (part := bytearray(file.read(min(left, CHUNK)))):
        left -= len(part)
        if section.kind == elf.SHT_DYNSYM:
            for byte in (6, 7):
                part[byte :: elf.SYMBOL_BYTES] = bytes(len(part[byte :: elf.SYMBOL_BYTES]))
        found.update(part)
    return found.digest() if not left else b""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

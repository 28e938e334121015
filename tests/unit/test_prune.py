"""scripts/image/prune.py: what it takes, what it writes down, and that it refuses to break a file."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.processes
Prune = Callable[..., "subprocess.CompletedProcess[str]"]
# A stand-in for strip at its very edge: it gets the options that the real one gets, `-o RESULT FILE` last.
STRIP = '#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\n'


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A root file system with headers, a hard link and a library of this machine."""
    root = tmp_path / "image"
    for name, size in (("opt/x/include/a.h", 10), ("opt/x/include/deep/b.h", 20), ("opt/x/keep.py", 5)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    (root / "opt/x/second.py").hardlink_to(root / "opt/x/keep.py")
    (root / "usr/lib").mkdir(parents=True)
    library = next(path for path in Path("/lib").rglob("libc.so.6") if path.is_file())
    (root / "usr/lib/libz.so.1").write_bytes(library.read_bytes())
    (root / "usr/lib/libz.so").symlink_to("libz.so.1")
    return root


@pytest.fixture
def prune(image: Path, tmp_path: Path) -> Prune:
    def run(*rules: dict[str, Any], strip: str = "cp $3 $2\n") -> subprocess.CompletedProcess[str]:
        tool = tmp_path / "tools/usr/bin/strip"
        tool.parent.mkdir(parents=True, exist_ok=True)
        tool.write_text(STRIP + strip)
        tool.chmod(0o755)
        command: list[str | Path] = [
            sys.executable,
            ROOT / "scripts/image/prune.py",
            "--tools",
            tmp_path / "tools",
            "--root",
            image,
        ]
        environ = {
            **os.environ,
            "PRUNE": json.dumps([{"paths": [], "strip": [], "reason": "r", **rule} for rule in rules]),
        }
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    return run


def manifest(image: Path) -> list[list[str]]:
    return [line.split("\t") for line in (image / "usr/share/jetpare/prune.tsv").read_text().splitlines()]


def test_a_folder_goes_with_all_below_and_is_written_down(prune: Prune, image: Path) -> None:
    done = prune({"paths": ["opt/*/include"], "reason": "no compiler"})
    assert done.returncode == 0, done.stderr
    assert not (image / "opt/x/include").exists()
    assert manifest(image) == [["30", "2", "removed", "opt/*/include", "no compiler"]]


def test_a_hard_link_counts_with_its_last_name_and_a_link_for_nothing(prune: Prune, image: Path) -> None:
    assert prune({"paths": ["opt/x/*.py", "usr/lib/libz.so"]}).returncode == 0
    assert [line[:2] for line in manifest(image)] == [["5", "2"], ["0", "1"]]
    assert (image / "usr/lib/libz.so.1").exists()


def test_a_pattern_without_a_match_stops_it_before_anything_is_touched(prune: Prune, image: Path) -> None:
    done = prune({"paths": ["opt/x/include", "opt/nothing*"]}, {"strip": ["usr/lib/none*"]})
    assert done.returncode == 1
    assert "nothing matches opt/nothing*, usr/lib/none*" in done.stderr
    assert (image / "opt/x/include/a.h").exists()


def test_overlapping_patterns_take_a_thing_once(prune: Prune, image: Path) -> None:
    assert prune({"paths": ["opt/x/include/a.h", "opt/x/include/*.h", "opt/x/include"]}).returncode == 0
    assert [line[:2] for line in manifest(image)] == [["10", "1"], ["0", "0"], ["20", "1"]]


def test_a_file_is_stripped_in_place_and_links_to_it_stay(prune: Prune, image: Path) -> None:
    library = image / "usr/lib/libz.so.1"
    library.write_bytes(library.read_bytes() + b"\0" * 1000)  # after all that the headers name
    library.chmod(0o640)
    done = prune({"strip": ["usr/lib/libz*"]}, strip="head -c -1000 $3 > $2\n")
    assert done.returncode == 0, done.stderr
    assert manifest(image) == [["1000", "1", "stripped", "usr/lib/libz*", "r"]]
    assert (image / "usr/lib/libz.so").is_symlink()
    assert library.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("strip", "said"),
    [
        ("head -c 400000 $3 > $2\n", "headers cannot be read"),  # they stand at the end
        ("{ head -c 300000 $3; printf X; tail -c +300002 $3; } > $2\n", " changed. Take it out"),
        ("echo no room >&2; exit 1\n", "no room"),
    ],
)
def test_a_file_that_strip_would_break_stays_and_stops_the_build(
    prune: Prune, image: Path, strip: str, said: str
) -> None:
    library = image / "usr/lib/libz.so.1"
    before = library.read_bytes()
    done = prune({"strip": ["usr/lib/libz.so.1"]}, strip=strip)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert library.read_bytes() == before
    assert list((image / "usr/lib").glob("*.stripped")) == []


def test_text_that_a_strip_pattern_meets_is_left_alone(prune: Prune, image: Path) -> None:
    assert prune({"strip": ["opt/x/keep.py"]}).returncode == 0
    assert [line[:2] for line in manifest(image)] == [["0", "0"]]


def test_what_the_engine_mounts_is_left_alone_and_names_that_begin_alike_are_not(prune: Prune, image: Path) -> None:
    for name in ("devtools/x", "proc/1", "run/jetpare/y"):
        (image / name).parent.mkdir(parents=True, exist_ok=True)
        (image / name).write_text("x")
    assert prune({"paths": ["devtools/*"]}).returncode == 0
    assert not (image / "devtools/x").exists()
    assert prune({"paths": ["./proc/*"]}).returncode == 1
    assert prune({"paths": ["run/*/y"]}).returncode == 1
    assert (image / "proc/1").exists()


def with_more_memory(elf: bytes, *, pointed_at: bool) -> bytes:
    """*elf* with a page after its last segment, as an older table would stand there; .dynamic may point at it."""
    found = bytearray(elf)
    (start,), (entry, count) = struct.unpack_from("<Q", elf, 32), struct.unpack_from("<HH", elf, 54)
    headers = [start + entry * number for number in range(count)]
    kinds = {at: struct.unpack_from("<IIQQQQQQ", elf, at) for at in headers}
    last = max((at for at in headers if kinds[at][0] == 1), key=lambda at: kinds[at][3])
    address, memory = kinds[last][3], kinds[last][6]
    struct.pack_into("<Q", found, last + 40, memory + 4096)
    if pointed_at:
        dynamic = next(row for row in kinds.values() if row[0] == 2)
        struct.pack_into("<Q", found, dynamic[2] + 8, address + memory + 100)
    return bytes(found)


@pytest.mark.parametrize(("pointed_at", "code"), [(False, 0), (True, 1)])
def test_what_stands_after_a_segment_s_last_section_may_go_unless_it_is_used(
    prune: Prune, image: Path, tmp_path: Path, pointed_at: bool, code: int
) -> None:
    """So it is with PyTorch's library for aarch64, in which patchelf left a string table of 3.7 MB."""
    library = image / "usr/lib/libz.so.1"
    (tmp_path / "short").write_bytes(library.read_bytes())
    library.write_bytes(with_more_memory(library.read_bytes(), pointed_at=pointed_at))
    done = prune({"strip": ["usr/lib/libz.so.1"]}, strip=f"cp {tmp_path}/short $2\n")
    assert done.returncode == code, done.stderr
    assert ("in .dynamic" in done.stderr) is pointed_at


def test_a_segment_that_grew_is_refused(prune: Prune, image: Path, tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(with_more_memory((image / "usr/lib/libz.so.1").read_bytes(), pointed_at=False))
    done = prune({"strip": ["usr/lib/libz.so.1"]}, strip=f"cp {tmp_path}/long $2\n")
    assert (done.returncode, "grew" in done.stderr) == (1, True)

"""scripts/image/elf.py, the one place where scripts read ELF: against pyelftools on this machine's own files."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from tests.conftest import ROOT
from tests.unit.test_scripts import elf as small_elf
from tests.unit.test_scripts import load

elf = load("elf")
PYTHON = Path(sys.executable).resolve()


def libraries() -> list[Path]:
    """A few shared libraries that this process uses."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    paths = {Path(line.split()[-1]) for line in lines if ".so" in line}
    return sorted(path for path in paths if path.is_file())[:8]


def test_the_tables_are_those_that_pyelftools_reads() -> None:
    for path in [PYTHON, *libraries()]:
        with path.open("rb") as file:
            known = ELFFile(file)
            segments = [(each["p_offset"], each["p_vaddr"], each["p_filesz"]) for each in known.iter_segments()]
            sections = {each.name: (each["sh_addr"], each["sh_size"]) for each in known.iter_sections()}
            dynamic: Any = known.get_section_by_name(".dynamic")
            tags = [(tag.entry.d_tag, tag.entry.d_val) for tag in dynamic.iter_tags()] if dynamic else []
            names = [tag.soname for tag in dynamic.iter_tags("DT_SONAME")] if dynamic else []
        with path.open("rb") as file:
            assert [(each.offset, each.address, each.size) for each in elf.segments(file)] == segments
            assert {name: (each.address, each.size) for name, each in elf.sections(file).items()} == sections
            assert [value for _, value in elf.dynamic(file)] == [value for _, value in tags][:-1]  # the end mark
        assert elf.soname(path) == "".join(names)
        assert elf.machine(path) == {"x86_64": 62, "aarch64": 183}[os.uname().machine]


def test_what_is_an_elf_file(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(small_elf("libx.so.1"))
    (tmp_path / "old").write_bytes(b"\x7fELF\x01\x01" + bytes(60))  # 32 bits
    (tmp_path / "script").write_text("INPUT(libx.so.1)\n")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("none")
    os.mkfifo(tmp_path / "fifo")
    names = ("real", "link", "old", "script", "dangling", "fifo", "none", ".")
    assert [name for name in names if elf.is_elf(tmp_path / name)] == ["real", "link", "old"]
    assert [name for name in names if elf.is_supported(str(tmp_path / name))] == ["real", "link"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:40],
        lambda data: data[:32] + struct.pack("<Q", 1 << 40) + data[40:],  # the table would be far behind the end
        lambda data: data[:32] + struct.pack("<Q", (1 << 64) - 1) + data[40:],
        lambda data: data[:56] + b"\xff\xff" + data[58:],  # more rows than there are
        lambda data: data[:-40],
    ],
)
def test_a_damaged_file_has_no_soname(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    (tmp_path / "x").write_bytes(damage(small_elf("libx.so.1")))
    assert elf.soname(tmp_path / "x") == ""


def test_no_other_script_reads_elf_by_hand() -> None:
    found = [path.name for path in (ROOT / "scripts").rglob("*.py") if "7fELF" in path.read_text()]
    assert found == ["elf.py"]

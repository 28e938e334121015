"""Reading a tree: each parser on bytes made here, both ways held against each other, and what hostile files cost."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import socket
import struct
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetpare.image import collector, inventory
from jetpare.image.collector import databases, limits, main
from jetpare.image.collector.databases import ImageTree
from jetpare.image.collector.elf import ELF_MAGIC, FAT_MAGIC, _so_names, read_elf
from jetpare.image.collector.limits import TreeEntry
from jetpare.image.collector.tree import Looks, look, mentions, read_tar
from tests.trees import LIBRARY, PROGBITS, STRTAB, elf, fat_binary, library, plant

Tables = dict[str, Any]


def walked(root: Path) -> Tables:
    return dict(main.collect(str(root), lambda _done, _total: None))


def streamed(root: Path, folder: Path) -> Tables:
    """What the stream of an export of *root* says, made as Docker makes it: links to links too, and no sockets."""
    made, first = io.BytesIO(), dict[int, str]()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(root.rglob("*")):
            if path.is_socket():
                continue
            member = tar.gettarinfo(path, arcname=str(path.relative_to(root)))
            if member.issym() and path.lstat().st_nlink > 1:
                origin = first.setdefault(path.lstat().st_ino, member.name)
                if origin != member.name:
                    member.type, member.linkname = tarfile.LNKTYPE, origin
            with path.open("rb") if member.isreg() else io.BytesIO() as file:
                tar.addfile(member, file)
    made.seek(0)
    entries, looks = read_tar(made, lambda _: None, str(folder))
    return dict(main.tables(entries, looks, []))


def tree(content: dict[str, bytes | str]) -> ImageTree:
    """Files with content, '-> target' links, and their folders."""
    entries = {}
    for path, what in content.items():
        for parent in map(str, Path(path).parents):
            entries[parent] = TreeEntry(parent, "dir", 0, 0o755, 0, 0, None, None)
        link = what.removeprefix("-> ") if isinstance(what, str) else None
        entries[path] = TreeEntry(path, "link" if link else "file", len(what), 0o644, 0, 0, link, None)
    kept = {path: what for path, what in content.items() if isinstance(what, bytes)}
    return ImageTree([entries[path] for path in sorted(entries)], kept)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A tree with all that a file system can hold, as far as whoever runs the test may make it."""
    root = tmp_path / "root"
    plant(
        root,
        {
            LIBRARY: library(),
            "/usr/lib/libdemo.so": "-> libdemo.so.1",
            "/usr/lib/large.so": library().ljust(3 << 20, b"\0"),
            "/usr/lib/broken.so": library()[:100],
            "/usr/bin/script": b"#!/usr/bin/python3 -E\nprint()\n",
            "/a\nname": b"same",
            "/b": b"same",
            "/c": b"other size",
            "/loop": "-> loop2",
            "/loop2": "-> loop",
            "/etc/hosts": b"the engine's",
            "/dev/null": b"the engine's",
            "/development/file": b"the image's",
            "/etc/os-release": "-> ../usr/lib/os-release",
            "/usr/lib/os-release": b"ID=demo\n",
            "/opt/app/config.py": b"one\npath = '/build/opencv/lib'\n",
        },
    )
    (root / os.fsdecode(b"usr/not\xffutf8")).write_bytes(b"x")
    os.link(root / "b", root / "usr/second")
    os.link(root / LIBRARY[1:], root / "usr/lib-second")  # before the other in the order of paths, after it in a walk
    os.link(root / "loop", root / "0loop", follow_symlinks=False)
    os.mkfifo(root / "fifo")
    (root / "usr/bin/script").chmod(0o4755)
    with (root / "sparse").open("wb") as file:
        file.truncate(5 << 20)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(root / "socket"))
    if os.geteuid() == 0:
        os.mknod(root / "device", 0o20600, os.makedev(1, 3))
        os.chown(root / "c", 1000, 1001)
    return root


def test_both_ways_say_the_same(odd: Path, tmp_path: Path) -> None:
    assert streamed(odd, tmp_path) == walked(odd)


def test_a_walk_finds_every_kind_of_file(odd: Path) -> None:
    found = walked(odd)
    files = {row[0]: row for row in found["files"]}
    assert [row[0] for row in found["files"]] == sorted(files)
    assert files["/fifo"][1] == "fifo"
    assert files["/usr/not\udcffutf8"][:3] == ["/usr/not\udcffutf8", "file", 1]
    assert files["/usr/bin/script"][3] == 0o4755
    assert files["/usr/lib/libdemo.so"][6] == "libdemo.so.1"
    assert files["/sparse"][2] == 5 << 20
    assert not {"/socket", "/etc/hosts", "/dev", "/dev/null"} & set(files)
    assert "/development/file" in files
    same = hashlib.blake2b(b"same", digest_size=32).hexdigest()
    assert files["/a\nname"][7:] == [None, same]
    assert files["/usr/second"][7:] == ["/b", same]
    assert files["/c"][8] is None
    assert files["/loop"][7] == "/0loop"
    assert [row["path"] for row in found["elfs"]] == ["/usr/lib-second", "/usr/lib/large.so"]
    assert files[LIBRARY][7] == "/usr/lib-second"
    assert found["interpreters"] == [["/usr/bin/script", "/usr/bin/python3 -E"]]
    assert found["mentions"] == [["/opt/app/config.py", 2, "/build/opencv/lib"]]
    assert found["texts"] == [["/etc/os-release", "ID=demo\n"], ["/usr/lib/os-release", "ID=demo\n"]]
    assert [fault.partition(":")[0] for fault in found["faults"]] == ["/usr/lib/broken.so"]
    if os.geteuid() == 0:
        assert files["/device"][1] == "device"
        assert files["/c"][4:6] == [1000, 1001]


def test_a_library_tells_all_that_its_headers_say() -> None:
    assert read_elf(io.BytesIO(library())) == {
        "type": "dyn",
        "machine": "x86_64",
        "bits": 64,
        "interpreter": None,
        "soname": "libdemo.so.1",
        "needed": ["libc.so.6"],
        "rpath": [],
        "runpath": ["$ORIGIN/../x", "/opt"],
        "versions_needed": {"libc.so.6": ["GLIBC_2.34"]},
        "versions_defined": [],
        "build_id": "deadbeef",
        "symtab_bytes": 58,
        "debug_bytes": 100,
        "patched": False,
        "gpu": ["sm_72", "sm_86", "sm_87", "compute_90"],
        "strings": ["/opt/x/libplug.so", "libcuda.so.1"],
    }


def test_this_python_is_an_elf_of_this_machine() -> None:
    path = Path(sys.executable).resolve()
    with path.open("rb", buffering=0) as file:
        found = read_elf(file)
    assert found["machine"] == os.uname().machine
    assert "libc.so.6" in found["needed"]
    assert any(each.startswith("GLIBC_2.") for each in found["versions_needed"]["libc.so.6"])
    assert found["interpreter"].startswith("/lib")


def test_a_name_that_lies_across_two_chunks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    rodata = b"\0" * 90 + b"libcuda.so.1\0" + b"\0" * 90 + b"libx.so\0"
    data = elf({".rodata": (PROGBITS, rodata)})
    for size in (97, 100, 101, 103):
        monkeypatch.setattr(limits, "CHUNK", size)
        assert _so_names(io.BytesIO(data), [{"sh_offset": 64, "sh_size": len(rodata)}]) == [
            "libcuda.so.1",
            "libx.so",
        ]


@pytest.mark.parametrize(
    "data",
    [
        elf({".rodata": (PROGBITS, b"x")}, count=60_000),
        elf({f".s{index}": (PROGBITS, b"") for index in range(25_000)}),
        elf({".dynstr": (STRTAB, b"a" * 3_000_000), ".dynamic": (6, struct.pack("<QQ", 1, 0) * 2)}),
        elf({".nv_fatbin": (PROGBITS, fat_binary(*[(2, 80)] * 500))}),
        elf(dict.fromkeys((".nv_fatbin", ".nv_fatbin2"), (PROGBITS, FAT_MAGIC * 250))),
    ],
    ids=["sections that are not there", "sections", "a string", "fat entries", "what looks like fat entries"],
)
def test_a_bomb_is_a_fault_and_costs_little(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FAT_ENTRIES", 400)
    monkeypatch.setattr(limits, "READS", 20_000)
    entry = TreeEntry("/bomb", "file", len(data), 0o644, 0, 0, None, None)
    seen = look(entry, io.BytesIO(data))
    assert "elf" not in seen
    assert seen["faults"][0].startswith("this ELF file cannot be read")


def test_sections_of_fat_binaries_are_looked_through_as_far_as_one_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    binary = fat_binary((2, 80))
    data = elf({".nv_fatbin": (PROGBITS, binary), ".nv_fatbin2": (PROGBITS, fat_binary((2, 87)))})
    assert read_elf(io.BytesIO(data))["gpu"] == ["sm_80", "sm_87"]
    monkeypatch.setattr(limits, "FAT_BYTES", len(binary))
    assert read_elf(io.BytesIO(data))["gpu"] == ["sm_80"]


def test_elf_files_that_say_too_much_are_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Looks, "elves", 25)
    looks = Looks()
    for path in ("/a", "/b"):
        looks.add(path, {"elf": {"soname": "x"}})
    assert looks == {"/a": {"elf": {"soname": "x"}}, "/b": {"faults": ["not kept, ELF files say too much"]}}


# What an image may say again and again: one list by many names, links to links, includes of everything.


def test_a_list_that_many_packages_claim_is_read_as_often_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    paragraph = b"Package: %d\nStatus: install ok installed\n\n"
    made = {f"/var/lib/dpkg/info/{number}.list": "-> list" for number in range(9)}
    status = b"".join(paragraph % number for number in range(9))
    monkeypatch.setattr(limits, "ALL_READ", len(status) + limits.PART * status.count(b"\n") + 3 * 1000)
    found = tree({**made, "/var/lib/dpkg/info/list": b"/a\n" * 9, "/var/lib/dpkg/status": status})
    faults: list[str] = []
    packages = list(databases.packages(found, faults))
    assert [len(row["files"]) for row in packages] == [9, 9, 9, 0, 0, 0, 0, 0, 0]
    assert len(found.faults) == 1
    assert "too many bytes" in found.faults[0]
    assert len(faults) == 6


def test_rows_of_a_record_count_with_the_folder_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    info = f"{SITE}/demo-1.0.dist-info"
    record = b"".join(b"%d,,\n" % number for number in range(9))
    cost = len(METADATA) + limits.PART * sum(METADATA.count(each) for each in (b"\n", b","))
    monkeypatch.setattr(limits, "ALL_READ", cost + len(record) + 27 * limits.PART + 4 * len(SITE))
    found = tree({f"{info}/METADATA": METADATA, f"{info}/RECORD": record})
    faults: list[str] = []
    (row,) = databases.distributions(found, faults)
    assert (len(row["files"]), len(found.faults)) == (4, 1)
    assert faults


def test_links_are_followed_as_far_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FOLLOWED", 60)
    made = tree({"/l": "-> a/../b/../" + "c" * 10, "/" + "c" * 10: b"x"})
    assert [made.read("/l") for _ in range(4)] == [b"x", b"x", None, None]
    assert len(made.faults) == 1


def test_includes_of_everything_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INCLUDES", 3)
    made = tree({"/etc/ld.so.conf": b"/first\n" + b"include /a/*\n" * 9 + b"/last\n", "/a/x": b"/x\n"})
    matched: list[str] = []

    def matches(path: str, _: str) -> bool:
        matched.append(path)
        return path == "/a/x"

    monkeypatch.setattr(databases, "_matches", matches)
    assert databases.loader_dirs(made) == ["/first", "/x", "/last"]
    assert len(matched) == 3 * len(made.kinds)
    assert len(made.faults) == 1


def test_texts_are_kept_while_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ALL_TEXTS", 25)
    made = tree({"/x": b"y" * 10, **{f"/usr/share/jetpare/l{number}": "-> /x" for number in range(9)}})
    faults: list[str] = []
    kept = list(databases.texts(made, faults))
    assert [path for path, _ in kept] == ["/usr/share/jetpare/l0", "/usr/share/jetpare/l1"]
    assert len(faults) == 1


def test_what_lists_and_links_cost_too_much_is_told_with_the_other_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INCLUDES", 0)
    entry = TreeEntry("/etc/ld.so.conf", "file", 9, 0o644, 0, 0, None, None)
    found = dict(main.tables([entry], {entry.path: {"content": b"include x"}}, []))
    assert len(found["faults"]) == 1


def test_a_value_of_very_many_lines_is_read_in_one_go() -> None:
    begin = time.process_time()
    ((_, value),) = next(databases.fields("A: 1\n" + " x\n" * 1_000_000))
    assert len(value) == 1 + 2 * 1_000_000
    assert time.process_time() - begin < 20  # each line copying those before it would take many minutes


@given(st.integers(0, 1200), st.binary(min_size=1, max_size=8))
def test_no_damage_to_an_elf_file_gets_further_than_a_fault(position: int, bytes_: bytes) -> None:
    data = bytearray(library())
    data[position : position + len(bytes_)] = bytes_
    entry = TreeEntry("/x", "file", len(data), 0o644, 0, 0, None, None)
    seen = look(entry, io.BytesIO(bytes(data)))
    if data[:4] != ELF_MAGIC:
        assert not {"elf", "faults"} & seen.keys()
    elif "elf" in seen:
        (row,) = inventory.decoded(json.dumps([main._elf_row("/x", seen["elf"])]).encode(), inventory.rows_of("elfs"))
        assert row.path == "/x"
    else:
        assert all(fault.startswith("this ELF file cannot be read") for fault in seen["faults"])


STATUS = b"""Package: demo
Status: install ok installed
Architecture: amd64
Source: demo-src (1.0)
Version: 1:1.0-1
Essential: yes
Pre-Depends: libc6 (>= 2.34)
Depends: a | b,
 c
Description: x
 .
 more

Package: gone
Status: deinstall ok config-files
Version: 1

Package: multi
Status: install ok installed
Architecture: i386
Version: 2
"""


def test_packages_come_from_dpkgs_database() -> None:
    faults: list[str] = []
    found = list(
        databases.packages(
            tree(
                {
                    "/var/lib/dpkg/status": STATUS,
                    "/var/lib/dpkg/info/demo.list": b"/.\n/usr\n/usr/bin\n/usr/bin/demo\n/usr/share/gone\n/lib/empty\n",
                    "/var/lib/apt/extended_states": b"Package: demo\nArchitecture: amd64\nAuto-Installed: 1\n",
                    "/lib": "-> usr/lib",
                    "/usr/lib/empty/x": b"",
                }
            ),
            faults,
        )
    )
    assert [(row["name"], row["version"], row["auto"]) for row in found] == [
        ("demo", "1:1.0-1", True),
        ("multi", "2", False),
    ]
    assert found[0]["depends"] == ["libc6 (>= 2.34)", "a | b", "c"]
    assert found[0]["source"] == "demo-src"
    assert found[0]["files"] == ["/usr/bin/demo", "/usr/share/gone"]
    assert found[0]["essential"]
    assert faults == ["/var/lib/dpkg/status: multi has no list of its files"]


def test_packages_of_an_image_without_dpkg_have_a_file_each() -> None:
    found = list(
        databases.packages(
            tree(
                {
                    "/var/lib/dpkg/status.d/base": b"Package: base\nVersion: 1\nArchitecture: amd64\n",
                    "/var/lib/dpkg/status.d/base.md5sums": b"0123  etc/x\n",
                }
            ),
            [],
        )
    )
    assert [(row["name"], row["files"], row["auto"]) for row in found] == [("base", ["/etc/x"], None)]


SITE = "/opt/venv/lib/python3.11/site-packages"
METADATA = b"Metadata-Version: 2.1\nName: Demo\nVersion: 1.0\nRequires-Dist: numpy>=1\n\nVersion: no\n"


def test_a_distribution_lists_its_files() -> None:
    faults: list[str] = []
    info = f"{SITE}/demo-1.0.dist-info"
    record = (
        b'demo/__init__.py,sha256=x,1\n"demo/a,b.py",,\n../../../bin/demo,,\nsingle.py,,\ndemo-1.0.dist-info/RECORD,,\n'
    )
    content: dict[str, bytes | str] = {
        f"{info}/METADATA": METADATA,
        f"{info}/RECORD": record,
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\nTag: py2-none-any\n",
        f"{info}/INSTALLER": b"uv\n",
        f"{SITE}/old.egg-info": b"Name: old\nVersion: 2\n",
        f"{SITE}/older.egg-info/PKG-INFO": b"Name: older\nVersion: 3\n",
        f"{SITE}/older.egg-info/installed-files.txt": b"../older.py\n",
        f"{SITE}/empty.dist-info/RECORD": b"",
    }
    demo, old, older = databases.distributions(tree(content), faults)
    assert (demo["name"], demo["version"], demo["location"], demo["installer"]) == ("Demo", "1.0", SITE, "uv")
    assert demo["requires"] == ["numpy>=1"]
    assert demo["tags"] == ["py3-none-any", "py2-none-any"]
    assert demo["top_level"] == ["demo", "single"]
    assert "/opt/venv/bin/demo" in demo["files"]
    assert f"{SITE}/demo/a,b.py" in demo["files"]
    assert (old["name"], old["files"], older["files"]) == ("old", None, [f"{SITE}/older.py"])
    assert faults == [f"{SITE}/empty.dist-info: no name in METADATA"]


@pytest.mark.parametrize("record", [b"\0\0\0", b'"open', b"one\ntwo,three\n", b"x" * 200_000 + b",,\n", b"\xff,,,,\n"])
def test_a_corrupted_record_is_a_fault(record: bytes) -> None:
    faults: list[str] = []
    info = f"{SITE}/demo-1.0.dist-info"
    found = list(databases.distributions(tree({f"{info}/METADATA": METADATA, f"{info}/RECORD": record}), faults))
    assert [row["name"] for row in found] == ["Demo"]
    assert [fault.partition(":")[0] for fault in faults] == [f"{info}/RECORD"]


def test_loader_folders_are_in_the_order_of_the_configuration() -> None:
    content: dict[str, bytes | str] = {
        "/etc/ld.so.conf": b"/first # why\ninclude ld.so.conf.d/*.conf\n/last\n/more/\n/first\n",
        "/etc/ld.so.conf.d/b.conf": b"/b\n",
        "/etc/ld.so.conf.d/a.conf": b"/a\ninclude /etc/ld.so.conf\n",
        "/etc/ld.so.conf.d/sub/c.conf": b"/c\n",
    }
    assert databases.loader_dirs(tree(content)) == ["/first", "/a", "/b", "/last", "/more"]


def cache(order: str, rows: list[tuple[str, str]], before: bytes = b"") -> bytes:
    strings, table = b"", b""
    begin = 48 + 24 * len(rows)
    for soname, path in rows:
        key = begin + len(strings)
        strings += soname.encode() + b"\0"
        value = begin + len(strings)
        strings += path.encode() + b"\0"
        table += struct.pack(order + "iIIIQ", 0x303, key, value, 0, 0)
    return (
        before
        + b"glibc-ld.so.cache1.1"
        + struct.pack(order + "II", len(rows), len(strings))
        + bytes(20)
        + table
        + strings
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("before", [b"", b"ld.so-1.7.0\0" + bytes(4)])
def test_the_loaders_cache_is_read(order: str, before: bytes) -> None:
    rows = [("libx.so.1", "/usr/lib/glibc-hwcaps/x86-64-v3/libx.so.1"), ("libx.so.1", "/usr/lib/libx.so.1")]
    faults: list[str] = []
    assert databases.loader_cache(cache(order, rows, before), faults) == [list(row) for row in rows]
    assert databases.loader_cache(cache(order, rows, before)[:100], faults) == []
    assert databases.loader_cache(b"something", faults) == []
    assert len(faults) == 2


def test_a_hostile_cache_of_the_loader_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = cache("<", [("a", "b" * 50_000)])
    assert [list(map(len, row)) for row in databases.loader_cache(endless, [])] == [[1, databases.PATH]]
    monkeypatch.setattr(databases, "CACHED", 3)
    faults: list[str] = []
    assert databases.loader_cache(cache("<", [("a", "/b")] * 4), faults) == []
    assert len(faults) == 1


def test_the_real_cache_of_this_machine_names_its_libc() -> None:
    path = Path("/etc/ld.so.cache")
    if not path.is_file():
        pytest.skip("this machine has no such cache")
    assert "libc.so.6" in dict(databases.loader_cache(path.read_bytes(), []))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"x = '/build/x'", ["/build/x"]),
        (b"${prefix}/build/x a/build/x ~/build/x", []),
        (b"/tmp/file /tmp/pip-req-build-abc/setup.py", ["/tmp/pip-req-build-abc/setup.py"]),
        (b"/root/.bashrc /root/src/a.c", ["/root/src/a.c"]),
        (b"/workspace/x\n" * 9, ["/workspace/x"] * limits.MENTIONS),
    ],
)
def test_builders_paths_are_mentioned(text: bytes, found: list[str]) -> None:
    assert [path for _, path in mentions(text)] == found


def test_links_are_followed_inside_the_tree() -> None:
    made = tree(
        {"/usr/lib/x": b"y", "/lib": "-> usr/lib", "/l1": "-> l2", "/l2": "-> l1", "/up": "-> ../../lib/../lib/x"}
    )
    assert made.real("/lib/x") == "/usr/lib/x"
    assert made.real("/up") == "/usr/lib/x"
    assert made.real("/l1") is None
    assert made.real("/l1/x") is None
    assert made.read("/lib/x") == b"y"
    assert made.real("/" + "a/" * 3000 + "b") == "/" + "a/" * 3000 + "b"


def test_a_tree_of_too_many_names_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path / "root", {f"/f{index}": b"" for index in range(30)})
    monkeypatch.setattr(limits, "NAMES", 2000)
    with pytest.raises(ValueError, match="names"):
        walked(tmp_path / "root")
    with pytest.raises(tarfile.TarError, match="names"):
        streamed(tmp_path / "root", tmp_path)


def test_what_is_too_large_to_be_kept_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path / "root", {"/var/lib/dpkg/status": b"x" * 300, "/etc/a.conf": b"y" * 50})
    monkeypatch.setattr(limits, "KEPT", 200)
    assert [fault.partition(":")[0] for fault in walked(tmp_path / "root")["faults"]] == ["/var/lib/dpkg/status"]
    monkeypatch.setattr(Looks, "room", 10)
    assert {fault.partition(":")[0] for fault in walked(tmp_path / "root")["faults"]} == {
        "/var/lib/dpkg/status",
        "/etc/a.conf",
    }


def test_it_needs_nothing_but_the_standard_library_at_first() -> None:
    imported = {
        name.removeprefix("jetpare.image.").partition(".")[0]
        for path in Path(collector.__path__[0]).glob("*.py")
        for node in ast.parse(path.read_text(), feature_version=(3, 8)).body
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - {"__future__", "collector"} <= sys.stdlib_module_names

"""Images made to be difficult, and the real thing: the inventory of each, and what is left behind."""

from __future__ import annotations

import io
import os
import re
import struct
import sys
import sysconfig
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from jetpare.base.errors import RecordError
from jetpare.engine import api, image_store
from jetpare.engine.model import Engine
from jetpare.image.inventory import Inventory
from jetpare.image.read import in_container, inventory_reader
from jetpare.project.project import host_architecture
from tests.trees import LIBRARY, PROGBITS, archive, elf, library

pytestmark = pytest.mark.engine

Make = Callable[..., str]
Entries = Mapping[str, bytes | str | tarfile.TarInfo]
HANG = b"\xeb\xfe"  # x86: jump to itself


def program(code: bytes) -> bytes:
    """A static x86-64 program of *code*."""
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    return head + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 120 + len(code), 120 + len(code), 4096) + code


def liar(text: bytes) -> bytes:
    """A static x86-64 program that writes *text* and ends: write(1, text, n); exit(0)."""
    code = b"\xb8\x01\0\0\0\xbf\x01\0\0\0\x48\x8d\x35" + (16).to_bytes(4, "little")
    code += b"\xba" + len(text).to_bytes(4, "little") + b"\x0f\x05" + b"\xb8\x3c\0\0\0\x31\xff\x0f\x05"
    return program(code + text)


def executable(content: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo()
    member.mode, member.size = 0o755, len(content)
    return member


def tar_of(entries: Entries, programs: Mapping[str, bytes] | None = None, paths: Sequence[Path] = ()) -> bytes:
    """As `archive`, with *programs* that can run, and with what this machine has at *paths*."""
    made = io.BytesIO(archive(entries))
    with tarfile.open(fileobj=made, mode="a", format=tarfile.PAX_FORMAT) as tar:
        for name, content in (programs or {}).items():
            member = executable(content)
            member.name = name.lstrip("/")
            tar.addfile(member, io.BytesIO(content))
        for path in paths:
            tar.add(path, arcname=str(path).lstrip("/"), recursive=False)
    return made.getvalue()


@pytest.fixture
def make(running: Engine) -> Iterator[Make]:
    """Imports a tar as an image; all of them go at the end."""
    made: list[str] = []

    def one(data: bytes, *, changes: Sequence[str] = (), platform: str = "") -> str:
        name = f"jetpare-xray-test/i{os.getpid()}:{len(made)}"
        with api.client(running) as docker:
            calls: Any = docker.api
            parameters = {"fromSrc": "-", "repo": name, "changes": list(changes), "platform": platform}
            answer = calls._post(
                calls._url("/images/create"), data=data, params=parameters, headers={"Content-Type": "application/tar"}
            )
            calls._raise_for_status(answer)
        made.append(name)
        return name

    yield one
    for name in made:
        image_store.remove_image(running, name)


@pytest.fixture
def look(running: Engine, tmp_path: Path) -> Iterator[Callable[[str], tuple[Inventory, list[str]]]]:
    """The inventory of an image, and what was said; proves that no container is left."""

    def one(reference: str) -> tuple[Inventory, list[str]]:
        said: list[str] = []
        return inventory_reader.take(running, reference, state=tmp_path / "state", say=said.append), said

    yield one
    with api.client(running) as docker:
        left = docker.api.containers(all=True, filters={"name": "jetpare-measure-"})
    assert [each["Names"] for each in left if f"i{os.getpid()}" in each["Image"]] == []


Take = Callable[[str], tuple[Inventory, list[str]]]


def loader() -> dict[str, bytes]:
    """The program loader, at its place below the folders' own names."""
    places = (Path("/lib64/ld-linux-x86-64.so.2"), Path("/lib/ld-linux-aarch64.so.1"))
    return {str(each.parent.resolve() / each.name): each.read_bytes() for each in places if each.exists()}


def own_python() -> list[Path]:
    """This Python, its standard library and the libraries that it maps, at their places on this machine."""
    import ctypes  # noqa: F401 - so that more of them are mapped
    import hashlib  # noqa: F401
    import multiprocessing.pool  # noqa: F401

    binary = Path(sys.executable).resolve()
    standard = Path(sysconfig.get_path("stdlib")).resolve()
    mapped = {
        Path(line.split()[-1]) for line in Path("/proc/self/maps").read_text().splitlines() if ".so" in line.split()[-1]
    }
    system = {path for path in mapped if re.search(r"/(lib|lib64)/", str(path)) and "site-packages" not in str(path)}
    links = [
        link
        for each in system
        for link in each.parent.iterdir()
        if link.is_symlink() and link.resolve() == each.resolve()
    ]
    skipped = {"site-packages", "dist-packages", "test", "__pycache__", "idlelib", "tkinter"}
    modules = [path for path in standard.rglob("*") if not skipped & set(path.parts)]
    folders = [path for path in modules if path.is_dir()]
    files = [path for path in modules if path.is_file() and not path.is_dir()]
    tops = [Path(each) for each in ("/lib", "/lib64") if Path(each).is_symlink()]
    return list(dict.fromkeys([*tops, *folders, *files, binary, *sorted(system), *links]))


ODD: Entries = {
    LIBRARY: library(),
    "/usr/lib/libdemo.so": "-> libdemo.so.1",
    "/opt/bomb.so": elf({f".s{index}": (PROGBITS, b"") for index in range(30_000)}),
    "/opt/broken.so": library()[:90],
    "/opt/a\nname": b"same",
    "/opt/b": b"same",
    "/opt/loop": "-> loop",
    "/etc/hosts": b"of the image",
    "/etc/os-release": b"ID=odd\n",
}


def odd(name: str, kind: bytes, **more: Any) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    for key, value in more.items():
        setattr(member, key, value)
    return member


def odd_entries() -> dict[str, Any]:
    return {
        **ODD,
        os.fsdecode(b"/opt/not\xffutf8"): b"x",
        "/opt/device": odd("device", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        "/opt/fifo": odd("fifo", tarfile.FIFOTYPE, mode=0o600),
        "/opt/second": odd("second", tarfile.LNKTYPE, linkname="opt/b"),
    }


def test_an_image_of_nothing_but_files(make: Make, look: Take) -> None:
    found, said = look(make(tar_of(odd_entries())))
    assert found.how == "stream"
    assert "instead" in said[0]
    kinds = {path: found.by_path[path].kind for path in found.by_path if path.startswith("/opt/")}
    assert kinds == {
        "/opt/a\nname": "file",
        "/opt/b": "file",
        "/opt/bomb.so": "file",
        "/opt/broken.so": "file",
        "/opt/device": "device",
        "/opt/fifo": "fifo",
        "/opt/loop": "link",
        "/opt/not\udcffutf8": "file",
        "/opt/second": "file",
    }
    assert found.by_path["/opt/second"].hardlink == "/opt/b"
    assert found.by_path["/opt/b"].digest == found.by_path["/opt/a\nname"].digest
    assert [each.path for each in found.elfs] == [LIBRARY]
    assert {fault.partition(":")[0] for fault in found.faults} == {"/opt/bomb.so", "/opt/broken.so"}
    assert "/etc/hosts" not in found.by_path
    assert found.texts["/etc/os-release"] == "ID=odd\n"


def test_an_image_with_a_python_is_read_by_it_and_both_ways_agree(
    make: Make, look: Take, running: Engine, tmp_path: Path
) -> None:
    python = "/usr/bin/python3"
    entries = {**odd_entries(), python: f"-> {Path(sys.executable).resolve()}"}
    if str(Path(sys.executable).resolve()) == python:
        del entries[python]
    reference = make(
        tar_of(entries, loader(), own_python()), changes=["ENV NVIDIA_VISIBLE_DEVICES=all", "WORKDIR /not/there"]
    )
    found, said = look(reference)
    assert found.how == "container"
    assert not any("instead" in each for each in said)
    assert found.settings.env["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert "/not" not in found.by_path
    with api.client(running, timeout=300) as docker:
        calls: Any = docker.api
        image = calls.inspect_image(reference)
        tables = inventory_reader.from_stream(docker, image["Id"], state=tmp_path, say=said.append)
        streamed = inventory_reader.assemble(image, calls.history(image["Id"]), tables, how="container")
    assert streamed == found
    assert len(found.elfs) > 10
    assert found.bytes > 10_000_000


def test_the_second_look_is_from_the_cache(make: Make, look: Take, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = make(tar_of({"/x": b"y"}))
    first, _ = look(reference)
    monkeypatch.setattr(inventory_reader, "_read", None)
    assert look(reference)[0] == first


def test_an_image_that_is_not_there_is_one_message(look: Take) -> None:
    with pytest.raises(RecordError, match=r"^jetpare-xray-test/none:1: .* no such image"):
        look("jetpare-xray-test/none:1")


def test_an_image_of_another_architecture_is_read_from_the_stream(make: Make, look: Take) -> None:
    other = {"amd64": "arm64", "arm64": "amd64"}[host_architecture()]
    found, said = look(make(tar_of({"/x": b"y"}), platform=f"linux/{other}"))
    assert (found.how, found.platform.split("/")[1]) == ("stream", other)
    assert f"it is for {other}" in said[0]


def test_what_a_volume_would_hide_is_found(make: Make, look: Take) -> None:
    found, _ = look(make(tar_of({"/data/x": b"y"}), changes=["VOLUME /data"]))
    assert found.by_path["/data/x"].size == 1
    assert found.settings.volumes == ("/data",)


@pytest.mark.skipif(host_architecture() != "amd64", reason="the programs are x86-64")
@pytest.mark.parametrize(
    ("fake", "why"),
    [
        (program(HANG), "timed out"),
        (liar(b'ready\n["files",[["../x","dir",0,493,0,0,null,null,null]]]\n["end",[]]\n'), ""),
        (liar(b"hello\n"), "not what the collector says"),
        (liar(b""), "it said nothing"),
        (b"#!/no/such/interpreter\n", "no such file"),
    ],
    ids=["hangs", "lies", "is something else", "is silent", "does not start"],
)
def test_a_python_that_is_none(make: Make, look: Take, monkeypatch: pytest.MonkeyPatch, fake: bytes, why: str) -> None:
    monkeypatch.setattr(in_container, "FIRST_SECONDS", 8.0)
    found, said = look(make(tar_of({"/x": b"y"}, {"/usr/bin/python3": fake})))
    assert found.how == "stream"
    assert why in said[0]
    assert found.by_path["/x"].size == 1


def test_two_hundred_thousand_files(make: Make, look: Take) -> None:
    entries = {f"/opt/d{number // 1000}/file-with-a-name-{number}": b"" for number in range(200_000)}
    found, _ = look(make(tar_of(entries)))
    assert sum(file.path.startswith("/opt/d") and file.kind == "file" for file in found.files) == 200_000


def test_a_stream_without_an_end_is_an_error(
    make: Make, running: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jetpare.base.errors import EngineError

    reference = make(tar_of({"/x": b"y"}))
    monkeypatch.setattr(inventory_reader, "STREAM_SECONDS", -1.0)
    with pytest.raises(EngineError, match="no end"):
        inventory_reader.take(running, reference, state=tmp_path)

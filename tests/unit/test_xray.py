"""From what an image answers to an Inventory: what is believed, what is kept, and what is thrown away."""

from __future__ import annotations

import ast
import gzip
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jetpare.engine import api
from jetpare.engine.model import Engine
from jetpare.image.inventory import File, Inventory, LayerInfo
from jetpare.image.read import answer, in_container, inventory_reader, reader_id
from tests.inventories import image

FILE = ["/etc", "dir", 0, 0o755, 0, 0, None, None, None]
ID = "sha256:" + "0" * 64
INSPECT = {
    "Id": ID,
    "Os": "linux",
    "Architecture": "arm64",
    "Variant": "v8",
    "RootFS": {"Layers": ["sha256:a", "sha256:b"]},
    "Config": {
        "Env": ["A=b=c"],
        "Cmd": ["bash"],
        "ExposedPorts": {"80/tcp": {}},
        "Healthcheck": {"Test": ["CMD", "true"]},
        "Entrypoint": None,
    },
}


def lines(*tables: object) -> Iterator[bytes]:
    return iter([json.dumps(each).encode() for each in tables])


def gathered(*tables: object) -> dict[str, Any]:
    return answer.gather(lines(*tables), lambda _: None)


def test_what_the_collector_says_is_taken() -> None:
    found = gathered(
        ["progress", [1, 2]],
        ["files", [FILE]],
        ["files", [["/x", "file", 1, 0, 0, 0, None, None, "a" * 64]]],
        ["end", []],
    )
    assert found["files"] == [
        File(path="/etc", kind="dir", mode=0o755),
        File(path="/x", kind="file", size=1, digest="a" * 64),
    ]


@pytest.mark.parametrize(
    "tables",
    [
        [["files", [FILE]]],
        [["files", [FILE[:-1]]], ["end", []]],
        [["files", [["etc", *FILE[1:]]]], ["end", []]],
        [["files", [["/e\0tc", *FILE[1:]]]], ["end", []]],
        [["files", [["//a/b", *FILE[1:]]]], ["end", []]],
        [["files", [["/a//b", *FILE[1:]]]], ["end", []]],
        [["files", [["/a/../b", *FILE[1:]]]], ["end", []]],
        [["files", [["/a/", *FILE[1:]]]], ["end", []]],
        [["progress", [float("inf"), 1]], ["end", []]],
        [["files", [["/\ud800", *FILE[1:]]]], ["end", []]],
        [["files", [["/etc", "folder", *FILE[2:]]]], ["end", []]],
        [["files", [["/etc", "dir", -1, *FILE[3:]]]], ["end", []]],
        [["files", [["/etc", "dir", 1e3, *FILE[3:]]]], ["end", []]],
        [["files", [["/etc", "dir", True, *FILE[3:]]]], ["end", []]],
        [["files", [[*FILE[:-1], "zz"]]], ["end", []]],
        [["files", [FILE, FILE]], ["end", []]],
        [["files", [["/x", *FILE[1:]], FILE]], ["end", []]],
        [["files", [[*FILE[:7], "/nowhere", None]]], ["end", []]],
        [["mentions", [["/nowhere", 1, "/build/x"]]], ["end", []]],
        [["elfs", [{"path": "/x"}]], ["end", []]],
        [["files", [["/etc", "dir", 2**63, *FILE[3:]]]], ["end", []]],
        [["files", [["/etc", "dir", *FILE[2:], None]]], ["end", []]],
        [["files", [["/etc", "dir", *FILE[2:6], "\ud800", None, None]]], ["end", []]],
        [["distributions", [{"name": "a", "version": "1", "location": "/", "info": "/a"}]], ["end", []]],
        [["texts", [["a", "b", "c"]]], ["end", []]],
        [["layers", []], ["end", []]],
        [["texts", ["ab"]], ["texts", [["a"]]], ["end", []]],
        [["nothing", []], ["end", []]],
        [[[[]], []]],
        ["text"],
        [3],
        [None],
    ],
)
def test_what_it_cannot_have_said_is_not(tables: list[object]) -> None:
    with pytest.raises(answer.NoAnswerError):
        gathered(*tables)


def test_a_name_that_is_not_utf8_is_taken_as_its_bytes() -> None:
    found = gathered(["files", [["/\udcff\U0001f600", *FILE[1:]]]], ["end", []])
    assert [os.fsencode(file.path) for file in found["files"]] == [b"/\xff\xf0\x9f\x98\x80"]


def test_a_line_that_is_no_json_or_too_deep_is_not_taken() -> None:
    for line in (b"no json", b"[" * 100_000, b"\xff\xfe"):
        with pytest.raises(answer.NoAnswerError):
            answer.gather(iter([line]), lambda _: None)


@pytest.mark.parametrize(
    ("store", "layers"), [("containerd", 10), ("zfs", 10), ("overlay2", None), ("overlay2", 2**40)]
)
def test_bytes_that_may_be_are_believed(store: str, layers: int | None) -> None:
    answer.check_bytes({"files": [File(path="/x", kind="file", size=2**40)]}, store, layers)
    with pytest.raises(answer.NoAnswerError, match="its layers have 10"):
        answer.check_bytes({"files": [File(path="/x", kind="file", size=2**40)]}, "overlay2", 10)


def test_more_bytes_than_the_layers_have_are_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    liar = {name: list[Any]() for name in answer.READ} | {"files": [File(path="/x", kind="file", size=9 * 10**18)]}
    honest = {**liar, "files": [File(path="/x", kind="file", size=9)]}
    monkeypatch.setattr(in_container, "from_container", lambda *_: liar)
    monkeypatch.setattr(inventory_reader, "from_stream", lambda *_, **__: honest)

    class Docker:
        api: Any = None

        def info(self) -> dict[str, str]:
            return {"Driver": "overlay2", "Architecture": "aarch64"}

        def history(self, _: str) -> list[Any]:
            return []

    docker: Any = Docker()
    docker.api = docker
    said: list[str] = []
    found = inventory_reader._read(docker, {**INSPECT, "Size": 683_000}, state=Path(), say=said.append)
    assert (found.bytes, found.how) == (9, "stream")
    assert "9000000000000000000 bytes in files, its layers have 683000" in said[0]


def parts(data: bytes, size: int = 5) -> Callable[[float], bytes]:
    """Gives *data* in small parts."""
    file = io.BytesIO(data)
    return lambda _: file.read(size)


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def test_the_stream_of_a_container_is_taken_apart() -> None:
    answer = parts(frame(1, b"on") + frame(2, b"warning\n") + frame(1, b"e\ntwo\nrest"))
    assert list(in_container._lines(in_container._stdout(in_container._frames(answer)))) == [b"one", b"two"]


def test_a_container_that_only_complains_is_no_answer() -> None:
    with pytest.raises(answer.NoAnswerError, match=r"^SyntaxError: x$"):
        list(in_container._stdout(in_container._frames(parts(frame(2, b"Traceback\n  x\nSyntaxError: x\n")))))
    with pytest.raises(answer.NoAnswerError, match="nothing"):
        list(in_container._stdout(in_container._frames(parts(b""))))


def test_an_answer_without_an_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_container, "ANSWER_BYTES", 1000)
    with pytest.raises(answer.NoAnswerError, match="no end"):
        list(in_container._frames(parts(frame(1, b"x" * 90) * 50, 64)))
    monkeypatch.setattr(in_container, "LINE_BYTES", 100)
    with pytest.raises(answer.NoAnswerError, match="without an end"):
        list(in_container._lines(iter([b"x" * 90] * 2)))
    with pytest.raises(answer.NoAnswerError, match="stream"):
        list(in_container._frames(parts(frame(1, b"x" * 300), 64)))
    with pytest.raises(TimeoutError):
        list(inventory_reader._within(-1, iter([b"x"])))


def test_settings_and_layers_are_the_engines() -> None:
    history = [
        {"CreatedBy": "ENV A=b", "Size": 0, "Created": 0},
        {"CreatedBy": "COPY x /", "Size": 7, "Created": 1_700_000_000},
        {"CreatedBy": "", "Size": 3, "Created": 0},
    ]
    tables: dict[str, Any] = {name: [] for name in answer.READ} | {"texts": [("/etc/os-release", "ID=x")]}
    found = inventory_reader.assemble(INSPECT, history, tables, how="stream")
    assert (found.platform, found.how, found.texts) == ("linux/arm64/v8", "stream", {"/etc/os-release": "ID=x"})
    assert found.layers == (
        LayerInfo(diff_id="sha256:a", size=3, instruction=None),
        LayerInfo(diff_id="sha256:b", size=7, instruction="COPY x /", created="2023-11-14T22:13:20Z"),
    )
    assert found.settings.env == {"A": "b=c"}
    assert (found.settings.ports, found.settings.healthcheck, found.settings.entrypoint) == (
        ("80/tcp",),
        ("CMD", "true"),
        (),
    )
    assert [layer.size for layer in inventory_reader.layers(["a", "b", "c", "d"], history)] == [None] * 4


@pytest.mark.parametrize(
    ("info", "config", "why"),
    [
        ({"Architecture": "aarch64"}, {}, ""),
        ({"Architecture": "x86_64"}, {}, "it is for arm64, the engine for amd64"),
        ({"Architecture": "aarch64"}, {"Volumes": {"/data": {}}}, "volumes hide what it has at /data"),
    ],
)
def test_an_image_that_a_container_would_not_show_is_not_run(
    info: dict[str, Any], config: dict[str, Any], why: str
) -> None:
    assert inventory_reader._not_to_be_run(info, {**INSPECT, "Config": config}) == why


# --- kept by digest


@pytest.fixture
def taken() -> Inventory:
    return image({"/a\udcff": 3, "/b": 4})


def load(path: Path, said: list[str] | None = None) -> Inventory | None:
    return inventory_reader._load(path, ID, (said if said is not None else []).append)


def test_what_was_stored_comes_back(tmp_path: Path, taken: Inventory) -> None:
    path = tmp_path / "inventories" / "x.json.gz"
    assert load(path) is None
    inventory_reader._store(path, taken)
    assert load(path) == taken
    assert [each.name for each in path.parent.iterdir()] == ["x.json.gz"]


@pytest.mark.parametrize("damage", [b"", b"\x1f\x8b", b"no gzip"])
def test_a_damaged_file_is_made_again_and_said(tmp_path: Path, damage: bytes) -> None:
    path, said = tmp_path / "x.json.gz", list[str]()
    path.write_bytes(damage)
    assert load(path, said) is None
    assert len(said) == 1
    assert str(path) in said[0]


def test_a_file_that_was_cut_or_is_of_another_image_is_not_used(tmp_path: Path, taken: Inventory) -> None:
    path, said = tmp_path / "x.json.gz", list[str]()
    inventory_reader._store(path, taken)
    whole = path.read_bytes()
    for cut in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:cut])
        assert load(path) is None
    path.write_bytes(whole)
    assert inventory_reader._load(path, "sha256:other", said.append) is None
    assert "other" not in said[0]


def test_bytes_that_were_flipped_are_found(tmp_path: Path, taken: Inventory) -> None:
    path = tmp_path / "x.json.gz"
    inventory_reader._store(path, taken)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        assert load(path) in (None, taken)


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("files", lambda rows: rows["rows"][0].__setitem__(2, "large")),
        ("files", lambda rows: rows["rows"].append(["//a", "dir", 0, 0, 0, 0, None, None, None])),
        ("files", lambda rows: rows["rows"].append(rows["rows"][0])),
        ("files", lambda rows: rows["rows"][0].pop()),
        ("files", lambda rows: rows["rows"][0].append(None)),
        ("files", lambda rows: rows["rows"][0].__setitem__(2, 2**63)),
        ("files", lambda rows: rows["rows"][0].__setitem__(6, "\ud800")),
        ("files", lambda rows: rows["columns"].reverse()),
        ("interpreters", lambda scripts: scripts.update({"/x\ud800": "sh"})),
        ("layers", lambda rows: rows["rows"].append(["sha256:a", "large", None, None])),
        ("settings", lambda settings: settings.update(env={"A": 1})),
        ("settings", dict.clear),
        ("texts", lambda texts: texts.update(a=[])),
        ("faults", lambda faults: faults.append(3)),
    ],
)
def test_what_was_stored_is_checked(
    tmp_path: Path, taken: Inventory, table: str, change: Callable[[Any], object]
) -> None:
    path, said = tmp_path / "x.json.gz", list[str]()
    content = json.loads(json.dumps({"reader": reader_id.reader(), **taken.as_dict()}))
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    assert load(path) == taken
    change(content[table])
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    assert load(path, said) is None
    assert len(said) == 1


def test_what_cannot_be_kept_is_not_lost(tmp_path: Path, taken: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def client(*_: object, **__: object) -> Iterator[None]:
        yield

    monkeypatch.setattr(api, "client", client)
    monkeypatch.setattr(inventory_reader, "_inspect", lambda *_: INSPECT)
    monkeypatch.setattr(inventory_reader, "_read", lambda *_, **__: taken)
    cached = tmp_path / "inventories" / f"{'0' * 64}.json.gz"
    cached.mkdir(parents=True)
    said: list[str] = []
    running = Engine(docker="docker", env={}, overrides={}, private=False)
    assert inventory_reader.take(running, "x", state=tmp_path, say=said.append) == taken
    assert said[-1].startswith(f"{cached}: not kept (")
    assert [each.name for each in cached.parent.iterdir()] == [cached.name]


def test_what_another_removes_meanwhile_and_what_was_left_behind(tmp_path: Path, taken: Inventory) -> None:
    (tmp_path / "gone.json.gz").symlink_to("nowhere")
    old, new = tmp_path / ".new-old", tmp_path / ".new-new"
    old.touch()
    new.touch()
    os.utime(old, (1, 1))
    inventory_reader._store(tmp_path / "x.json.gz", taken)
    assert {each.name for each in tmp_path.iterdir()} == {"gone.json.gz", ".new-new", "x.json.gz"}


def test_another_way_of_reading_makes_it_anew_silently(
    tmp_path: Path, taken: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, said = tmp_path / "x.json.gz", list[str]()
    inventory_reader._store(path, taken)
    monkeypatch.setattr(reader_id, "reader", lambda: "other")
    assert load(path, said) is None
    assert said == []


def test_the_oldest_are_dropped(tmp_path: Path, taken: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory_reader, "KEPT_INVENTORIES", 3)
    for number in range(3):
        inventory_reader._store(tmp_path / f"{number}.json.gz", taken)
        os.utime(tmp_path / f"{number}.json.gz", (number + 1, number + 1))
    assert load(tmp_path / "0.json.gz") is not None  # used now, so the next oldest goes
    inventory_reader._store(tmp_path / "3.json.gz", taken)
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["0", "2", "3"]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, taken: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gzip, "compress", fail)
    with pytest.raises(OSError, match="No space"):
        inventory_reader._store(tmp_path / "x.json.gz", taken)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.processes
def test_the_program_runs_from_memory_in_an_isolated_python() -> None:
    """What is sent into a container, started as there, without the rest: it must get as far as reading a tree."""
    boot = in_container.BOOT.replace(
        "main.main()", "print(main.__file__, main.scan.__name__)\nimport elftools.elf.elffile"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", boot, str(len(in_container.program()))],
        input=in_container.program(),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(in_container.READY + b"\n/proc/self/fd/")
    with zipfile.ZipFile(io.BytesIO(in_container.program())) as archive:
        assert {name.partition("/")[0] for name in archive.namelist()} == {"jetpare", "elftools"}


def test_the_reader_is_all_that_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    aside = {"jetpare.engine.api", "jetpare.engine.disk", "jetpare.engine.model"}  # where an engine is, not what it has
    aside |= {"jetpare.image.kept", "jetpare.image.collector"}  # keeps files; is part of `program`
    used: set[str] = set()
    for path in Path(str(reader_id.__file__)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith(("jetpare.image", "jetpare.engine")):
                package = node.module in ("jetpare.image", "jetpare.engine")
                used |= {f"{node.module}.{each.name}" for each in node.names} if package else {str(node.module)}
    used = {name for name in used if not name.startswith("jetpare.image.read")}
    assert used - aside <= {part.__name__ for part in reader_id.PARTS}
    reader = reader_id.reader.__wrapped__
    usual = reader()
    for number in range(len(reader_id.PARTS)):
        with monkeypatch.context() as patch:
            patch.setattr(reader_id, "PARTS", reader_id.PARTS[:number] + reader_id.PARTS[number + 1 :])
            assert reader() != usual

"""Files that are written as a whole or not at all."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jetpare.base import files


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    files.write_out(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_device_is_written_to_and_stays_one() -> None:
    files.write_out(Path("/dev/null"), b"x")
    assert Path("/dev/null").is_char_device()


def test_a_full_disk_loses_nothing_and_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        files.write_out(path, b"new")
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["report"]


def test_concurrent_writers_and_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    contents = {bytes([letter]) * 300_000 for letter in b"ab"}
    files.write_atomically(path, next(iter(contents)))
    done = threading.Event()

    def write(content: bytes) -> None:
        for _ in range(60):
            files.write_atomically(path, content)

    def read() -> int:
        count = 0
        while not done.is_set():
            assert path.read_bytes() in contents
            count += 1
        return count

    with ThreadPoolExecutor(3) as pool:
        reader, writers = pool.submit(read), [pool.submit(write, content) for content in contents]
        try:
            for writer in writers:
                writer.result()
        finally:
            done.set()
        assert reader.result()
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]


def test_updates_of_one_file_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "kept.json"

    def adding(key: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        return lambda known: {**known, key: 1}

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: files.update_json(path, adding(str(number))), range(40)))
    assert set(json.loads(path.read_text())) == {str(number) for number in range(40)}


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff", b"[" * 200_000])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "kept.json"
    path.write_bytes(damage)
    files.update_json(path, lambda known: {**known, "a": 1})
    assert files.json_object(path) == {"a": 1}


def test_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.write_atomically(tmp_path / "usual", "x")
        files.write_atomically(tmp_path / "secret", "x", mode=0o600)
        files.write_atomically(tmp_path / "for all", "x", mode=0o644)
    finally:
        os.umask(before)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    assert modes == {"usual": 0o640, "secret": 0o600, "for all": 0o644}


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()])
def test_a_write_that_is_cut_short_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "report"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(type(error)):
        files.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["report"]


def test_the_folder_in_the_place_of_a_file_stays(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    with pytest.raises(OSError, match="directory") as caught:
        files.write_atomically(tmp_path / "report", "new")
    assert caught.value.filename == str(tmp_path / "report")
    assert [each.name for each in tmp_path.iterdir()] == ["report"]


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    files.write_atomically(tmp_path / ("x" * 255), "new")
    assert (tmp_path / ("x" * 255)).read_text() == "new"


def test_a_pipe_that_a_link_names() -> None:
    reading, writing = os.pipe()
    try:
        files.write_out(Path(f"/proc/self/fd/{writing}"), b"into the pipe")
        assert os.read(reading, 100) == b"into the pipe"
    finally:
        os.close(reading)
        os.close(writing)


def test_removing(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    files.remove(tmp_path / "a")
    files.remove(tmp_path / "a")
    assert not list(tmp_path.iterdir())

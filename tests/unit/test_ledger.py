"""Run records: whole at every moment, and readable whatever happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from jetpare.base.errors import BusyError
from jetpare.records import ledger
from jetpare.records.ledger import Ledger, Record, StageRecord


def record(**changes: Any) -> Record:
    return Record.model_validate(
        {
            "tool": "test", "id": "20250102-030405", "task": "build-all", "status": "running", "pid": os.getpid(), "started": 1.0,
            "profile": "mini", "platform": "linux/amd64", "parallel": False, "cold": False, "config_digest": "sha256:0",
            "revision": None, "host": {}, "engine": {},
            "stages": (StageRecord(label="cuda/gdal", status="running"), StageRecord(label="cuda/runtime", status="waiting")),
        }
        | changes
    )  # fmt: skip


def test_what_was_written_is_read(tmp_path: Path) -> None:
    kept = Ledger(tmp_path)
    kept.write(record(status="succeeded", wall_seconds=1.5))
    ((found, folder),) = list(kept.records())
    assert found == record(status="succeeded", wall_seconds=1.5)
    assert json.loads((folder / "run.json").read_text())["schema_version"] == 1
    assert [each.name for each in folder.iterdir()] == ["run.json"]


def test_a_run_whose_process_is_gone_was_interrupted(tmp_path: Path) -> None:
    gone = subprocess_pid()
    Ledger(tmp_path).write(record(pid=gone))
    ((found, _),) = list(Ledger(tmp_path).records())
    assert found is not None
    assert found.status == "interrupted"
    assert [row.status for row in found.stages] == ["interrupted", "waiting"]


@pytest.mark.parametrize("pid", [0, -1, 1 << 40, 10**30])
def test_a_number_that_no_process_has_is_of_a_run_that_ended(tmp_path: Path, pid: int) -> None:
    Ledger(tmp_path).write(record(pid=pid))
    ((found, _),) = list(Ledger(tmp_path).records())
    assert found is not None
    assert found.status == "interrupted"


def test_a_run_whose_process_lives_is_running(tmp_path: Path) -> None:
    Ledger(tmp_path).write(record())
    ((found, _),) = list(Ledger(tmp_path).records())
    assert found is not None
    assert found.status == "running"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema_version": 1}', "\x00", "null"])
def test_a_damaged_record_is_skipped(tmp_path: Path, content: str) -> None:
    kept = Ledger(tmp_path)
    kept.write(record())
    (kept.folder / "20250102-030406").mkdir()
    (kept.folder / "20250102-030406/run.json").write_text(content)
    assert [found is None for found, _ in kept.records()] == [True, False]


def test_a_foreign_or_newer_record_is_skipped(tmp_path: Path) -> None:
    kept = Ledger(tmp_path)
    kept.write(record())
    folder = kept.path("20250102-030405")
    content = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(content | {"schema_version": 2}))
    assert kept.read(folder.name) is None
    (folder / "run.json").write_text(json.dumps(content | {"id": "other"}))
    assert kept.read(folder.name) is None
    (folder / "run.json").write_text(json.dumps(content | {"future": 1}))
    assert kept.read(folder.name) is not None


def new_run(kept: Ledger, year: int) -> str:
    """A run that a clock in *year* saw, as the next one of *kept*."""
    began = datetime(year, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    run = kept.new_id(began)
    kept.write(record(id=run, started=began.timestamp()))
    return run


def test_an_id_says_when_the_run_began_and_is_never_given_twice(tmp_path: Path) -> None:
    kept = Ledger(tmp_path)
    first, second = new_run(kept, 2025), new_run(kept, 2025)
    assert first != second
    assert all("20250102-030405" in run for run in (first, second))


def test_an_id_is_beyond_those_that_are_remembered_though_their_folders_are_gone(tmp_path: Path) -> None:
    made = Ledger(tmp_path).new_id(datetime.now(timezone.utc), remembered=("0006-20250102-030405", "no id"))
    assert made.startswith("0007-")


def test_runs_are_in_the_order_in_which_they_were_made_whatever_the_clock_said(tmp_path: Path) -> None:
    kept = Ledger(tmp_path)
    runs = [new_run(kept, year) for year in (2025, 1970, 2026, 1970, 2024)]
    assert [folder.name for _, folder in kept.records()] == runs[::-1]
    assert [folder.name for _, folder in Ledger(tmp_path).records()] == runs[::-1]


def test_a_number_that_another_digit_begins_sorts_after_the_ones_before(tmp_path: Path) -> None:
    kept = Ledger(tmp_path)
    for run in ("9999-20250102-030405", "0999-20250102-030405"):
        kept.write(record(id=run))
    newest = new_run(kept, 1970)
    assert next(folder.name for _, folder in kept.records()) == newest


def test_runs_of_older_versions_come_before_by_their_start(tmp_path: Path) -> None:
    kept = Ledger(tmp_path)
    old = ["20250102-030405", "20250102-030405-2", "20250102-030405-10", "20250102-030406"]
    for run in old:
        kept.write(record(id=run))
    newest = new_run(kept, 1970)
    assert [folder.name for _, folder in kept.records()] == [newest, *reversed(old)]
    assert not {newest.partition("-")[0]} & {new_run(kept, 1970).partition("-")[0]}


def test_a_damaged_record_keeps_its_place_and_its_number(tmp_path: Path) -> None:
    kept = Ledger(tmp_path)
    runs = [new_run(kept, 2025) for _ in range(3)]
    (kept.path(runs[1]) / "run.json").write_text("{")
    (kept.path(runs[2]) / "run.json").unlink()
    assert [(found is None, folder.name) for found, folder in kept.records()] == [
        (True, runs[2]), (True, runs[1]), (False, runs[0]),
    ]  # fmt: skip
    assert new_run(kept, 2025) not in runs


# --- reading each record once


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The records that were parsed, one entry each time."""
    seen: list[str] = []
    parse = Record.model_validate_json

    def counted(data: bytes) -> Record:
        found = parse(data)
        seen.append(found.id)
        return found

    monkeypatch.setattr(Record, "model_validate_json", counted)
    return seen


def test_a_record_is_parsed_once_for_all_questions(tmp_path: Path, parses: list[str]) -> None:
    runs = [new_run(Ledger(tmp_path), 2025) for _ in range(3)]
    kept = Ledger(tmp_path)
    for label in ("cuda/gdal", "cuda/none", "cuda/runtime"):
        kept.latest(profile="mini", label=label)
    assert len(list(kept.readable())) == len(runs)
    assert sorted(parses) == runs


def test_what_the_ledger_writes_itself_is_what_it_reads_next(tmp_path: Path) -> None:
    kept = Ledger(tmp_path)
    run = new_run(kept, 2025)
    for status in ("running", "succeeded", "running", "succeeded"):
        kept.write(record(id=run, status=status))
        assert [found.status for found in kept.readable()] == [status]


def test_what_another_process_writes_is_read_again(tmp_path: Path, parses: list[str]) -> None:
    mine, other = Ledger(tmp_path), Ledger(tmp_path)
    runs = [new_run(other, 2025) for _ in range(2)]
    assert [found.status for found in mine.readable()] == ["running", "running"]
    other.write(record(id=runs[1], status="succeeded", failure="longer than before"))
    third = new_run(other, 2025)
    assert [(found.id, found.status) for found in mine.readable()] == [
        (third, "running"), (runs[1], "succeeded"), (runs[0], "running"),
    ]  # fmt: skip
    assert parses.count(runs[0]) == 1


def test_a_run_whose_process_ends_while_we_look_becomes_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Ledger(tmp_path)
    new_run(kept, 2025)
    assert [found.status for found in kept.readable()] == ["running"]
    monkeypatch.setattr(ledger, "_alive", lambda _: False)
    assert [found.status for found in kept.readable()] == ["interrupted"]


def test_the_latest_run_that_did_something(tmp_path: Path) -> None:
    kept = Ledger(tmp_path)
    kept.write(record(id="20250101-000000", stages=(StageRecord(label="cuda/gdal", status="ok"),)))
    kept.write(record(id="20250102-000000", stages=(StageRecord(label="cuda/gdal", status="skipped"),)))
    kept.write(record(id="20250103-000000", profile="other", stages=(StageRecord(label="cuda/gdal", status="ok"),)))
    found = kept.latest(profile="mini", label="cuda/gdal")
    assert found is not None
    assert found[0].id == "20250101-000000"
    assert kept.latest(profile="mini", label="cuda/none") is None


def test_two_runs_at_once_are_refused(tmp_path: Path) -> None:
    with (
        ledger.exclusive(tmp_path),
        pytest.raises(BusyError, match=f"process {os.getpid()}"),
        ledger.exclusive(tmp_path),
    ):
        pass
    with ledger.exclusive(tmp_path):  # the lock is free again
        pass


@pytest.mark.processes
def test_the_lock_ends_with_a_killed_process(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from jetpare.records import ledger\n"
        "with ledger.exclusive(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(BusyError, match=f"process {holder.pid}"), ledger.exclusive(tmp_path):
            pass
        holder.kill()
    with ledger.exclusive(tmp_path):
        pass


def subprocess_pid() -> int:
    """A process id that is certainly not in use: one above the kernel's limit."""
    return int(Path("/proc/sys/kernel/pid_max").read_text()) + 1

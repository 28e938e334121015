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

from jetpare import ledger
from jetpare.errors import BusyError
from jetpare.ledger import Ledger, Record, StageRecord


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
    assert ledger.read(folder) is None
    (folder / "run.json").write_text(json.dumps(content | {"id": "other"}))
    assert ledger.read(folder) is None
    (folder / "run.json").write_text(json.dumps(content | {"future": 1}))
    assert ledger.read(folder) is not None


def test_ids_sort_by_time_and_never_repeat(tmp_path: Path) -> None:
    kept = Ledger(tmp_path)
    now = datetime(2025, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    first = kept.new_id(now)
    (kept.folder / first).mkdir(parents=True)
    assert (first, kept.new_id(now)) == ("20250102-030405", "20250102-030405-2")


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
        "import sys, time; from pathlib import Path; from jetpare import ledger\n"
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

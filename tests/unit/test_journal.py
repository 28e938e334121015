"""The record of a run under way: what is on disk after each change, and what a full disk hides."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from jetpare.build import journal
from jetpare.build.journal import Journal
from jetpare.build.request import Request
from jetpare.engine import api
from jetpare.records import ledger
from jetpare.records.ledger import Ledger, Record, StageRecord
from tests.unit.conftest import Workshop

FULL = OSError(errno.ENOSPC, "No space left on device", "run.json")
LABELS = ("cuda/gdal", "cuda/python", "cuda/runtime", "cuda/slim", "cuda/x")


@pytest.fixture
def kept(tmp_path: Path) -> Journal:
    """A journal of five stages, of which nothing is on disk yet."""
    record = Record(
        tool="jetpare 1", id="0001-20260101-000000", task="build-all", status=ledger.RUNNING, pid=ledger.own_pid(),
        started=1.0, profile="mini", platform="linux/amd64", parallel=False, cold=False, config_digest="sha256:0",
        revision=None, host={}, engine={}, stages=tuple(StageRecord(label=each, status=ledger.WAITING) for each in LABELS),
    )  # fmt: skip
    return Journal(Ledger(tmp_path), record)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk on which no record can be written."""

    def refuse(*_: object) -> None:
        raise FULL

    monkeypatch.setattr(Ledger, "write", refuse)


def on_disk(kept: Journal) -> Record:
    record = Ledger(kept.folder.parent.parent).read(kept.record.id)
    assert record is not None
    return record


def put(kept: Journal, label: str, status: str, reason: str = "") -> None:
    kept.put_stage(StageRecord(label=label, status=status, reason=reason))


def outcome(record: Record) -> dict[str, tuple[str, str]]:
    return {row.label: (row.status, row.reason) for row in record.stages}


def test_what_is_opened_is_on_disk_with_its_folders(kept: Journal) -> None:
    kept.open()
    assert on_disk(kept) == kept.record
    assert {path.name for path in kept.folder.iterdir() if path.is_dir()} == {"logs", "events", "reports"}
    kept.open()  # again: the folders are there


def test_a_change_is_on_disk_at_once_and_changes_nothing_else(kept: Journal) -> None:
    kept.open()
    before = kept.record
    put(kept, "cuda/python", ledger.OK)
    kept.put(pull_seconds=2.5)
    assert on_disk(kept) == kept.record
    assert [row.label for row in kept.record.stages] == list(LABELS)
    assert kept.record.model_copy(update={"stages": before.stages, "pull_seconds": 0.0}) == before
    assert [row.status for row in kept.record.stages] == [ledger.WAITING, ledger.OK, *[ledger.WAITING] * 3]


@pytest.mark.parametrize(
    ("status", "running"),
    [
        (ledger.SUCCEEDED, ledger.OK),
        (ledger.FAILED, ledger.FAILED),
        (ledger.INTERRUPTED, ledger.INTERRUPTED),
    ],
)
def test_at_the_end_nothing_runs_or_waits(kept: Journal, status: str, running: str) -> None:
    kept.open()
    put(kept, "cuda/gdal", ledger.OK)
    put(kept, "cuda/python", ledger.RUNNING)
    put(kept, "cuda/runtime", ledger.SKIPPED, "said before")
    kept.close(status, "the disk is gone:\nlook")
    record = on_disk(kept)
    assert (record.status, record.failure) == (status, "the disk is gone:\nlook")
    assert outcome(record) == {
        "cuda/gdal": (ledger.OK, ""),
        "cuda/python": (running, "the disk is gone"),
        "cuda/runtime": (ledger.SKIPPED, "said before"),
        "cuda/slim": (ledger.SKIPPED, "the disk is gone"),
        "cuda/x": (ledger.SKIPPED, "the disk is gone"),
    }


def test_what_never_ran_names_the_stage_that_failed(kept: Journal) -> None:
    kept.open()
    put(kept, "cuda/gdal", ledger.FAILED, "exit code 1")
    kept.close(ledger.FAILED, "cuda/gdal failed at step 3\nmore")
    assert outcome(on_disk(kept)) == {
        "cuda/gdal": (ledger.FAILED, "exit code 1"),
        **dict.fromkeys(LABELS[1:], (ledger.SKIPPED, "cuda/gdal failed")),
    }


def test_a_run_that_ends_well_has_no_failure_and_took_some_time(kept: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 107.5])
    monkeypatch.setattr("jetpare.build.journal.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("jetpare.build.journal.time.time", lambda: 1234.5)
    made = Journal(Ledger(kept.folder.parent.parent), kept.record)
    made.open()
    made.close(ledger.SUCCEEDED)
    record = on_disk(made)
    assert (record.failure, record.wall_seconds, record.finished) == ("", 7.5, 1234.5)


@pytest.mark.usefixtures("full")
def test_a_record_that_cannot_be_written_raises_until_something_has_failed(kept: Journal) -> None:
    with pytest.raises(OSError, match="No space left"):
        kept.put(failure="a")
    kept.has_failed = True
    kept.put(failure="b")
    assert kept.record.failure == "b"  # so that the last record, if it can be written, has it
    with pytest.raises(OSError, match="No space left"):
        kept.close(ledger.FAILED, "b")


@pytest.mark.usefixtures("full")
def test_the_last_record_that_cannot_be_written_is_told_and_not_raised(kept: Journal) -> None:
    said = kept.close_after_failure(ledger.FAILED, "why")
    assert said.startswith("\n")
    assert "last record" in said
    assert "No space left" in said
    assert (kept.record.status, kept.record.failure) == (ledger.FAILED, "why")


def test_a_last_record_that_is_written_adds_nothing(kept: Journal) -> None:
    kept.open()
    assert kept.close_after_failure(ledger.INTERRUPTED, "interrupted") == ""
    assert on_disk(kept).status == ledger.INTERRUPTED


def test_a_run_begins_with_all_that_decides_its_times(workshop: Workshop) -> None:
    plan, facts = workshop.plan("cuda"), api.facts(workshop.engine)
    request = Request(task="gdal", parallel=True, cold=True)
    made = journal.begin(workshop.project, plan, request, facts=facts, host={"model": "a board"})
    record = on_disk(made)
    assert (record.task, record.parallel, record.cold, record.status) == ("gdal", True, True, ledger.RUNNING)
    assert (record.profile, record.platform, record.host) == ("mini", plan.platform, {"model": "a board"})
    assert (record.engine["host"], record.engine["cpus"], record.engine["platform"]) == (facts.host, 2, facts.platform)
    assert (record.engine["version"], record.engine["buildx"]) == ("26.1.5", "0.13.1")
    assert {row.status for row in record.stages} == {ledger.WAITING}
    assert [row.label for row in record.stages] == [node.label for node in plan.nodes]
    assert journal.begin(workshop.project, plan, request, facts=facts, host={}).record.id > record.id


@pytest.mark.parametrize(("text", "first"), [("", ""), ("one", "one"), ("one\ntwo\nthree", "one")])
def test_what_fits_into_a_row(text: str, first: str) -> None:
    assert journal.first_line(text) == first

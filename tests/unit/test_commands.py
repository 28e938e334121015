"""What every command does before its own work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jetpare.commands import Session
from jetpare.ledger import Ledger, Record
from tests.unit.test_history import record, row


def test_records_that_cannot_be_read_are_named_and_left_out(mini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = Ledger(mini / ".jetpare")
    for number in (1, 2):
        kept.write(record(number, row()))
    (kept.path("20250102-000002") / "run.json").write_text('{"schema_version": 1')
    foreign = kept.folder / "foreign"
    foreign.mkdir()
    (foreign / "run.json").write_text(json.dumps({"schema_version": 99}))
    (kept.folder / "empty").mkdir()
    Session(root=mini, environ={"HOME": str(mini)}).history(stages=(), last=0, form="json")
    said = capsys.readouterr()
    assert [group["count"] for group in json.loads(said.out)["groups"]] == [1]
    told = [line.split(" ")[0] for line in said.err.splitlines() if "left out" in line]
    assert sorted(told) == [f".jetpare/runs/{name}/run.json" for name in ("20250102-000002", "empty", "foreign")]


def test_a_command_reads_each_record_once(
    mini: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Ledger(mini / ".jetpare")
    for number in range(3):
        kept.write(record(number, row(), profile="other"))  # no question finds what it looks for
    read: list[bytes] = []
    parse = Record.model_validate_json

    def counted(data: bytes) -> Record:
        read.append(data)
        return parse(data)

    monkeypatch.setattr(Record, "model_validate_json", counted)
    session = Session(root=mini, environ={"HOME": str(mini)}, profile="mini")
    session.plan(images=())
    assert "never built here" in capsys.readouterr().out
    assert len(read) == 3


def test_narration_holds_nothing_that_a_terminal_acts_on(mini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Session(root=mini, environ={}).say("an image says \x1b[2J\x9b1A\nand more")
    assert capsys.readouterr().err == "an image says \\x1b[2J\\x9b1A\nand more\n"

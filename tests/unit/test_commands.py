"""What every command does before its own work."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from invoke.program import Program

import tasks
from jetpare import audit, doctor, engine, private_engine, verify
from jetpare.audit import Audit
from jetpare.commands import Session
from jetpare.doctor import Finding
from jetpare.engine import Engine
from jetpare.errors import EngineError, RecordError
from jetpare.ledger import Ledger
from jetpare.pipeline import Request
from jetpare.verify import Outcome
from tests.unit.conftest import Workshop
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


def test_narration_holds_nothing_that_a_terminal_acts_on(mini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Session(root=mini, environ={}).say("an image says \x1b[2J\x9b1A\nand more")
    assert capsys.readouterr().err == "an image says \\x1b[2J\\x9b1A\nand more\n"


# --- one engine for each command


@pytest.fixture
def session(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A command in the miniature, whose engine is the workshop's."""
    monkeypatch.setattr(engine, "find", lambda **_: workshop.engine)
    monkeypatch.setattr("jetpare.project.host_architecture", lambda: "amd64")
    return Session(root=workshop.project.root, environ=workshop.project.environ)


def test_a_command_finds_its_engine_once_and_closes_it(
    workshop: Workshop, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Engine] = []

    def find(**_: object) -> Engine:
        found.append(workshop.engine)
        return workshop.engine

    monkeypatch.setattr(engine, "find", find)
    monkeypatch.setattr(doctor, "check_index", lambda *_: Finding(name="index", status="ok", detail=""))
    with session:
        session.doctor()
        session.build_all(Request(task="build-all"), images=(), repeat=1, dry_run=True)
        assert workshop.docker.closed == 0
    assert len(found) == 1
    assert workshop.docker.closed == 1


def test_a_command_that_needs_no_engine_opens_none(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find", lambda **_: pytest.fail("an engine was sought"))
    with session:
        session.plan(images=())


def test_engine_up_closes_what_it_started(
    workshop: Workshop, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(**_: object) -> Engine:
        raise EngineError("No Docker engine answers")

    monkeypatch.setattr(engine, "find", nothing)
    monkeypatch.setattr(private_engine, "up", lambda **_: workshop.engine)
    with session:
        session.engine_up(store="overlay2")
    assert workshop.docker.closed == 1


# --- what other programs read

SECRET = "hunter2"  # noqa: S105 - it is the point


def run_history(session: Session) -> None:
    session.history(stages=(), last=0, form="json")


def run_csv(session: Session) -> None:
    session.history(stages=(), last=0, form="csv")


def run_dry(session: Session) -> None:
    session.build_all(Request(task="build-all"), images=(), repeat=1, dry_run=True)


def run_verify(session: Session) -> None:
    session.verify(images=("jetpare-mini/cuda:mini",), as_json=True)


def run_audit(*forms: str) -> Callable[[Session], None]:
    return lambda session: session.audit(images=(), forms=dict.fromkeys(forms, True), output=None)


@pytest.mark.parametrize(
    ("command", "is_json"),
    [
        (run_history, True),
        (run_csv, False),
        (run_dry, False),
        (run_verify, True),
        (run_audit("json"), True),
        (run_audit("sarif"), True),
    ],
)
@pytest.mark.parametrize("force", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_what_programs_read_has_no_colour(
    workshop: Workshop,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: Callable[[Session], None],
    is_json: bool,
    force: str,
) -> None:
    monkeypatch.setenv(force, "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    workshop.build(workshop.plan())
    capsys.readouterr()
    report = Audit(
        generated="", profile="mini", images=(), missing=(), fail_on="error", rows=(), findings=(), subjects=()
    )
    monkeypatch.setattr(audit, "run", lambda *_a, **_k: report)
    monkeypatch.setattr(verify, "run", lambda *_a, **_k: Outcome(images=(), differing=(), unused=()))
    with suppress(RecordError):  # there is nothing to audit; what was found was written before
        command(session)
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert said
    if is_json:
        json.loads(said)


def test_a_dry_run_leaves_no_password_on_disk(mini: Path, session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"https://user:{SECRET}@example.invalid/simple"
    asked = Session(root=mini, environ={**session.environ, "PIP_INDEX_URL": url})
    asked.build_all(Request(task="build-all"), images=(), repeat=1, dry_run=True)
    said = capsys.readouterr()
    state = mini / ".jetpare"
    assert not (state / "secrets").exists()
    assert not [path for path in state.rglob("*") if path.is_file() and SECRET in path.read_text()]
    assert SECRET not in said.out + said.err
    definition, _ = json.JSONDecoder().raw_decode(said.out)
    # What was printed works when it is pasted: it names no file that is not there.
    sources = [each for target in definition["target"].values() for each in target.get("secret", ())]
    assert [each for each in sources if ".jetpare" in each] == []
    assert "package indexes, proxies and certificates" in said.err.replace("\n", " ")


# --- a shell


def test_a_shell_removes_its_own_image_and_no_other(
    workshop: Workshop, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run_shell(_: Engine, image: str, __: object) -> int:
        ran.append(image)
        if len(ran) == 1:
            session.shell("gdal", image="cuda", command="true")  # another one, which ends first
            assert workshop.docker.named(image)
        return 0

    monkeypatch.setattr(engine, "run_shell", run_shell)
    session.shell("gdal", image="cuda", command="")
    assert len(set(ran)) == 2
    assert not [name for name in ran if workshop.docker.named(name)]


# --- Invoke's own --dry


@pytest.mark.parametrize("words", [("clean",), ("clean", "--cache"), ("engine-down", "--purge"), ("build-all",)])
def test_invokes_dry_does_nothing_and_says_so(
    mini: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("JETPARE_ROOT", str(mini))
    monkeypatch.setattr(engine, "find", lambda **_: pytest.fail("an engine was sought"))
    monkeypatch.setattr(private_engine, "down", lambda **_: pytest.fail("an engine was stopped"))
    with pytest.raises(SystemExit) as caught:
        Program(namespace=tasks.ns).run(["invoke", "--dry", *words])
    assert caught.value.code == 2
    assert "--dry" in capsys.readouterr().err

"""What every command does before its own work."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from invoke.program import Program

import tasks
from jetpare.audit import audit, verify
from jetpare.audit.audit import Audit
from jetpare.audit.verify import Outcome
from jetpare.base.errors import BudgetError, ConfigError, EngineError, RecordError
from jetpare.build import doctor
from jetpare.build.doctor import Diagnosis
from jetpare.cli import build_tasks, image_tasks, machine_tasks, run_tasks
from jetpare.cli.session import Session
from jetpare.compare import gather
from jetpare.compare.gather import Gathered
from jetpare.engine import containers, discovery, private
from jetpare.engine.model import Engine
from jetpare.records.ledger import Ledger, Record
from tests.fakes import Baked, digest
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
    run_tasks.history(Session(root=mini, environ={"HOME": str(mini)}), stages=(), last=0, forms={"json": True})
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
    run_tasks.plan(session, images=())
    assert "never built here" in capsys.readouterr().out
    assert len(read) == 3


def test_narration_holds_nothing_that_a_terminal_acts_on(mini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Session(root=mini, environ={}).say("an image says \x1b[2J\x9b1A\nand more")
    assert capsys.readouterr().err == "an image says \\x1b[2J\\x9b1A\nand more\n"


# --- one engine for each command


@pytest.fixture
def session(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A command in the miniature, whose engine is the workshop's."""
    monkeypatch.setattr(discovery, "find", lambda **_: workshop.engine)
    monkeypatch.setattr("jetpare.project.project.host_architecture", lambda: "amd64")
    return Session(root=workshop.project.root, environ=workshop.project.environ)


def test_a_command_finds_its_engine_once_and_closes_it(
    workshop: Workshop, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Engine] = []

    def find(**_: object) -> Engine:
        found.append(workshop.engine)
        return workshop.engine

    monkeypatch.setattr(discovery, "find", find)
    monkeypatch.setattr(doctor, "check_index", lambda *_: Diagnosis(name="index", status="ok", detail=""))
    with session:
        machine_tasks.doctor(session)
        build_tasks.build_all(session, dry_run=True)
        assert workshop.docker.closed == 0
    assert len(found) == 1
    assert workshop.docker.closed == 1


def test_a_command_that_needs_no_engine_opens_none(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "find", lambda **_: pytest.fail("an engine was sought"))
    with session:
        run_tasks.plan(session, images=())


def test_engine_up_closes_what_it_started(
    workshop: Workshop, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(**_: object) -> Engine:
        raise EngineError("No Docker engine answers")

    monkeypatch.setattr(discovery, "find", nothing)
    monkeypatch.setattr(private, "up", lambda **_: workshop.engine)
    with session:
        machine_tasks.engine_up(session, store="overlay2")
    assert workshop.docker.closed == 1


# --- what other programs read

SECRET = "hunter2"  # noqa: S105 - it is the point


def run_history(session: Session) -> None:
    run_tasks.history(session, stages=(), last=0, forms={"json": True})


def run_csv(session: Session) -> None:
    run_tasks.history(session, stages=(), last=0, forms={"csv": True})


def run_dry(session: Session) -> None:
    build_tasks.build_all(session, dry_run=True)


def run_verify(session: Session) -> None:
    image_tasks.verify(session, images=("jetpare-mini/cuda:mini",), as_json=True)


def run_audit(*forms: str) -> Callable[[Session], None]:
    return lambda session: image_tasks.audit(session, images=(), forms=dict.fromkeys(forms, True), output=None)


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
    report = Audit(generated="", profile="mini", images=(), missing=(), fail_on="error", rows=(), findings=())
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
    build_tasks.build_all(asked, dry_run=True)
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
            build_tasks.shell(session, "gdal", image="cuda", command="true")  # another one, which ends first
            assert workshop.docker.named(image)
        return 0

    monkeypatch.setattr(containers, "run_shell", run_shell)
    build_tasks.shell(session, "gdal", image="cuda", command="")
    assert len(set(ran)) == 2
    assert not [name for name in ran if workshop.docker.named(name)]


# --- Invoke's own --dry


@pytest.mark.parametrize("words", [("clean",), ("clean", "--cache"), ("engine-down", "--purge"), ("build-all",)])
def test_invokes_dry_does_nothing_and_says_so(
    mini: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("JETPARE_ROOT", str(mini))
    monkeypatch.setattr(discovery, "find", lambda **_: pytest.fail("an engine was sought"))
    monkeypatch.setattr(private, "down", lambda **_: pytest.fail("an engine was stopped"))
    with pytest.raises(SystemExit) as caught:
        Program(namespace=tasks.ns).run(["invoke", "--dry", *words])
    assert caught.value.code == 2
    assert "--dry" in capsys.readouterr().err


# --- building


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look is taken into images, which would need their files."""
    wanted = gather.comparison

    def comparison(*words: Any, **named: Any) -> Gathered:
        return wanted(*words, **{**named, "looking": None})

    monkeypatch.setattr(gather, "comparison", comparison)


@pytest.mark.usefixtures("unseen")
def test_build_all_shows_times_and_compares(
    workshop: Workshop, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    build_tasks.build_all(session)
    said = capsys.readouterr()
    assert "cuda/gdal" in said.out
    assert "wall time" in said.out
    assert "jetpare-mini/cuda:mini" not in said.err
    assert workshop.docker.named("jetpare-mini/cuda:mini")


@pytest.mark.usefixtures("unseen")
def test_repeat_builds_every_stage_each_time(
    workshop: Workshop, session: Session, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jetpare.build.repeat.time.sleep", lambda _: None)
    build_tasks.build_all(session, images=("cuda",), repeat=2)
    assert "2 of 2 runs succeeded" in capsys.readouterr().out
    records = [record for record, _ in Ledger(workshop.project.state_path).records() if record]
    assert len(records) == 2
    arguments = [each["target"]["cuda-gdal"]["args"]["REBUILD_GDAL"] for each in workshop.bake.definitions]
    assert set(arguments) == {record.id for record in records}


def test_repeat_wants_a_number_of_runs(session: Session) -> None:
    with pytest.raises(ConfigError, match="--repeat 0"):
        build_tasks.build_all(session, repeat=0)


@pytest.mark.usefixtures("unseen")
@pytest.mark.parametrize(("stage", "tree"), [("gdal", "/opt/stage inside the stage"), ("runtime", "in the image")])
def test_a_stage_says_where_its_log_record_and_tree_are(
    session: Session, capsys: pytest.CaptureFixture[str], stage: str, tree: str
) -> None:
    build_tasks.build_stage(session, stage, image="cuda", power="", no_cache=False, dry_run=False)
    said = capsys.readouterr().out
    log = next(line for line in said.splitlines() if line.startswith("log:")).split()[1]
    assert (session.root / log).is_file()
    assert f"tree:   {tree}" in said


@pytest.mark.usefixtures("unseen")
def test_an_image_over_its_budget_fails_after_it_was_shown(
    workshop: Workshop, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    made = digest("large")
    workshop.bake.outcomes["cuda-runtime"] = Baked(image_id=made)
    add = workshop.docker.add

    def large(image_id: str, *names: str, **words: Any) -> object:
        return add(image_id, *names, **{**words, "layers": {"sha256:large": 10**9}} if image_id == made else words)

    workshop.docker.add = large  # type: ignore[assignment,method-assign]
    with pytest.raises(BudgetError, match="cuda"):
        build_tasks.build_all(session, images=("cuda",))
    assert "wall time" in capsys.readouterr().out


def test_what_an_engine_does_not_have_is_named_with_the_command_that_makes_it(session: Session) -> None:
    with pytest.raises(RecordError, match=r"jetpare-mini/cuda:mini.*invoke build-all"):
        image_tasks.verify(session, images=("cuda",), as_json=True)


def test_logs_are_printed_as_they_are(workshop: Workshop, session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    workshop.build(workshop.plan("cuda"))
    row = workshop.newest().stage("cuda/gdal")
    assert row is not None
    path = Ledger(workshop.project.state_path).path(workshop.newest().id) / str(row.log)
    path.write_bytes(b"\x1b[31mred\x1b[0m \xff\n")
    run_tasks.logs(session, "gdal", image="cuda")
    said = capsys.readouterr()
    assert said.out == "\x1b[31mred\x1b[0m \ufffd\n"
    assert row.log
    assert row.log in said.err


def test_the_plan_says_what_the_last_run_left(
    workshop: Workshop, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    run_tasks.plan(session, images=("cuda",))
    assert "never built here" in capsys.readouterr().out
    workshop.build(workshop.plan("cuda"))
    run_tasks.plan(session, images=("cuda",))
    assert "unchanged since run" in capsys.readouterr().out


def test_an_audit_has_one_form(session: Session) -> None:
    with pytest.raises(ConfigError, match="--json and --sarif exclude each other"):
        image_tasks.audit(session, images=(), forms={"json": True, "sarif": True}, output=None)


def test_timings_of_a_run_and_its_trace(
    workshop: Workshop, session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RecordError, match="No run is recorded"):
        run_tasks.timings(session, "", trace_file="")
    workshop.build(workshop.plan("cuda"))
    run_tasks.timings(session, "", trace_file=str(tmp_path / "trace.json"))
    assert "cuda/gdal" in capsys.readouterr().out
    assert json.loads((tmp_path / "trace.json").read_text())
    for wrong in (tmp_path / "none" / "trace.json", tmp_path):
        with pytest.raises(ConfigError, match="cannot be written"):
            run_tasks.timings(session, "", trace_file=str(wrong))
    assert not (tmp_path / "none").exists()
    with pytest.raises(RecordError, match="'nothing' is not recorded"):
        run_tasks.timings(session, "nothing", trace_file="")


def test_clean_says_what_it_did_on_stderr(
    workshop: Workshop, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.build(workshop.plan("cuda"))
    machine_tasks.clean(session, cache=False)
    said = capsys.readouterr()
    assert said.out == ""
    assert "jetpare-mini/cuda:mini removed" in said.err


def test_a_shells_exit_status_becomes_ours(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "run_shell", lambda *_: 7)
    with pytest.raises(SystemExit) as caught:
        build_tasks.shell(session, "gdal", image="cuda", command="exit 7")
    assert caught.value.code == 7

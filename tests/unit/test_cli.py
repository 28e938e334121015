"""What the tasks say and refuse, beyond the main way through each (test_commands.py)."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from invoke.program import Program

import tasks
from jetpare.base.errors import ConfigError, DoctorError, EngineError, RecordError
from jetpare.build import doctor
from jetpare.build.doctor import Diagnosis
from jetpare.cli import build_tasks, machine_tasks, results, run_tasks, session
from jetpare.cli.session import Session
from jetpare.engine import containers, discovery, private
from jetpare.engine.model import Engine
from jetpare.views import terminal
from tests.conftest import ROOT
from tests.unit.conftest import Workshop
from tests.unit.test_history import record, row


@pytest.fixture
def opened_session(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A command in the miniature, whose engine is the workshop's."""
    monkeypatch.setattr(discovery, "find", lambda **_: workshop.engine)
    monkeypatch.setattr("jetpare.project.project.host_architecture", lambda: "amd64")
    return Session(root=workshop.project.root, environ=workshop.project.environ)


def no_engine(**_: object) -> Engine:
    raise EngineError("No Docker engine answers")


# --- the machine


def test_power_says_why_there_is_no_mode_here_and_that_nothing_is_left(
    opened_session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    machine_tasks.power(opened_session, restore=False)
    shown = capsys.readouterr().out
    assert "power mode" in shown
    assert "cores" in shown
    machine_tasks.power(opened_session, restore=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert "nothing to restore" in said.err


def test_the_doctor_fails_after_it_has_shown_every_row(
    opened_session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    index = Diagnosis(name="index", status="failed", detail="no answer", advice="Check the proxy.")
    monkeypatch.setattr(doctor, "check_index", lambda *_: index)
    with pytest.raises(DoctorError, match=r"index"):
        machine_tasks.doctor(opened_session)
    said = capsys.readouterr().out
    assert "-> Check the proxy." in said
    assert "26.1.5" in said
    assert "iptable_raw" in said or "not a Jetson" in said


def test_the_doctor_works_without_an_engine(
    opened_session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(discovery, "find", no_engine)
    monkeypatch.setattr(doctor, "check_index", lambda *_: Diagnosis(name="index", status="ok", detail="answers"))
    with pytest.raises(DoctorError, match=r"^1 failed: engine\."):
        machine_tasks.doctor(opened_session)
    assert "not measured: no engine answers" in capsys.readouterr().out


def test_engine_up_leaves_an_engine_that_answers_and_says_which(
    opened_session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(private, "up", lambda **_: pytest.fail("a second engine was started"))
    machine_tasks.engine_up(opened_session, store="containerd")
    assert "The engine at tcp://fake:2375 runs: Docker 26.1.5, overlay2 store." in capsys.readouterr().err


def test_engine_up_starts_no_other_engine_than_the_one_that_was_named(
    opened_session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "find", no_engine)
    monkeypatch.setattr(private, "up", lambda **_: pytest.fail("another engine was started"))
    named = replace(opened_session, environ={**opened_session.environ, "DOCKER_HOST": "tcp://nowhere:1"})
    with pytest.raises(EngineError, match="No Docker engine answers"):
        machine_tasks.engine_up(named, store="overlay2")


def test_engine_up_refuses_a_store_before_it_looks_for_an_engine(
    opened_session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "find", lambda **_: pytest.fail("an engine was sought"))
    with pytest.raises(ConfigError, match=r"zfs.*overlay2 or containerd"):
        machine_tasks.engine_up(opened_session, store="zfs")


def test_engine_down_without_an_engine_says_so(opened_session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    machine_tasks.engine_down(opened_session, purge=True)
    assert "There is no private engine." in capsys.readouterr().err


# --- runs


def test_history_is_a_table_json_or_csv(
    workshop: Workshop, opened_session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    forms: dict[str, bool] = {"json": False, "csv": False}
    with pytest.raises(RecordError, match="invoke build-all"):
        run_tasks.history(opened_session, stages=(), last=0, forms=forms)
    workshop.build(workshop.plan("cuda"))
    capsys.readouterr()
    run_tasks.history(Session(root=opened_session.root, environ={}), stages=("gdal",), last=1, forms=forms)
    table = capsys.readouterr().out
    assert "cuda/gdal" in table
    assert "cuda/runtime" not in table
    fresh = Session(root=opened_session.root, environ={})
    run_tasks.history(fresh, stages=("gdal",), last=0, forms={**forms, "json": True})
    assert json.loads(capsys.readouterr().out)["groups"]
    run_tasks.history(fresh, stages=("gdal",), last=0, forms={**forms, "csv": True})
    header, *rows = capsys.readouterr().out.splitlines()
    assert "seconds" in header
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"stages": ("nothing",)}, "no stage 'nothing'.*invoke plan"),
        ({"last": -1}, "--last -1"),
        ({"forms": {"json": True, "csv": True}}, "--json and --csv exclude each other"),
    ],
)
def test_history_refuses_what_it_cannot_show(opened_session: Session, words: dict[str, object], says: str) -> None:
    asked: dict[str, object] = {"stages": (), "last": 0, "forms": {}, **words}
    with pytest.raises(ConfigError, match=says):
        run_tasks.history(opened_session, **asked)  # type: ignore[arg-type]


def test_a_stage_that_was_never_built_has_no_log(opened_session: Session) -> None:
    with pytest.raises(RecordError, match=r"cuda/gdal has no log in profile 'mini'.*invoke build-all"):
        run_tasks.logs(opened_session, "gdal", image="cuda")


def test_a_run_made_side_by_side_says_what_its_times_mean() -> None:
    built = row(marks=("cross-built on amd64",))
    shown = terminal.text(
        terminal.timing(
            record(1, built).model_copy(
                update={"parallel": True, "critical_path": ({"name": "RUN cmake", "seconds": 2.5},)}
            )
        )
    )
    assert "do not add up to the wall time" in shown
    assert "say nothing about" in shown
    assert "RUN cmake" in shown
    assert "do not add up" not in terminal.text(terminal.timing(record(1, row())))


# --- files


def test_a_file_that_cannot_be_written_is_named_and_the_folder_to_make(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mkdir -p .*/none"):
        results.check_folder(str(tmp_path / "none" / "a.json"))
    with pytest.raises(ConfigError, match="it is a folder"):
        results.check_folder(str(tmp_path))
    results.check_folder(str(tmp_path / "a.json"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="folder: cannot be written"):
        results.write_file(str(tmp_path / "folder"), "text")
    (tmp_path / "a.json").write_text("old")
    results.write_file(str(tmp_path / "a.json"), "caf\u00e9 \udcff")
    assert (tmp_path / "a.json").read_text() == "café \\udcff"


def test_a_result_goes_to_stdout_or_to_the_file_that_is_named(
    opened_session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results.deliver(opened_session, "text", "", "The audit")
    assert capsys.readouterr().out == "text"
    results.deliver(opened_session, "text", str(tmp_path / "a.txt"), "The audit")
    said = capsys.readouterr()
    assert said.out == ""
    assert "The audit is in" in said.err
    assert (tmp_path / "a.txt").read_text() == "text"


# --- building


def test_a_stage_without_an_engine_can_be_shown_dry(
    opened_session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(discovery, "find", no_engine)
    build_tasks.build_stage(opened_session, "gdal", image="cuda", no_cache=True, dry_run=True)
    said = capsys.readouterr().out
    definition, end = json.JSONDecoder().raw_decode(said)
    assert definition["target"]["cuda-gdal"]["args"]["REBUILD_GDAL"] == "dry-run"
    command = said[end:].strip()
    assert command.startswith(f"cd {opened_session.root} && ")
    assert "docker buildx bake" in command
    file = opened_session.root / command.partition("--file ")[2].split()[0]
    assert json.loads(file.read_text())["target"].keys() == definition["target"].keys()
    assert session.engine_architecture(opened_session) == "amd64"


def test_a_dry_run_of_an_image_whose_base_cannot_be_read_says_what_it_lacks(
    opened_session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(discovery, "find", no_engine)
    build_tasks.build_all(opened_session, images=("slim",), dry_run=True)
    assert "lacks the settings of the base" in " ".join(capsys.readouterr().err.split())


def test_the_engines_architecture_decides_not_this_machines(workshop: Workshop, opened_session: Session) -> None:
    workshop.docker.arch = "arm64"
    assert session.engine_architecture(opened_session) == "arm64"


@pytest.mark.parametrize(("stage", "prepared"), [("gdal", True), ("runtime", False)])
def test_a_shell_prepares_paths_only_where_the_tree_is_not_in_place(
    workshop: Workshop, opened_session: Session, monkeypatch: pytest.MonkeyPatch, stage: str, prepared: bool
) -> None:
    ran: list[list[str]] = []

    def run_shell(_: Engine, __: str, argv: list[str]) -> int:
        ran.append(argv)
        return 0

    monkeypatch.setattr(containers, "run_shell", run_shell)
    workshop.build(workshop.plan("cuda"))
    before = set(workshop.docker.held)
    build_tasks.shell(opened_session, stage, image="cuda", command="gdalinfo --version")
    assert ran[0][-1].endswith("gdalinfo --version")
    assert ("/opt/stage" in ran[0][-1]) is prepared
    assert set(workshop.docker.held) == before


# --- Invoke


def test_every_task_has_a_sentence_and_help_for_each_flag() -> None:
    fresh = runpy.run_path(str(ROOT / "tasks.py"))["ns"]  # a task gives its arguments their help only once
    for name, each in fresh.tasks.items():
        assert (each.__doc__ or "").splitlines()[0].endswith("."), name
        assert [flag for flag in each.get_arguments() if not flag.help] == [], name


@pytest.mark.parametrize("name", ["extract-cudnn", "compile-gdal", "install-pytorch", "assemble-runtime"])
def test_each_stage_has_a_task(
    name: str, mini: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JETPARE_ROOT", str(mini))
    monkeypatch.setattr(discovery, "find", no_engine)
    monkeypatch.setattr("jetpare.project.project.source_revision", lambda *_: None)
    monkeypatch.setattr("jetpare.project.project.host_architecture", lambda: "amd64")
    Program(namespace=tasks.ns).run(["invoke", name, "--dry-run"], exit=False)
    definition, _ = json.JSONDecoder().raw_decode(capsys.readouterr().out)
    stage = {"install-pytorch": "python"}.get(name, name.partition("-")[2])
    assert any(target.get("target", "").startswith(stage) for target in definition["target"].values())


def test_a_failure_of_the_disk_is_a_message(
    mini: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "/full/file")

    monkeypatch.setenv("JETPARE_ROOT", str(mini))
    monkeypatch.setattr(run_tasks, "plan", full)
    with pytest.raises(SystemExit) as caught:
        Program(namespace=tasks.ns).run(["invoke", "plan"])
    assert caught.value.code == 13
    assert capsys.readouterr().err == "/full/file: No space left on device.\n"

"""A run from its plan to its record, around an engine and a bake that are not there."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from docker.errors import DockerException
from packaging.version import Version

from jetpare.base.errors import BuildError, BusyError, CheckError, Interrupted, SpaceError, StrictPowerError, ToolError
from jetpare.board.nvpmodel import Present
from jetpare.board.power import PowerFacts, PowerSession
from jetpare.build import bootstrap, tagging, watch
from jetpare.build.guards import check_space
from jetpare.build.request import Request, expectations
from jetpare.build.shell import stage_image
from jetpare.engine import api, image_store
from jetpare.engine.model import Engine
from jetpare.events.decode import EventDecoder
from jetpare.events.recorder import Recorder, StageLog
from jetpare.records import ledger
from jetpare.records.ledger import Ledger
from tests.fakes import EVENTS, Baked, FakeDocker, digest, opened
from tests.unit.conftest import Workshop, make_workshop

FULL = OSError(errno.ENOSPC, "No space left on device", "run.json")


def statuses(workshop: Workshop) -> dict[str, str]:
    return {row.label: row.status for row in workshop.newest().stages}


def test_a_run_that_succeeds_is_recorded_and_tagged(workshop: Workshop) -> None:
    record = workshop.build(workshop.plan())
    assert record.status == ledger.SUCCEEDED
    assert set(statuses(workshop).values()) == {ledger.OK}
    for image in record.images:
        assert workshop.docker.named(image.reference) == image.id
        assert (image.layers, image.layers_bytes, image.merged_bytes) == (1, 100, 140)
    assert {image.name for image in record.images} == {"jetpack", "cuda"}
    assert record.stage("cuda/gdal").seconds == pytest.approx(2.0)  # type: ignore[union-attr]


def test_one_client_serves_the_whole_run(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[FakeDocker] = []

    def connect(_: object) -> FakeDocker:
        made.append(workshop.docker)
        return workshop.docker

    monkeypatch.setattr(workshop, "engine", Engine(
        docker="docker", env={}, overrides={}, private=False, host="tcp://fake:1", connector=connect))  # type: ignore[arg-type] # fmt: skip
    with workshop.engine:
        workshop.build(workshop.plan("cuda"))
        assert len(made) == 1
        assert workshop.docker.closed == 0
    assert workshop.docker.closed == 1


@pytest.mark.parametrize("stream", ["failing", "killed", "missing-file", "no-base-image", "oom"])
def test_a_stage_that_fails_ends_the_run_and_is_recorded(workshop: Workshop, stream: str) -> None:
    workshop.bake.outcomes["cuda-gdal"] = Baked(status=1, stream=stream)
    with pytest.raises(BuildError, match="cuda/gdal failed"):
        workshop.build(workshop.plan("cuda"))
    record = workshop.newest()
    assert record.status == ledger.FAILED
    found = statuses(workshop)
    assert (found["cuda/gdal"], found["cuda/runtime"]) == (ledger.FAILED, ledger.SKIPPED)
    assert workshop.docker.named("jetpare-mini/cuda:mini") is None


def test_an_image_that_fails_its_checks_is_recorded_but_not_tagged(workshop: Workshop) -> None:
    workshop.bake.outcomes["cuda-runtime-report"] = Baked(files={"checks.json": {"versions": {"gdal": "2.0"}}})
    with pytest.raises(CheckError, match=r"gdal is 2\.0, expected 1\.0"):
        workshop.build(workshop.plan("cuda"))
    assert workshop.docker.named("jetpare-mini/cuda:mini") is None
    (image,) = workshop.newest().images
    assert image.status == ledger.FAILED
    assert image.id in workshop.docker.held


@pytest.mark.parametrize(
    "report",
    [
        [],
        {"versions": ["gdal"], "checks": []},
        {"versions": {"gdal": 2.0}, "checks": []},
        {"versions": {}, "checks": ["demo"]},
        {"versions": {}, "checks": 3},
    ],
)
def test_a_report_that_is_damaged_is_no_success(workshop: Workshop, report: object) -> None:
    workshop.bake.outcomes["cuda-runtime-report"] = Baked(files={"checks.json": report})
    with pytest.raises(CheckError, match="its checks left no report that can be read"):
        workshop.build(workshop.plan("cuda"))
    (image,) = workshop.newest().images
    assert (image.status, image.versions, image.checks) == (ledger.FAILED, {}, ())


@pytest.mark.parametrize("fault", [DockerException("the engine is gone"), OSError(5, "Input/output error")])
def test_a_good_image_is_tagged_and_recorded_though_its_sizes_cannot_be_measured(
    workshop: Workshop, fault: Exception
) -> None:
    workshop.docker.faults["wait"] = fault
    record = workshop.build(workshop.plan("cuda"))
    assert record.status == ledger.SUCCEEDED
    (image,) = workshop.newest().images
    assert workshop.docker.named(image.reference) == image.id
    assert image.merged_bytes is None
    assert any("were not measured" in note for note in workshop.view.notes)


def test_interruption(workshop: Workshop) -> None:
    workshop.bake.outcomes["cuda-python"] = Baked(stream="interrupted", raises=KeyboardInterrupt())
    with pytest.raises(Interrupted):
        workshop.build(workshop.plan("cuda"))
    record = workshop.newest()
    assert record.status == ledger.INTERRUPTED
    assert statuses(workshop)["cuda/python"] == ledger.INTERRUPTED
    assert statuses(workshop)["cuda/runtime"] == ledger.SKIPPED


# --- a full disk


def full(*_: object, **__: object) -> None:
    raise FULL


@pytest.fixture
def disk(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Fills the disk as soon as bake is called for a target."""

    def fill(target: str) -> None:
        def before(targets: tuple[str, ...]) -> None:
            if target in targets:
                monkeypatch.setattr(Ledger, "write", full)
                monkeypatch.setattr(StageLog, "finish", full)

        workshop.bake.before = before

    return fill


def test_a_full_disk_does_not_hide_which_stage_failed(workshop: Workshop, disk: Callable[[str], None]) -> None:
    workshop.bake.outcomes["cuda-gdal"] = Baked(status=1, stream="failing")
    disk("cuda-gdal")
    with pytest.raises(BuildError) as caught:
        workshop.build(workshop.plan("cuda"))
    first, *rest = str(caught.value).splitlines()
    assert first.startswith("cuda/gdal failed at step")
    assert [line for line in rest if line.startswith("Besides, the last record") and "No space left" in line]
    assert [line for line in rest if line.startswith("Besides, its log is not whole") and "No space left" in line]


def test_a_full_disk_does_not_hide_that_an_image_is_wrong(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop.bake.outcomes["cuda-runtime-report"] = Baked(files={"checks.json": {"versions": {"gdal": "2.0"}}})
    finish_image = tagging.finish_image

    def finish(*words: Any) -> None:
        monkeypatch.setattr(Ledger, "write", full)
        finish_image(*words)

    monkeypatch.setattr(tagging, "finish_image", finish)
    with pytest.raises(CheckError, match=r"gdal is 2\.0.*(\n.*)*last record .*No space left"):
        workshop.build(workshop.plan("cuda"))


def test_a_full_disk_does_not_hide_why_an_input_is_missing(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        monkeypatch.setattr(Ledger, "write", full)
        raise ToolError("mmdebstrap: not found")

    monkeypatch.setattr(bootstrap, "bootstrap_base", refuse)
    with pytest.raises(ToolError, match=r"mmdebstrap: not found\nBesides, .*No space left"):
        workshop.build(workshop.plan("cuda"))


def test_a_full_disk_alone_is_the_failure(workshop: Workshop, disk: Callable[[str], None]) -> None:
    disk("cuda-gdal")
    with pytest.raises(OSError, match="No space left"):
        workshop.build(workshop.plan("cuda"))


def test_an_unforeseen_error_is_not_hidden_by_a_full_disk_either(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.bake.outcomes["cuda-gdal"] = Baked(raises=RuntimeError("a bug"))
    workshop.bake.before = lambda targets: (
        monkeypatch.setattr(Ledger, "write", full) if "cuda-gdal" in targets else None
    )
    with pytest.raises(RuntimeError, match="a bug"):
        workshop.build(workshop.plan("cuda"))
    assert any("No space left on device" in note for note in workshop.view.notes)


def test_an_interruption_is_not_hidden_by_a_full_disk_either(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.bake.outcomes["cuda-gdal"] = Baked(raises=KeyboardInterrupt())
    workshop.bake.before = lambda targets: (
        monkeypatch.setattr(Ledger, "write", full) if "cuda-gdal" in targets else None
    )
    with pytest.raises(Interrupted, match="No space left"):
        workshop.build(workshop.plan("cuda"))


# --- secrets

INDEX = {"PIP_INDEX_URL": "https://user:hunter2@example.invalid/simple"}


@pytest.fixture
def secretive(mini: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return make_workshop(mini, {"HOME": str(mini / "home"), **INDEX}, monkeypatch)


@pytest.mark.parametrize("raises", [None, RuntimeError("a bug"), KeyboardInterrupt()])
def test_secrets_are_on_disk_only_while_bake_runs(secretive: Workshop, raises: BaseException | None) -> None:
    secretive.bake.outcomes["cuda-gdal"] = Baked(raises=raises)
    if raises is None:
        secretive.build(secretive.plan("cuda"))
    else:
        with pytest.raises((RuntimeError, Interrupted)):
            secretive.build(secretive.plan("cuda"))
    assert all(b"hunter2" in each["net"] for each in secretive.bake.secrets)
    assert not (secretive.project.state_path / "secrets").exists()


def test_secrets_go_from_where_a_link_leads(secretive: Workshop, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    secretive.project.state_path.mkdir(exist_ok=True)
    (secretive.project.state_path / "secrets").symlink_to(elsewhere)
    secretive.build(secretive.plan("cuda"))
    assert list(elsewhere.iterdir()) == []


def test_a_stage_is_unchanged_after_the_records_before_it_were_removed(workshop: Workshop) -> None:
    again = Request(task="gdal", again=frozenset({"cuda/gdal"}))
    workshop.build(workshop.plan("cuda"))
    workshop.build(workshop.plan("cuda"), again)
    shutil.rmtree(workshop.project.state_path / "runs")
    record = workshop.build(workshop.plan("cuda"))
    assert expectations(workshop.project, workshop.plan("cuda"))["cuda/gdal"] == f"unchanged since run {record.id}"


def test_secrets_go_though_the_record_cannot_be_written(secretive: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    secretive.bake.before = lambda _: monkeypatch.setattr(Ledger, "write", full)
    with pytest.raises(OSError, match="No space"):
        secretive.build(secretive.plan("cuda"))
    assert not (secretive.project.state_path / "secrets").exists()


@pytest.mark.parametrize("status", [0, 1])
def test_a_shell_leaves_no_secrets(secretive: Workshop, status: int) -> None:
    secretive.bake.outcomes["cuda-gdal"] = Baked(status=status, stream="failing" if status else "")
    arguments = (secretive.project, secretive.plan(only="cuda/gdal"), secretive.engine, "cuda/gdal")
    if status:
        with pytest.raises(BuildError, match="does not build"):
            stage_image(*arguments, say=lambda _: None)
    else:
        stage_image(*arguments, say=lambda _: None)
    assert b"hunter2" in secretive.bake.secrets[0]["net"]
    assert not (secretive.project.state_path / "secrets").exists()


# --- whose images


def shell(workshop: Workshop) -> str:
    plan = workshop.plan(only="cuda/gdal")
    return stage_image(workshop.project, plan, workshop.engine, "cuda/gdal", say=lambda _: None)


def test_two_shells_on_one_stage_do_not_share_a_name(workshop: Workshop) -> None:
    first, second = shell(workshop), shell(workshop)
    assert first != second
    image_store.remove_image(workshop.engine, first)
    assert workshop.docker.named(second) is not None


def test_a_shell_that_is_interrupted_while_it_is_built_leaves_no_image(workshop: Workshop) -> None:
    workshop.bake.outcomes["cuda-gdal"] = Baked(raises=KeyboardInterrupt())
    workshop.bake.before = lambda _: None
    with pytest.raises(KeyboardInterrupt):
        shell(workshop)
    removed = [words[0] for words in workshop.docker.made("remove_image")]
    assert [name.rpartition("-")[0] for name in removed] == ["jetpare-mini/cuda-gdal:mini-shell"]


def test_an_image_of_an_earlier_run_goes_when_its_name_does(workshop: Workshop) -> None:
    before = workshop.build(workshop.plan("cuda")).images[0].id
    workshop.bake.outcomes["cuda-runtime"] = Baked(image_id=digest("new"))
    after = workshop.build(workshop.plan("cuda")).images[0].id
    assert workshop.docker.named("jetpare-mini/cuda:mini") == after != before
    assert before not in workshop.docker.held


def test_an_image_of_another_checkout_stays_when_its_name_goes(workshop: Workshop) -> None:
    theirs = digest("made in another checkout")
    workshop.docker.add(theirs, "jetpare-mini/cuda:mini", labels={"jetpare.project": "jetpare-mini"})
    record = workshop.build(workshop.plan("cuda"))
    assert workshop.docker.named("jetpare-mini/cuda:mini") == record.images[0].id
    assert theirs in workshop.docker.held
    assert any(theirs in note for note in workshop.view.notes)


def test_a_private_engine_has_no_other_checkouts_image(workshop: Workshop) -> None:
    for name in ("old", "new"):
        workshop.docker.add(digest(name), *(["jetpare-mini/cuda:mini"] if name == "old" else []))
    private = opened(workshop.docker, private=True)
    state = workshop.project.state_path
    assert not tagging.replace_tag(private, digest("new"), "jetpare-mini/cuda:mini", state=state)
    assert digest("old") not in workshop.docker.held


# --- the base's digest


def steps(*names: str) -> list[str]:
    return [f"[runtime 1/4] FROM {name}" for name in names]


A, B = (f"sha256:{letter * 64}" for letter in "ab")


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("nvcr.io/nvidia/l4t-cuda:12.6", A),
        ("nvcr.io/nvidia/l4t-cuda:12.6.11-devel", B),
        ("nvcr.io/nvidia/l4t-cuda", None),
        ("nvidia/l4t-cuda:12.6", None),
    ],
)
def test_a_base_digest_is_that_of_the_very_reference(image: str, expected: str | None) -> None:
    names = steps(f"nvcr.io/nvidia/l4t-cuda:12.6.11-devel@{B}", f"nvcr.io/nvidia/l4t-cuda:12.6@{A}")
    assert tagging.resolved_digest(image, names) == expected


@pytest.mark.parametrize("short", ["debian", "debian:latest", "docker.io/library/debian"])
def test_a_short_reference_is_that_which_buildkit_writes_in_full(short: str) -> None:
    assert tagging.resolved_digest(short, [f"[context base] docker-image://docker.io/library/debian:latest@{A}"]) == A


def test_a_command_that_quotes_a_digest_is_no_reference() -> None:
    assert tagging.resolved_digest("debian", [f"RUN curl https://x/@{A}", f"RUN -x-@{A}", "RUN a@sha256:1"]) is None


def test_a_base_digest_is_found_in_a_real_stream() -> None:
    recorder = Recorder()
    for event in EventDecoder().feed((EVENTS / "pull-direct.jsonl").read_bytes()):
        recorder.add(event)
    found = tagging.resolved_digest("127.0.0.1:5055/direct:1", (step.name for step in recorder.timeline().steps))
    assert str(found).startswith("sha256:febdc7a6")


# --- space

GB = 10**9


@pytest.mark.parametrize(
    ("held", "cache", "refused"),
    [
        ({}, 0, True),
        ({"somebody/else:1": 9 * GB}, 0, True),
        ({"jetpare-mini/other:mini": 9 * GB}, 0, True),
        ({"jetpare-mini/cuda:mini": GB}, 0, False),
        ({"jetpare-mini/l4t-cuda:mini": GB}, 0, False),
        ({}, GB, False),
    ],
)
def test_only_what_this_plan_need_not_write_again_counts_as_room(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, held: dict[str, int], cache: int, refused: bool
) -> None:
    for name, size in held.items():
        workshop.docker.add(digest(name), name, layers={digest(f"{name} layer"): size})
    workshop.docker.build_cache = [
        {"Size": cache, "Description": "mount / from exec /bin/sh -c sh /run/jetpare/gdal.sh"},
        {"Size": 9 * GB, "Description": "mount / from exec /bin/sh -c make"},
        {"Size": 9 * GB, "Description": "/run/jetpare/gdal.sh", "Shared": True},
    ]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(GB, 0, GB // 10))
    workshop.docker.root = str(workshop.project.root)
    local = opened(workshop.docker, host="unix:///x")
    arguments = (workshop.project, workshop.plan("cuda"), local, api.facts(local))
    if refused:
        with pytest.raises(SpaceError, match=r"1\.00 GB needed"):
            check_space(*arguments)
    else:
        check_space(*arguments)


def test_layers_that_images_share_count_once(workshop: Workshop) -> None:
    for name in ("a:1", "b:1"):
        workshop.docker.add(digest(name), name, layers={digest("shared"): 100, digest(name): 10})
    assert image_store.held_bytes(workshop.engine, ["a:1", "b:1", "none:1"]) == 120


def test_parallel_is_one_call(workshop: Workshop) -> None:
    record = workshop.build(workshop.plan(), Request(task="build-all", parallel=True))
    assert len(workshop.bake.calls) == 1
    assert record.status == ledger.SUCCEEDED


# --- what is built in which call


def test_what_did_not_change_is_asked_for_in_one_call(workshop: Workshop) -> None:
    workshop.build(workshop.plan("cuda"))
    first = len(workshop.bake.calls)
    assert first == len([node for node in workshop.plan("cuda").nodes if node.baked])
    for target in {target for call in workshop.bake.calls for target in call}:
        outcome = workshop.bake.outcomes.get(target, Baked())
        workshop.bake.outcomes[target] = replace(outcome, cached=True)
    record = workshop.build(workshop.plan("cuda"))
    assert len(workshop.bake.calls) == first + 1
    assert {row.cache for row in record.stages} == {"cached"}


def test_a_changed_stage_and_what_needs_it_are_built_alone(workshop: Workshop) -> None:
    workshop.build(workshop.plan("cuda"))
    done = len(workshop.bake.calls)
    file = workshop.project.root / "dockerfiles" / "images.Dockerfile"
    file.write_text(file.read_text().replace("echo compiling ", "echo compiling again "))
    workshop.build(workshop.plan("cuda"))
    together, *alone = workshop.bake.calls[done:]
    assert {"cuda-cudnn", "cuda-python"} <= set(together)
    assert alone == [("cuda-gdal",), ("cuda-runtime", "cuda-runtime-report")]


def test_sizes_of_the_same_image_are_measured_once(workshop: Workshop) -> None:
    workshop.build(workshop.plan("cuda"))
    record = workshop.build(workshop.plan("cuda"))
    assert len(workshop.docker.made("create_container")) == 1
    assert record.images[0].merged_bytes == 140


def test_a_stage_that_is_to_be_built_again_gets_an_argument_that_is_kept(workshop: Workshop) -> None:
    plan = workshop.plan("cuda")
    run = workshop.build(plan, Request(task="gdal", again=frozenset({"cuda/gdal"})))
    workshop.build(plan)
    for definition in (workshop.bake.definitions[0], workshop.bake.definitions[-1]):
        assert definition["target"]["cuda-gdal"]["args"]["REBUILD_GDAL"] == run.id
        assert "REBUILD_GDAL" not in definition["target"]["cuda-python"]["args"]


def test_a_cold_run_has_cache_mounts_of_its_own_and_no_layer_cache(workshop: Workshop) -> None:
    record = workshop.build(workshop.plan("cuda"), Request(task="build-all", cold=True))
    definition = next(
        each for each, call in zip(workshop.bake.definitions, workshop.bake.calls, strict=True) if "cuda-gdal" in call
    )
    table = definition["target"]["cuda-gdal"]
    assert table["args"]["CACHE_ID"].endswith(record.id)
    assert table["no-cache-filter"] == ["gdal"]


def test_in_one_solve_the_stage_that_failed_is_told_from_those_that_could_not_start(workshop: Workshop) -> None:
    workshop.bake.outcomes["cuda-gdal"] = Baked(status=1, stream="failing-parallel")
    with pytest.raises(BuildError):
        workshop.build(workshop.plan(), Request(task="build-all", parallel=True))
    record = workshop.newest()
    failed = [row for row in record.stages if row.status == ledger.FAILED]
    skipped = [row for row in record.stages if row.status == ledger.SKIPPED]
    assert len(failed) == 1
    assert {row.reason for row in skipped} == {f"{failed[0].label} failed"}


# --- what stops a run before it starts


def test_an_old_buildx_is_told_before_anything_is_recorded(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "buildx_version", lambda *_: Version("0.11.2"))
    with pytest.raises(ToolError, match=r"0\.13"):
        workshop.build(workshop.plan("cuda"))
    assert list(Ledger(workshop.project.state_path).records()) == []
    assert workshop.bake.calls == []


def test_two_runs_in_one_folder_do_not_meet(workshop: Workshop) -> None:
    with ledger.exclusive(workshop.project.state_path), pytest.raises(BusyError):
        workshop.build(workshop.plan("cuda"))
    assert workshop.bake.calls == []


# --- power


class Restless(PowerSession):
    """A board whose mode somebody changes while a stage is built."""

    def __init__(self) -> None:
        facts = PowerFacts(mode="MAXN", mode_id=0, wanted="maxn", locked=None, why="")
        super().__init__(facts=facts, promise=None, board=None)
        self.modes = [Present(id=0, name="MAXN"), Present(id=1, name="15W")] * 20

    def present(self) -> Present | None:
        return self.modes.pop(0)


@pytest.mark.parametrize("strict", [True, False])
def test_a_changed_power_mode_is_marked_and_fails_a_strict_run(
    mini: Path, monkeypatch: pytest.MonkeyPatch, strict: bool
) -> None:
    file = mini / "build.toml"
    file.write_text(file.read_text() + f"\n[power]\nstrict = {str(strict).lower()}\n")
    workshop = make_workshop(mini, {"HOME": str(mini)}, monkeypatch)
    monkeypatch.setattr(watch, "power_session", lambda *_, **__: nullcontext(Restless()))
    if strict:
        with pytest.raises(StrictPowerError, match="the power mode changed from MAXN"):
            workshop.build(workshop.plan("cuda"))
        assert workshop.docker.named("jetpare-mini/cuda:mini") is None
    else:
        workshop.build(workshop.plan("cuda"))
    record = workshop.newest()
    assert record.status == (ledger.FAILED if strict else ledger.SUCCEEDED)
    marks = [mark for row in record.stages for mark in row.marks]
    assert marks
    assert all(mark.startswith("the power mode changed from MAXN (id 0) to 15W (id 1)") for mark in marks)
    assert record.host["power_mode"] == "MAXN"

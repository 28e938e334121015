"""A run from its plan to its record, around an engine and a bake that are not there."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docker.errors import DockerException

from jetpare import bootstrap, engine, ledger, pipeline
from jetpare.errors import BuildError, CheckError, Interrupted, SpaceError, ToolError
from jetpare.ledger import Ledger
from jetpare.pipeline import Request
from jetpare.timeline import EventDecoder, Recorder, StageLog
from tests.fakes import EVENTS, FakeDocker, Outcome, digest, opened
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

    monkeypatch.setattr(workshop, "engine", engine.Engine(
        docker="docker", env={}, overrides={}, private=False, host="tcp://fake:1", connector=connect))  # type: ignore[arg-type] # fmt: skip
    with workshop.engine:
        workshop.build(workshop.plan("cuda"))
        assert len(made) == 1
        assert workshop.docker.closed == 0
    assert workshop.docker.closed == 1


@pytest.mark.parametrize("stream", ["failing", "killed", "missing-file", "no-base-image", "oom"])
def test_a_stage_that_fails_ends_the_run_and_is_recorded(workshop: Workshop, stream: str) -> None:
    workshop.bake.outcomes["cuda-gdal"] = Outcome(status=1, stream=stream)
    with pytest.raises(BuildError, match="cuda/gdal failed"):
        workshop.build(workshop.plan("cuda"))
    record = workshop.newest()
    assert record.status == ledger.FAILED
    found = statuses(workshop)
    assert (found["cuda/gdal"], found["cuda/runtime"]) == (ledger.FAILED, ledger.SKIPPED)
    assert workshop.docker.named("jetpare-mini/cuda:mini") is None


def test_an_image_that_fails_its_checks_is_recorded_but_not_tagged(workshop: Workshop) -> None:
    workshop.bake.outcomes["cuda-runtime-report"] = Outcome(files={"checks.json": {"versions": {"gdal": "2.0"}}})
    with pytest.raises(CheckError, match=r"gdal is 2\.0, expected 1\.0"):
        workshop.build(workshop.plan("cuda"))
    assert workshop.docker.named("jetpare-mini/cuda:mini") is None
    (image,) = workshop.newest().images
    assert image.status == ledger.FAILED
    assert image.id in workshop.docker.held


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
    workshop.bake.outcomes["cuda-python"] = Outcome(stream="interrupted", raises=KeyboardInterrupt())
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
    workshop.bake.outcomes["cuda-gdal"] = Outcome(status=1, stream="failing")
    disk("cuda-gdal")
    with pytest.raises(BuildError) as caught:
        workshop.build(workshop.plan("cuda"))
    first, *rest = str(caught.value).splitlines()
    assert first.startswith("cuda/gdal failed at step")
    assert [line for line in rest if line.startswith("Besides, the last record") and "No space left" in line]
    assert [line for line in rest if line.startswith("Besides, its log is not whole") and "No space left" in line]


def test_a_full_disk_does_not_hide_that_an_image_is_wrong(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop.bake.outcomes["cuda-runtime-report"] = Outcome(files={"checks.json": {"versions": {"gdal": "2.0"}}})
    put_rows = pipeline._Run.put_rows

    def rows(self: Any, *words: Any) -> list[str]:
        marks = put_rows(self, *words)
        if "cuda-runtime" in workshop.bake.calls[-1]:
            monkeypatch.setattr(Ledger, "write", full)
        return marks

    monkeypatch.setattr(pipeline._Run, "put_rows", rows)
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
    workshop.bake.outcomes["cuda-gdal"] = Outcome(raises=RuntimeError("a bug"))
    workshop.bake.before = lambda targets: (
        monkeypatch.setattr(Ledger, "write", full) if "cuda-gdal" in targets else None
    )
    with pytest.raises(RuntimeError, match="a bug"):
        workshop.build(workshop.plan("cuda"))
    assert any("No space left on device" in note for note in workshop.view.notes)


def test_an_interruption_is_not_hidden_by_a_full_disk_either(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.bake.outcomes["cuda-gdal"] = Outcome(raises=KeyboardInterrupt())
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
    secretive.bake.outcomes["cuda-gdal"] = Outcome(raises=raises)
    if raises is None:
        secretive.build(secretive.plan("cuda"))
    else:
        with pytest.raises((RuntimeError, Interrupted)):
            secretive.build(secretive.plan("cuda"))
    assert all(b"hunter2" in each["net"] for each in secretive.bake.secrets)
    assert not (secretive.project.state_path / "secrets").exists()


def test_secrets_go_though_the_record_cannot_be_written(secretive: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    secretive.bake.before = lambda _: monkeypatch.setattr(Ledger, "write", full)
    with pytest.raises(OSError, match="No space"):
        secretive.build(secretive.plan("cuda"))
    assert not (secretive.project.state_path / "secrets").exists()


@pytest.mark.parametrize("status", [0, 1])
def test_a_shell_leaves_no_secrets(secretive: Workshop, status: int) -> None:
    secretive.bake.outcomes["cuda-gdal"] = Outcome(status=status, stream="failing" if status else "")
    arguments = (secretive.project, secretive.plan(only="cuda/gdal"), secretive.engine, "cuda/gdal")
    if status:
        with pytest.raises(BuildError, match="does not build"):
            pipeline.stage_image(*arguments, say=lambda _: None)
    else:
        pipeline.stage_image(*arguments, say=lambda _: None)
    assert b"hunter2" in secretive.bake.secrets[0]["net"]
    assert not (secretive.project.state_path / "secrets").exists()


# --- whose images


def shell(workshop: Workshop) -> str:
    plan = workshop.plan(only="cuda/gdal")
    return pipeline.stage_image(workshop.project, plan, workshop.engine, "cuda/gdal", say=lambda _: None)


def test_two_shells_on_one_stage_do_not_share_a_name(workshop: Workshop) -> None:
    first, second = shell(workshop), shell(workshop)
    assert first != second
    engine.remove_image(workshop.engine, first)
    assert workshop.docker.named(second) is not None


def test_a_shell_that_is_interrupted_while_it_is_built_leaves_no_image(workshop: Workshop) -> None:
    workshop.bake.outcomes["cuda-gdal"] = Outcome(raises=KeyboardInterrupt())
    workshop.bake.before = lambda _: None
    with pytest.raises(KeyboardInterrupt):
        shell(workshop)
    removed = [words[0] for words in workshop.docker.made("remove_image")]
    assert [name.rpartition("-")[0] for name in removed] == ["jetpare-mini/cuda-gdal:mini-shell"]


def test_an_image_of_an_earlier_run_goes_when_its_name_does(workshop: Workshop) -> None:
    before = workshop.build(workshop.plan("cuda")).images[0].id
    workshop.bake.outcomes["cuda-runtime"] = Outcome(image_id=digest("new"))
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
    assert pipeline.resolved_digest(image, names) == expected


@pytest.mark.parametrize("short", ["debian", "debian:latest", "docker.io/library/debian"])
def test_a_short_reference_is_that_which_buildkit_writes_in_full(short: str) -> None:
    assert pipeline.resolved_digest(short, [f"[context base] docker-image://docker.io/library/debian:latest@{A}"]) == A


def test_a_command_that_quotes_a_digest_is_no_reference() -> None:
    assert pipeline.resolved_digest("debian", [f"RUN curl https://x/@{A}", f"RUN -x-@{A}", "RUN a@sha256:1"]) is None


def test_a_base_digest_is_found_in_a_real_stream() -> None:
    recorder = Recorder()
    for event in EventDecoder().feed((EVENTS / "pull-direct.jsonl").read_bytes()):
        recorder.add(event)
    found = pipeline.resolved_digest("127.0.0.1:5055/direct:1", (step.name for step in recorder.timeline().steps))
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
    arguments = (workshop.project, workshop.plan("cuda"), local, engine.facts(local))
    if refused:
        with pytest.raises(SpaceError, match=r"1\.0 GB needed"):
            pipeline.check_space(*arguments)
    else:
        pipeline.check_space(*arguments)


def test_layers_that_images_share_count_once(workshop: Workshop) -> None:
    for name in ("a:1", "b:1"):
        workshop.docker.add(digest(name), name, layers={digest("shared"): 100, digest(name): 10})
    assert engine.held_bytes(workshop.engine, ["a:1", "b:1", "none:1"]) == 120


def test_parallel_is_one_call(workshop: Workshop) -> None:
    record = workshop.build(workshop.plan(), Request(task="build-all", parallel=True))
    assert len(workshop.bake.calls) == 1
    assert record.status == ledger.SUCCEEDED

"""How a run ends: interrupted at each step, with an engine that dies, with a helper stage that fails, in one solve."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from docker.errors import DockerException

from jetpare.base.errors import BuildError, ConfigError, EngineError, Interrupted, RecordError, SpaceError
from jetpare.board.sensors import Sampler
from jetpare.build import bootstrap, buildx, cudnn, schedule, stage_rows, tagging, watch
from jetpare.build.cudnn import CudnnFit
from jetpare.build.network import NetworkSettings
from jetpare.build.request import REBUILD, Request
from jetpare.build.secret_files import build_secrets
from jetpare.build.shell import again_command, stage_image
from jetpare.engine import containers
from jetpare.records import ledger
from jetpare.records.ledger import Ledger, StageRecord
from tests.fakes import Baked, digest, opened, vertex
from tests.unit.conftest import Workshop, make_workshop

IMAGE = "jetpare-mini/cuda:mini"
PARALLEL = Request(task="build-all", parallel=True)


def row_of(workshop: Workshop, label: str) -> StageRecord:
    found = workshop.newest().stage(label)
    assert found is not None
    return found


def statuses(workshop: Workshop) -> dict[str, str]:
    return {row.label: row.status for row in workshop.newest().stages}


# --- interrupted

Patch = Callable[[object, str], None]


def stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


STEPS: dict[str, tuple[object, str, str, str]] = {
    # where, and how gdal and the image's last stage end
    "estimates": (schedule, "batches", ledger.SKIPPED, ledger.SKIPPED),
    "base system": (bootstrap, "bootstrap_base", ledger.SKIPPED, ledger.SKIPPED),
    "sensors": (watch, "sampling", ledger.SKIPPED, ledger.SKIPPED),
    "definition": (buildx, "write_definition", ledger.SKIPPED, ledger.SKIPPED),
    "rows": (stage_rows, "stage_row", ledger.SKIPPED, ledger.SKIPPED),
    "checks": (tagging, "finish_image", ledger.OK, ledger.OK),
    "tag": (tagging, "replace_tag", ledger.OK, ledger.OK),
    "sizes": (containers, "merged_bytes", ledger.OK, ledger.OK),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_run_can_be_interrupted_at_each_step(workshop: Workshop, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    module, name, gdal, last = STEPS[step]
    monkeypatch.setattr(module, name, stop)
    with pytest.raises(Interrupted, match=r"the record is \.jetpare/runs/[^/]+/run\.json\.$"):
        workshop.build(workshop.plan("cuda"))
    record = workshop.newest()
    assert (record.status, record.failure) == (ledger.INTERRUPTED, "interrupted")
    assert record.finished is not None
    found = statuses(workshop)
    assert not {ledger.RUNNING, ledger.WAITING, ledger.FAILED} & set(found.values())
    assert (found["cuda/gdal"], found["cuda/runtime"]) == (gdal, last)
    assert {label for label, (status, _) in workshop.view.finished.items() if status in {"skipped", "interrupted"}} == {
        label for label, status in found.items() if status in {ledger.SKIPPED, ledger.INTERRUPTED}
    }
    assert (workshop.docker.named(IMAGE) is not None) == (step == "sizes")
    assert {image.id for image in record.images} == ({workshop.docker.named(IMAGE)} if step == "sizes" else set())
    assert not (workshop.project.state_path / "secrets").exists()
    assert not (workshop.project.state_path / "reports").exists()


def test_the_stage_that_is_interrupted_says_so_and_the_next_run_goes_on(workshop: Workshop) -> None:
    workshop.bake.outcomes["cuda-gdal"] = Baked(stream="interrupted", raises=KeyboardInterrupt())
    with pytest.raises(Interrupted):
        workshop.build(workshop.plan("cuda"))
    assert (row_of(workshop, "cuda/gdal").status, row_of(workshop, "cuda/gdal").reason) == (
        ledger.INTERRUPTED, "interrupted",
    )  # fmt: skip
    assert row_of(workshop, "cuda/runtime").reason == "interrupted"
    assert row_of(workshop, "inputs/l4t-cuda").status == ledger.OK
    assert workshop.view.finished["cuda/gdal"] == ("interrupted", "interrupted")
    del workshop.bake.outcomes["cuda-gdal"]
    assert workshop.build(workshop.plan("cuda")).status == ledger.SUCCEEDED


# --- an engine that dies


def test_an_engine_that_dies_between_two_calls(workshop: Workshop) -> None:
    def die(targets: tuple[str, ...]) -> None:
        if "cuda-runtime" in targets:
            workshop.docker.faults["inspect_image"] = DockerException("connection refused")

    workshop.bake.before = die
    with pytest.raises(EngineError, match="connection refused"):
        workshop.build(workshop.plan("cuda"))
    record = workshop.newest()
    assert (record.status, record.images) == (ledger.FAILED, ())
    assert "connection refused" in record.failure
    assert statuses(workshop)["cuda/runtime"] == ledger.OK  # it was built; it has no tag
    assert not workshop.docker.made("tag")


def test_an_engine_that_dies_while_bake_runs(workshop: Workshop) -> None:
    said = b"ERROR: failed to receive status: rpc error: code = Unavailable desc = error reading from server: EOF\n"
    data = json.dumps(vertex("[gdal 1/1] RUN x")[0]).encode() + b"\n" + said
    workshop.bake.outcomes["cuda-gdal"] = Baked(status=1, data=data)
    with pytest.raises(BuildError, match=r"^cuda/gdal failed\.\nfailed to receive status: .*EOF\n") as caught:
        workshop.build(workshop.plan("cuda"))
    row = row_of(workshop, "cuda/gdal")
    assert (row.status, row.cache, row.why) == (ledger.FAILED, None, "")
    assert "EOF" in row.reason
    *_, log, again = str(caught.value).splitlines()
    path = workshop.project.root / log.removeprefix("Full log: ")
    assert path.is_file()
    assert again == "Run just this stage again: invoke compile-gdal --image cuda --profile mini"


def test_a_bake_that_fails_without_a_word_shows_what_it_said_last(workshop: Workshop) -> None:
    lines = "".join(f"line {number}\n" for number in range(40))
    workshop.bake.outcomes["cuda-gdal"] = Baked(status=1, data=lines.encode())
    with pytest.raises(BuildError) as caught:
        workshop.build(workshop.plan("cuda"))
    shown = [line for line in str(caught.value).splitlines() if line.startswith("  | ")]
    assert shown == [f"  | line {number}" for number in range(10, 40)]
    assert row_of(workshop, "cuda/gdal").reason == ""


def test_a_bake_that_does_not_say_what_it_made_is_a_failure_and_nothing_is_tagged(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = workshop.bake.__call__

    def forgetful(*words: Any, **more: Any) -> tuple[int, dict[str, Any]]:
        status, _ = run(*words, **more)
        return status, {"cuda-runtime": "text"}

    monkeypatch.setattr(buildx, "run", forgetful)
    with pytest.raises(BuildError, match="cuda/runtime was built but not tagged, because buildx did not say"):
        workshop.build(workshop.plan("cuda"))
    assert workshop.newest().status == ledger.FAILED
    assert not workshop.docker.made("tag")


@pytest.mark.parametrize("key", ["containerimage.digest", "containerimage.config.digest"])
def test_either_id_of_an_image_will_do(workshop: Workshop, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    run = workshop.bake.__call__

    def one(*words: Any, **more: Any) -> tuple[int, dict[str, Any]]:
        status, found = run(*words, **more)
        return status, {target: {key: ids[key]} for target, ids in found.items() if ids}

    monkeypatch.setattr(buildx, "run", one)
    (image,) = workshop.build(workshop.plan("cuda")).images
    assert workshop.docker.named(IMAGE) == image.id


# --- in one solve


def helper_fails(workshop: Workshop) -> None:
    """Let the COPY of the helper stage base-with-cudnn fail, as seen by all that needs it."""
    plan = workshop.plan()
    for node in plan.nodes:
        for target in (node.target, f"{node.target}-report"):
            workshop.bake.outcomes[target] = Baked(data=b"\n")
    events: list[dict[str, Any]] = []
    for target in ("cuda-runtime", "cuda-runtime-report"):
        begun, ended = vertex(f"[{target} base-with-cudnn 2/2] COPY --from=cudnn /opt/stage/ /")
        ended["vertexes"][0]["error"] = "no such file"
        for each in (begun, ended):
            each["vertexes"][0]["digest"] = digest("copy")
        events += [begun, ended]
    data = "".join(json.dumps(each) + "\n" for each in events).encode()
    workshop.bake.outcomes["cuda-runtime"] = Baked(status=1, data=data)


def test_a_helper_stage_that_fails_in_one_solve_is_that_of_the_node_that_needs_it(workshop: Workshop) -> None:
    helper_fails(workshop)
    with pytest.raises(BuildError, match=r"^cuda/runtime failed at step \[base-with-cudnn 2/2\] COPY") as caught:
        workshop.build(workshop.plan(), PARALLEL)
    assert "assemble-runtime --image cuda" in str(caught.value)
    row = row_of(workshop, "cuda/runtime")
    assert (row.status, row.reason) == (ledger.FAILED, "no such file")
    assert row.steps == 1
    assert row.seconds == pytest.approx(2.0)
    others = {label: status for label, status in statuses(workshop).items() if label != "cuda/runtime"}
    assert {status for label, status in others.items() if label != "inputs/debian"} == {ledger.SKIPPED}
    log = workshop.project.ledger.path(workshop.newest().id) / str(row.log)
    assert "ERROR  [base-with-cudnn 2/2] COPY" in log.read_text()


def test_a_helper_stage_counts_once_where_a_later_image_is_made_of_it_too(workshop: Workshop) -> None:
    """Slim is made of runtime, and so of its helper; the time is that of runtime alone."""
    for node in (node for node in workshop.plan("slim").nodes if node.baked):
        for target in (node.target, f"{node.target}-report"):
            known = workshop.bake.outcomes.get(target, Baked())
            workshop.bake.outcomes[target] = replace(known, data=b"\n")
    report = workshop.bake.outcomes["cuda-runtime-report"].files
    workshop.bake.outcomes["slim-slim-report"] = Baked(data=b"\n", files=report)
    events = [
        each for target in ("slim-runtime", "slim-slim") for each in vertex(f"[{target} base-with-cudnn 2/2] COPY x")
    ]
    data = "".join(json.dumps(each) + "\n" for each in events).encode()
    workshop.bake.outcomes["slim-slim"] = Baked(data=data)
    workshop.build(workshop.plan("slim"), PARALLEL)
    assert row_of(workshop, "slim/runtime").seconds == pytest.approx(2.0)
    assert row_of(workshop, "slim/slim").seconds == 0.0


def test_one_solve_records_its_critical_path_and_that_times_overlap(workshop: Workshop) -> None:
    record = workshop.build(workshop.plan("cuda"), PARALLEL)
    assert record.critical_path
    assert {row.overlaps for row in record.stages if row.label.startswith("cuda/")} == {True}
    alone = workshop.build(workshop.plan("cuda"), Request(task="build-all", cold=True))
    assert alone.critical_path == ()
    assert {row.overlaps for row in alone.stages} == {False}


# --- what is echoed


def test_each_call_of_bake_is_echoed_once_and_can_be_pasted_afterwards(
    mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = make_workshop(mini, {"HOME": str(mini), "PIP_INDEX_URL": "https://user:hunter2@x.invalid/"}, monkeypatch)
    workshop.build(workshop.plan("cuda"))
    echoed = [line.split(" --provenance=false ")[1].split() for line in workshop.view.commands]
    assert [tuple(targets) for targets in echoed] == workshop.bake.calls
    assert "hunter2" not in "".join(workshop.view.commands)
    assert all(" --file .jetpare/bake.json " in line for line in workshop.view.commands)
    left = (workshop.project.root / ".jetpare/bake.json").read_text()
    files = [
        each.partition("src=")[2] for table in json.loads(left)["target"].values() for each in table.get("secret", ())
    ]
    assert [name for name in files if not (workshop.project.root / name).exists()] == []
    assert "/secrets/" in json.dumps(workshop.bake.definitions[-1])  # while it ran, it had them


def test_a_definition_that_is_gone_does_not_keep_the_secrets(workshop: Workshop) -> None:
    with build_secrets(workshop.project, NetworkSettings()):
        assert (workshop.project.state_path / "secrets").is_dir()
    assert not (workshop.project.state_path / "secrets").exists()
    assert not (workshop.project.state_path / "bake.json").exists()


# --- notes and checks on the way


def test_folders_that_a_build_cannot_see_are_told_once_before_python(
    mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = make_workshop(
        mini, {"HOME": str(mini), "PIP_FIND_LINKS": "x", "UV_FIND_LINKS": "/srv/wheels"}, monkeypatch
    )
    workshop.build(workshop.plan("cuda"))
    assert len([note for note in workshop.view.notes if "/srv/wheels" in note]) == 1


@pytest.mark.parametrize("fits", [True, False])
def test_the_cudnn_that_was_collected_has_to_fit(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, fits: bool
) -> None:
    fit = CudnnFit(need=None, expected="9.3" if fits else "8.9", advice="Choose another.", unknown="no index answers")
    monkeypatch.setattr(cudnn, "check", lambda *_: fit)
    manifest = "type\tpath\nfile\tusr/lib/libcudnn.so.9.3.0\n"
    workshop.bake.outcomes["cuda-cudnn"] = Baked(files={"cudnn.tsv": manifest})
    if fits:
        assert workshop.build(workshop.plan("cuda")).status == ledger.SUCCEEDED
    else:
        with pytest.raises(ConfigError, match=r"cuda/cudnn: cuDNN is 9\.3\.0; expected 8\.9"):
            workshop.build(workshop.plan("cuda"))
        assert workshop.newest().status == ledger.FAILED
        assert workshop.docker.named(IMAGE) is None
    assert any("fits PyTorch: no index answers" in note for note in workshop.view.notes)


def test_a_cudnn_that_nothing_asks_for_is_not_judged(workshop: Workshop) -> None:
    workshop.bake.outcomes["cuda-cudnn"] = Baked(files={"cudnn.tsv": "type\tpath\nfile\tusr/lib/libcudnn.so.9.3.0\n"})
    assert workshop.build(workshop.plan("cuda")).status == ledger.SUCCEEDED


def test_the_view_learns_what_came_from_the_cache(workshop: Workshop) -> None:
    workshop.bake.outcomes["cuda-python"] = Baked(cached=True)
    workshop.build(workshop.plan("cuda"))
    assert workshop.view.finished["cuda/python"] == ("cached", "the only step from the layer cache")
    assert workshop.view.finished["cuda/gdal"] == ("ok", "no step cached")


def test_what_all_calls_waited_for_is_added_up(workshop: Workshop) -> None:
    for target in ("cuda-gdal", "cuda-python"):
        events = [*vertex("[1/2] FROM debian", seconds=3.0), *vertex("[internal] load build context", seconds=5.0)]
        events += vertex("exporting to image", seconds=7.0)
        workshop.bake.outcomes[target] = Baked(data="".join(json.dumps(each) + "\n" for each in events).encode())
    record = workshop.build(workshop.plan("cuda"))
    assert (record.pull_seconds, record.context_seconds, record.export_seconds) == pytest.approx((6.0, 10.0, 14.0))


def test_a_manifest_without_cudnn_is_not_judged(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = CudnnFit(need=None, expected="8.9", advice="")
    monkeypatch.setattr(cudnn, "check", lambda *_: fit)
    assert workshop.build(workshop.plan("cuda")).status == ledger.SUCCEEDED


def test_what_was_built_again_is_kept_for_later_runs_of_the_profile(workshop: Workshop) -> None:
    file = workshop.project.state_path / REBUILD
    workshop.build(workshop.plan("cuda"))
    assert not file.exists()
    file.write_text('{"other/cuda/gdal": "0000-1"}')
    run = workshop.build(workshop.plan("cuda"), Request(task="gdal", again=frozenset({"cuda/gdal"})))
    assert json.loads(file.read_text()) == {"other/cuda/gdal": "0000-1", "mini/cuda/gdal": run.id}


@pytest.mark.parametrize(("cold_before", "state"), [(True, "cold"), (False, "warm")])
def test_a_stage_that_is_built_again_is_warm_if_its_caches_were_filled(
    workshop: Workshop, cold_before: bool, state: str
) -> None:
    """A cold run has caches of its own, which the next one does not meet."""
    workshop.build(workshop.plan("cuda"), Request(task="x", cold=cold_before))
    workshop.build(workshop.plan("cuda"), Request(task="gdal", again=frozenset({"cuda/gdal"})))
    row = row_of(workshop, "cuda/gdal")
    assert row.cache == state
    assert ("caches kept" in row.why) == (state == "warm")


def test_a_report_is_kept_with_the_run_and_an_older_one_is_not(workshop: Workshop) -> None:
    workshop.bake.outcomes["cuda-gdal"] = Baked(files={"gdal.json": {"tree_bytes": 7, "build": "plain", "why": "slow"}})
    stale = workshop.project.state_path / "reports" / "cuda-python"
    stale.mkdir(parents=True)
    (stale / "old.json").write_text("{}")
    record = workshop.build(workshop.plan("cuda"))
    row = row_of(workshop, "cuda/gdal")
    assert (row.report, row.tree_bytes) == ("reports/cuda-gdal", 7)
    assert row.why.endswith("plain build: slow")
    folder = workshop.project.ledger.path(record.id)
    assert (folder / "reports/cuda-gdal/gdal.json").is_file()
    assert not (folder / "reports/cuda-python/old.json").exists()
    assert not (workshop.project.state_path / "reports").exists()


def test_a_stage_has_what_the_sensors_said_while_it_ran(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    take = Sampler.take

    def noted(self: Sampler) -> None:
        taken.append("x")
        take(self)

    monkeypatch.setattr(Sampler, "take", noted)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 0, 10**12))
    workshop.engine = opened(workshop.docker, host="unix:///x")
    workshop.project = replace(workshop.project, environ={"HOME": "/", "JETPARE_SYSROOT": str(workshop.project.root)})
    for target in ("cuda-gdal", "cuda-python"):
        workshop.bake.outcomes[target] = Baked(cached=target == "cuda-python")
    workshop.build(workshop.plan("cuda"))
    assert row_of(workshop, "cuda/gdal").telemetry is not None
    assert row_of(workshop, "cuda/python").telemetry is None  # it did not run
    assert len(taken) > len(workshop.bake.calls)


def test_a_sample_is_taken_before_each_input_and_each_call(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    before: list[int] = []
    monkeypatch.setattr(watch.HostWatch, "take_sample", lambda _: before.append(len(workshop.bake.calls)))
    workshop.build(workshop.plan("cuda"))
    assert before == [0, *range(len(workshop.bake.calls))]  # debian, which bake does not make, and then each call


@pytest.mark.parametrize(("error", "said"), [(RuntimeError("a bug"), "a bug"), (RuntimeError(), "RuntimeError")])
def test_an_unforeseen_error_is_recorded_as_what_it_says(workshop: Workshop, error: Exception, said: str) -> None:
    workshop.bake.outcomes["cuda-gdal"] = Baked(raises=error)
    with pytest.raises(RuntimeError):
        workshop.build(workshop.plan("cuda"))
    record = workshop.newest()
    assert (record.status, record.failure) == (ledger.FAILED, said)
    assert statuses(workshop)["cuda/gdal"] == ledger.FAILED
    assert row_of(workshop, "cuda/runtime").reason == said


def test_the_base_digest_of_a_stand_in_is_its_id(workshop: Workshop) -> None:
    (image,) = workshop.build(workshop.plan("cuda")).images
    assert image.base == "l4t-cuda (stand-in)"
    assert image.base_digest is not None
    assert image.base_digest == workshop.docker.named("jetpare-mini/l4t-cuda:mini")


def test_a_disk_that_is_too_small_stops_a_run_before_it_starts(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10))
    workshop.engine = opened(workshop.docker, host="unix:///x")
    workshop.docker.root = str(workshop.project.root)
    workshop.project = replace(workshop.project, environ={"HOME": "/", "JETPARE_SYSROOT": str(workshop.project.root)})
    with pytest.raises(SpaceError):
        workshop.build(workshop.plan("cuda"))
    assert list(Ledger(workshop.project.state_path).records()) == []


# --- a shell


def test_the_build_for_a_shell_is_echoed(workshop: Workshop) -> None:
    echoed: list[str] = []
    plan = workshop.plan(only="cuda/gdal")
    name = stage_image(workshop.project, plan, workshop.engine, "cuda/gdal", say=lambda _: None, echo=echoed.append)
    (line,) = echoed
    assert line.endswith(" docker buildx bake --file .jetpare/bake.json --provenance=false cuda-gdal")
    table = workshop.bake.definitions[-1]["target"]["cuda-gdal"]
    assert (table["target"], table["output"]) == ("gdal", [f"type=docker,name={name}"])


def test_a_shell_in_a_finished_image_builds_nothing(workshop: Workshop) -> None:
    plan = workshop.plan(only="cuda/runtime")
    with pytest.raises(RecordError, match=r"jetpare-mini/cuda:mini is not built\. `invoke assemble-runtime"):
        stage_image(workshop.project, plan, workshop.engine, "cuda/runtime", say=lambda _: None)
    workshop.docker.add(digest("cuda"), IMAGE)
    assert stage_image(workshop.project, plan, workshop.engine, "cuda/runtime", say=lambda _: None) == IMAGE
    assert workshop.bake.calls == []


def test_a_shell_that_does_not_build_says_why_even_where_no_step_failed(workshop: Workshop) -> None:
    workshop.bake.outcomes["cuda-gdal"] = Baked(status=3, data=b"\n")
    plan = workshop.plan(only="cuda/gdal")
    with pytest.raises(BuildError, match=r"cuda/gdal does not build: exit status 3\n.*invoke compile-gdal"):
        stage_image(workshop.project, plan, workshop.engine, "cuda/gdal", say=lambda _: None)


@pytest.mark.parametrize(
    ("label", "command"),
    [
        ("inputs/debian", "invoke build-all --profile p"),
        ("cuda/gdal", "invoke compile-gdal --image cuda --profile p"),
        ("slim/slim", "invoke build-all --image slim --profile p"),
    ],
)
def test_every_node_can_be_built_again(label: str, command: str) -> None:
    assert again_command(label, "p") == command


def test_records_of_other_runs_are_left_alone(workshop: Workshop) -> None:
    first = workshop.build(workshop.plan("cuda"))
    second = workshop.build(workshop.plan("cuda"))
    kept = Ledger(workshop.project.state_path)
    assert kept.read(first.id) == first
    assert kept.read(second.id) == second

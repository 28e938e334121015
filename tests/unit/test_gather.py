"""From records and the engine's word to the figures that are compared; the engine is a fake at the edge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from jetpare import config, doctor, engine, gather, ledger, pipeline
from jetpare.compare import ImageFigures
from jetpare.engine import Engine, EngineFacts, ImageFacts, Layer
from jetpare.errors import SpaceError
from jetpare.ledger import ImageRecord, Ledger, Record, StageRecord
from jetpare.project import Project
from tests.conftest import MINI

ENGINE = Engine(docker="docker", env={}, overrides={}, private=False)
FACTS = EngineFacts(
    host="unix:///x", version=None, version_text="26.1", api_version="1.45", storage_driver="overlay2", store="overlay2",
    data_root=Path("/x"), os="linux", arch="amd64", cpus=2, memory_bytes=1, kernel="6", buildx=None,
)  # fmt: skip
CUDA = ImageFacts(
    reference="jetpare-mini/cuda:mini", id="sha256:c", created="2025-01-01T00:00:00Z", platform="linux/amd64",
    labels={"jetpare.profile": "mini"}, env={}, repo_digests=(), store="overlay2", layer_ids=("a", "b"),
    layers=(Layer(diff_id="a", size=100), Layer(diff_id="b", size=50)), layers_bytes=150, engine_bytes=150,
)  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(engine, "facts", lambda _engine: FACTS)
    monkeypatch.setattr(engine, "merged_bytes", lambda _engine, _id: 140)
    monkeypatch.setattr(
        engine, "inspect_image", lambda _engine, reference: CUDA if reference in {CUDA.reference, CUDA.id} else None
    )
    loaded = config.load(MINI / "build.toml")
    return Project(root=tmp_path, config=loaded, config_digest="sha256:0", environ={})


def stage(name: str, seconds: float, cache: str = "cold", **changes: Any) -> StageRecord:
    return StageRecord(label=f"cuda/{name}", status="ok", seconds=seconds, cache=cache, inputs=f"of {name}", **changes)


def run(project: Project, name: str, *stages: StageRecord, **changes: Any) -> None:
    made = ImageRecord(
        name="cuda", reference=CUDA.reference, id=CUDA.id, status="ok", merged_bytes=141, versions={"gdal": "1.0"},
        checks=({"name": "x", "status": "ok"},),
    )  # fmt: skip
    values: Mapping[str, Any] = {
        "tool": "t", "id": name, "task": "build-all", "status": "succeeded", "pid": 1, "started": 0.0, "profile": "mini",
        "platform": "linux/amd64", "parallel": False, "cold": False, "config_digest": "", "revision": None, "host": {},
        "engine": {}, "stages": stages, "images": (made,),
    }  # fmt: skip
    Ledger(project.state_path).write(Record.model_validate({**values, **changes}))


def cuda(project: Project) -> ImageFigures:
    plan = project.plan(profile="mini", architecture="amd64")
    return next(row for row in gather.comparison(project, plan, ENGINE).images if row.name == "cuda")


STAGES = ("cudnn", "gdal", "python", "runtime")


def test_figures_come_from_the_engine_and_the_run_that_made_the_image(project: Project) -> None:
    run(project, "20250101-000000", *(stage(name, 2.0) for name in STAGES))
    run(project, "20250102-000000", *(stage(name, 0.0, "cached") for name in STAGES))
    found = cuda(project)
    assert (found.sizes["layers"], found.sizes["merged"], found.layers) == (150, 141, 2)
    assert found.build_seconds == 8.0
    assert found.budget == 400_000_000
    assert [row.status for row in found.versions] == ["ok", "not measured"]
    assert not found.notes


def test_without_a_record_the_size_is_measured_and_the_rest_is_not(project: Project) -> None:
    found = cuda(project)
    assert found.sizes["merged"] == 140
    assert found.build_seconds is None
    assert "no run record" in found.notes[0]


def test_a_stage_that_is_not_in_the_image_does_not_count(project: Project) -> None:
    run(project, "20250101-000000", *(stage(name, 2.0) for name in STAGES))
    run(project, "20250102-000000", stage("gdal", 99.0), images=())  # later, and no image was made of it
    assert cuda(project).build_seconds == 8.0


def test_a_stage_of_other_inputs_does_not_count(project: Project) -> None:
    run(project, "20250101-000000", *(stage(name, 2.0) for name in STAGES))
    run(project, "20250102-000000", stage("gdal", 99.0).model_copy(update={"inputs": "other"}), images=())
    run(project, "20250103-000000", *(stage(name, 0.0, "cached") for name in STAGES), images=())
    assert cuda(project).build_seconds == 8.0


def test_an_unknown_stage_leaves_the_time_unmeasured(project: Project) -> None:
    run(project, "20250101-000000", stage("runtime", 2.0), stage("gdal", 0.0, "cached"))
    assert cuda(project).build_seconds is None


def test_warm_and_overlapping_stages_are_named(project: Project) -> None:
    rest = [stage(name, 2.0) for name in STAGES if name != "gdal"]
    run(project, "20250101-000000", stage("gdal", 1.0, "warm", overlaps=True), *rest)
    found = cuda(project)
    assert (found.build_warm, found.build_overlaps) == (("gdal",), True)


def test_a_later_failure_is_told(project: Project) -> None:
    run(project, "20250101-000000", *(stage(name, 2.0) for name in STAGES))
    run(project, "20250102-000000", stage("gdal", 1.0), status=ledger.FAILED, images=())
    assert "run 20250102-000000 failed before it was finished" in cuda(project).notes[0]


def test_the_log_is_that_of_the_run_that_really_ran(project: Project) -> None:
    run(project, "20250101-000000", stage("gdal", 2.0, log="logs/a.log"))
    run(project, "20250102-000000", stage("gdal", 0.0, "cached", log="logs/a.log"))
    folder = Ledger(project.state_path).folder
    for name in ("20250101-000000", "20250102-000000"):
        (folder / name / "logs").mkdir()
        (folder / name / "logs/a.log").write_text(name)
    assert gather.log_file(project, "cuda/gdal", "mini") == folder / "20250101-000000/logs/a.log"
    assert gather.log_file(project, "cuda/python", "mini") is None


@pytest.mark.parametrize(
    ("free", "used", "refused"), [(None, 0, False), (10**9, 0, False), (10, 10**9, False), (10, 10, True)]
)
def test_space(project: Project, monkeypatch: pytest.MonkeyPatch, free: int | None, used: int, refused: bool) -> None:
    monkeypatch.setattr(doctor, "free_bytes", lambda *_: free)
    monkeypatch.setattr(engine, "used_bytes", lambda _engine: used)
    plan = project.plan(profile="mini", architecture="amd64")
    if not refused:
        pipeline.check_space(plan, ENGINE, FACTS, project.state_path)
        return
    with pytest.raises(SpaceError, match="needs 1 GB"):
        pipeline.check_space(plan, ENGINE, FACTS, project.state_path)


def test_silence_is_no_success() -> None:
    assert pipeline.check_faults(()) == ["its checks left no report (/usr/share/jetpare/checks.json)"]
    checks = (
        {"name": "a", "status": "ok"},
        {"name": "b", "status": "failed", "detail": "why"},
        {"name": "c", "status": "not measured"},
    )
    assert pipeline.check_faults(checks) == ["b: why"]


def test_version_faults() -> None:
    assert pipeline.version_faults({"gdal": "2.0", "cudnn": None}, {"gdal": "1.0", "cudnn": "9"}) == [
        "gdal is 2.0, expected 1.0"
    ]

"""From records and the engine's word to the figures that are compared; the engine is a fake at the edge."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jetpare.base.errors import ConfigError, EngineError, RecordError, ToolError
from jetpare.base.versions import ImageCheck
from jetpare.build import bake, past_stages, request
from jetpare.build.guards import check_emulation, check_faults, version_faults
from jetpare.build.inputs import inputs_digest
from jetpare.build.request import REBUILD, Request, expectations, rebuilt
from jetpare.compare import gather
from jetpare.compare.comparison import Comparison, ImageFigures, StageTime
from jetpare.compare.gather import Gathered, Looking
from jetpare.compare.pull_size import PullSize
from jetpare.config.load import load_config
from jetpare.engine import api, containers, image_store
from jetpare.engine.model import Engine, EngineFacts, ImageFacts, LayerFacts
from jetpare.image import layers
from jetpare.image.inventory import Inventory, LayerInfo
from jetpare.image.kept import Held
from jetpare.image.read import inventory_reader, layer_reader
from jetpare.project.project import Project
from jetpare.records import ledger
from jetpare.records.ledger import ImageRecord, Ledger, Record, StageRecord
from tests.conftest import MINI
from tests.inventories import image

ENGINE = Engine(docker="docker", env={}, overrides={}, private=False)
FACTS = EngineFacts(
    host="unix:///x", version=None, version_text="26.1", api_version="1.45", storage_driver="overlay2", store="overlay2",
    data_root=Path("/x"), os="linux", arch="amd64", cpus=2, memory_bytes=1, kernel="6", buildx=None,
)  # fmt: skip
CUDA = ImageFacts(
    reference="jetpare-mini/cuda:mini", id="sha256:c", created="2025-01-01T00:00:00Z", platform="linux/amd64",
    labels={"jetpare.profile": "mini"}, env={}, repo_digests=(), store="overlay2", layer_ids=("a", "b"),
    layers=(LayerFacts(diff_id="a", size=100), LayerFacts(diff_id="b", size=50)), layers_bytes=150, engine_bytes=150,
)  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setattr(api, "facts", lambda _engine: FACTS)
    monkeypatch.setattr(containers, "merged_bytes", lambda _engine, _id: 140)
    monkeypatch.setattr(
        image_store,
        "inspect_image",
        lambda _engine, reference: CUDA if reference in {CUDA.reference, CUDA.id} else None,
    )
    loaded = load_config(MINI / "build.toml")
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


def gathered(project: Project, looking: Looking | None = None) -> Gathered:
    plan = project.plan(profile="mini", architecture="amd64")
    return gather.comparison(project, ENGINE, gather.of_profile(project, plan), plan=plan, looking=looking)


def cuda(project: Project) -> ImageFigures:
    return next(row for row in gathered(project).comparison.images if row.name == "cuda")


def named(project: Project, *references: str) -> Comparison:
    plan = project.plan(profile="mini", architecture="amd64")
    wanted = gather.of_references(project, references, lambda: plan)
    return gather.comparison(project, ENGINE, wanted).comparison


STAGES = ("cudnn", "gdal", "python", "runtime")


def test_figures_come_from_the_engine_and_the_run_that_made_the_image(project: Project) -> None:
    run(project, "20250101-000000", *(stage(name, 2.0) for name in STAGES))
    run(project, "20250102-000000", *(stage(name, 0.0, "cached") for name in STAGES))
    found = cuda(project)
    assert (found.sizes["layers"], found.sizes["merged"]) == (150, 141)
    assert [(layer.index, layer.diff_id, layer.size) for layer in found.layers or ()] == [(1, "a", 100), (2, "b", 50)]
    assert found.layers_left == 125
    assert found.build_seconds == 8.0
    assert found.budget == 400_000_000
    assert [row.status for row in found.versions] == ["ok", "not measured"]
    assert not found.notes


def test_without_a_record_what_only_it_tells_is_not_measured(project: Project) -> None:
    found = cuda(project)
    assert found.sizes["layers"] == 150
    assert found.build_seconds is None
    assert (found.checks, found.stages) == ((), ())
    assert "no run record" in found.notes[0]


def test_a_stage_that_is_not_in_the_image_does_not_count(project: Project) -> None:
    run(project, "20250101-000000", *(stage(name, 2.0) for name in STAGES))
    run(project, "20250102-000000", stage("gdal", 99.0), images=())  # later, and no image was made of it
    assert cuda(project).build_seconds == 8.0


def test_a_later_stage_does_not_count_although_its_clock_was_behind(project: Project) -> None:
    run(project, "9999-20250101-000000", *(stage(name, 2.0) for name in STAGES))
    run(project, "10000-19700101-000000", stage("gdal", 99.0), images=())
    assert cuda(project).build_seconds == 8.0


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("9998-20260101-000000", "unchanged since run 9999"), ("10000-19700101-000000", "changed since run 9999")],
)
def test_what_was_to_be_built_again_by_a_later_run_counts_as_changed(
    project: Project, asked: str, expected: str
) -> None:
    plan = project.plan(profile="mini", architecture="amd64")
    project.state_path.mkdir()
    (project.state_path / REBUILD).write_text(json.dumps({"mini/cuda/gdal": asked}))
    options = request.options(project, plan, Request(task="plan"), run="plan", revision=None)
    inputs = inputs_digest(project.root, bake.definition(project.config, plan, options), plan.node("cuda/gdal"))
    made = stage("gdal", 1.0).model_copy(update={"inputs": inputs})
    run(project, "9999-20250101-000000", made)
    assert expectations(project, plan)["cuda/gdal"].startswith(expected)


def test_a_stage_of_other_inputs_does_not_count(project: Project) -> None:
    run(project, "20250101-000000", *(stage(name, 2.0) for name in STAGES))
    run(project, "20250102-000000", stage("gdal", 99.0).model_copy(update={"inputs": "other"}), images=())
    run(project, "20250103-000000", *(stage(name, 0.0, "cached") for name in STAGES), images=())
    assert cuda(project).build_seconds == 8.0


def test_an_unknown_stage_leaves_the_time_unmeasured(project: Project) -> None:
    run(project, "20250101-000000", stage("runtime", 2.0), stage("gdal", 0.0, "cached"))
    found = cuda(project)
    assert found.build_seconds is None
    assert found.stages == (
        StageTime(label="cuda/runtime", seconds=2.0, cache="cold", run="20250101-000000"),
        StageTime(label="cuda/gdal"),
    )


def test_a_stage_has_the_circumstances_of_the_run_that_made_it(project: Project) -> None:
    slow = stage("gdal", 1.0, "warm", overlaps=True, marks=("the clocks fell",))
    run(project, "20250101-000000", slow, host={"power_mode": "MAXN", "cores": 12, "secret": "x"})
    (found,) = cuda(project).stages
    assert (found.cache, found.overlaps, found.marks, found.power_mode) == ("warm", True, ("the clocks fell",), "MAXN")
    host = gathered(project).comparison.host or {}
    assert (host["cores"], host["power_mode"], host["model"]) == (12, "MAXN", None)
    assert "secret" not in host


def test_a_later_failure_is_told(project: Project) -> None:
    run(project, "20250101-000000", *(stage(name, 2.0) for name in STAGES))
    run(project, "20250102-000000", stage("gdal", 1.0), status=ledger.FAILED, images=())
    assert "run 20250102-000000 failed before it was finished" in cuda(project).notes[0]


# --- looking into images


@pytest.fixture
def contents(monkeypatch: pytest.MonkeyPatch) -> Inventory:
    """Return what every image holds."""
    held = image(
        {"/usr/bin/x": 90, "/usr/lib/y": 51},
        layers=(
            LayerInfo(diff_id="a", size=100, instruction="COPY / /"),
            LayerInfo(diff_id="b", size=50, instruction=None),
        ),
        faults=("/a: torn", "/b: torn", "/c: torn", "/d: torn"),
    )
    unread = layers.Listing(image_id="x", how=None, layers=None, reason="not asked for")
    monkeypatch.setattr(inventory_reader, "hold", lambda *_, **__: Held.of(held))
    monkeypatch.setattr(layer_reader, "hold", lambda *_, **__: Held.of(unread))
    monkeypatch.setattr(gather, "pull_size", lambda *_, **__: PullSize(bytes=60, how="from the store"))
    return held


def looked(project: Project) -> ImageFigures:
    made = gathered(project, Looking())
    return next(row for row in made.comparison.images if row.name == "cuda")


def test_what_is_in_an_image_is_summed_up(project: Project, contents: Inventory) -> None:
    run(project, "20250101-000000", *(stage(name, 2.0) for name in STAGES))
    found = looked(project)
    assert (found.sizes["merged"], found.sizes["pull"], found.pull_how) == (141, 60, "from the store")
    assert sum(group.bytes for group in found.groups or ()) == 141
    assert sum(component.bytes for component in found.components or ()) == 141
    assert [layer.instruction for layer in found.layers or ()] == ["COPY / /", None]
    assert found.config == contents.settings
    assert found.waste is not None
    assert (found.waste.overwritten.bytes, found.waste.overwritten.reason) == (None, "not asked for")
    assert found.notes == ("not read: /a: torn", "not read: /b: torn", "not read: /c: torn", "not read: 1 more")
    assert gathered(project, Looking()).inventories == {"cuda": contents}


def test_the_engine_is_asked_once_about_each_image(
    project: Project, contents: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    usual = image_store.inspect_image

    def inspect(running: Engine, reference: str) -> ImageFacts | None:
        asked.append(reference)
        return usual(running, reference)

    monkeypatch.setattr(image_store, "inspect_image", inspect)
    assert contents
    assert gathered(project, Looking()).comparison.findings is not None
    assert len(asked) == len(set(asked)) == 2


def test_two_merged_sizes_that_differ_are_told(
    project: Project, contents: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(project, "20250101-000000", *(stage(name, 2.0) for name in STAGES))
    monkeypatch.setattr(inventory_reader, "hold", lambda *_, **__: Held.of(image({"/usr/bin/x": 7})))
    assert contents.bytes == 141
    assert "its files are 7 bytes, and were 141 when it was built" in looked(project).notes[0]


def test_an_inventory_that_fails_keeps_no_size_away(
    project: Project, contents: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> Inventory:
        raise EngineError("the container died")

    assert contents
    monkeypatch.setattr(inventory_reader, "hold", broken)
    found = looked(project)
    assert (found.sizes["layers"], found.sizes["merged"], found.sizes["pull"]) == (150, 140, 60)
    assert (found.groups, found.components, found.nobody) == (None, None, None)
    assert "what is in it was not measured: the container died" in found.notes
    monkeypatch.setattr(containers, "merged_bytes", broken)
    assert looked(project).sizes["merged"] is None


def test_layers_and_pull_sizes_that_cannot_be_had_are_reasons(
    project: Project, contents: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr(layer_reader, "hold", broken)
    monkeypatch.setattr(gather, "pull_size", broken)
    found = looked(project)
    assert found.sizes["merged"] == contents.bytes
    assert found.sizes["pull"] is None
    assert "no" in str(found.pull_how)
    assert found.waste is not None
    assert "no" in str(found.waste.overwritten.reason)


# --- what is compared


def test_images_of_a_profile_know_what_build_toml_says(project: Project) -> None:
    first, second = gather.of_profile(project, project.plan(profile="mini", architecture="amd64"))
    assert (first.name, second.name) == ("jetpack", "cuda")
    assert (first.budget, second.budget) == (None, 400_000_000)
    assert second.reference == CUDA.reference
    assert str(second.base).endswith(" (stand-in)")
    made = gathered(project).comparison
    assert made.profile == "mini"
    assert made.caveat is not None
    assert made.verdict.headline == "jetpack is not built: no recommendation."


def test_any_references_are_compared_the_first_as_the_baseline(project: Project) -> None:
    made = named(project, CUDA.id, CUDA.reference)
    assert (made.baseline, made.profile, made.caveat) == (CUDA.id, None, None)
    assert [row.saved for row in made.differences if row.size == "layers"] == [0]
    assert made.verdict.status != "recommended"


def test_a_reference_to_an_image_of_ours_has_its_checks_and_expectations(project: Project) -> None:
    run(project, "20250101-000000", *(stage(name, 2.0) for name in STAGES))
    found = named(project, CUDA.id, CUDA.reference).images[1]
    assert [check.name for check in found.checks] == ["x"]
    assert len(found.stages) == 4


def test_a_name_of_build_toml_stands_for_its_image(project: Project) -> None:
    found = named(project, CUDA.id, "cuda").images[1]
    assert (found.name, found.reference, found.budget) == ("cuda", CUDA.reference, 400_000_000)


@pytest.mark.parametrize(
    ("references", "error", "said"),
    [
        (("a",), ConfigError, "one image only"),
        (("a", "b", "a"), ConfigError, "a is named twice"),
        ((CUDA.id, "debian:12"), RecordError, "debian:12: the engine at .* has no such image"),
        (("jetpack", "cuda"), RecordError, "jetpare-mini/jetpack:mini: the engine"),
    ],
)
def test_references_that_cannot_be_compared(
    project: Project, references: tuple[str, ...], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        named(project, *references)


def test_the_log_is_that_of_the_run_that_really_ran(project: Project) -> None:
    run(project, "20250101-000000", stage("gdal", 2.0, log="logs/a.log"))
    run(project, "20250102-000000", stage("gdal", 0.0, "cached", log="logs/a.log"))
    folder = Ledger(project.state_path).folder
    for name in ("20250101-000000", "20250102-000000"):
        (folder / name / "logs").mkdir()
        (folder / name / "logs/a.log").write_text(name)
    assert past_stages.log_file(project, "cuda/gdal", "mini") == folder / "20250101-000000/logs/a.log"
    assert past_stages.log_file(project, "cuda/python", "mini") is None


def test_silence_is_no_success() -> None:
    assert check_faults(()) == ["its checks left no report that can be read (/usr/share/jetpare/checks.json)"]
    checks = (
        ImageCheck(name="a", status="ok"),
        ImageCheck(name="b", status="failed", detail="why"),
        ImageCheck(name="c", status="not measured"),
    )
    assert check_faults(checks) == ["b: why"]


def test_version_faults() -> None:
    assert version_faults({"gdal": "2.0", "cudnn": None}, {"gdal": "1.0", "cudnn": "9"}) == [
        "gdal is 2.0, expected 1.0"
    ]


def test_a_build_for_what_cannot_be_run_does_not_start(project: Project, tmp_path: Path) -> None:
    plan = project.plan(profile="mini", architecture="amd64", platform="linux/arm64")
    (tmp_path / "proc/sys/fs/binfmt_misc").mkdir(parents=True)
    (tmp_path / "proc/sys/fs/binfmt_misc/register").touch()
    local = replace(ENGINE, private=True)
    with pytest.raises(ToolError, match=r"no emulator is registered.*scripts/host/emulation\.sh arm64"):
        check_emulation(plan, local, FACTS, tmp_path)
    check_emulation(project.plan(profile="mini", architecture="amd64"), local, FACTS, tmp_path)


def test_a_stage_built_again_is_so_in_its_own_profile_only(project: Project) -> None:
    own = project.plan(profile="mini", architecture="amd64")
    other = project.plan(profile="mini", architecture="amd64", platform="linux/arm64")
    project.state_path.mkdir(parents=True, exist_ok=True)
    (project.state_path / REBUILD).write_text('{"mini-arm64/cuda/gdal": "run1"}')
    assert rebuilt(project, other) == {"cuda/gdal": "run1"}
    assert rebuilt(project, own) == {}
    (project.state_path / REBUILD).write_text('{"mini-arm64/cuda/gdal": 3}')
    assert rebuilt(project, other) == {}

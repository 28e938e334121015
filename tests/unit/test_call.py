"""One call of bake, around a buildx that is not there: what it writes, shows and finds out."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jetpare.build import bake, buildx, inputs
from jetpare.build.call import BakeCall
from jetpare.build.stage_rows import failed_node
from jetpare.events import figures
from jetpare.events.recorder import StageLog
from jetpare.project.plan import Node, NodeKind
from jetpare.records import ledger
from jetpare.records.ledger import StageRecord
from tests.fakes import Baked, Silent, digest, opened, vertex
from tests.unit.conftest import Workshop


def stream(*events: Mapping[str, Any], text: str = "") -> bytes:
    return "".join(json.dumps(each) + "\n" for each in events).encode() + text.encode()


def says(name: str, line: str) -> dict[str, Any]:
    data = base64.b64encode(f"{line}\n".encode()).decode()
    return {"logs": [{"vertex": digest(name), "stream": 1, "data": data, "timestamp": "2026-01-01T00:00:01Z"}]}


def fails(name: str, error: str = "process did not complete successfully: exit code: 7") -> Iterator[dict[str, Any]]:
    begun, ended = vertex(name)
    ended["vertexes"][0]["error"] = error
    yield from (begun, says(name, f"of {name}"), ended)


class Watched(Silent):
    """A view that keeps the order in which it is told things."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def begin(self, label: str) -> None:
        self.told.append(f"begin {label}")

    def update(self, label: str, recorder: Any) -> None:  # noqa: ARG002
        self.told.append(f"update {label}")

    def echo(self, line: str) -> None:
        super().echo(line)
        self.told.append("echo")


@pytest.fixture
def view() -> Watched:
    return Watched()


@pytest.fixture
def rows() -> list[StageRecord]:
    return []


@pytest.fixture
def make(workshop: Workshop, view: Watched, rows: list[StageRecord], tmp_path: Path) -> Any:
    """Makes a call for labels of the plan of cuda and slim, whose definition is written."""
    plan = workshop.plan("cuda", "slim")
    settings = {"slim": {"Env": ["A=b"]}}
    options = bake.Options(state=workshop.project.state, base_settings=settings)
    content = bake.definition(workshop.project.config, plan, options)
    buildx.write_definition(workshop.project.root, workshop.project.state, content)
    folder = tmp_path / "run"
    for name in ("logs", "events"):
        (folder / name).mkdir(parents=True)
    baked = [node for node in plan.nodes if node.baked]
    own = inputs.own_stages(workshop.project.root, content, baked)

    def call(*labels: str) -> BakeCall:
        return BakeCall(
            project=workshop.project, engine=workshop.engine, folder=folder, own_stages=own, progress=view,
            nodes=[plan.node(label) for label in labels] or baked, on_row=rows.append,
        )  # fmt: skip

    return call


def log(call: BakeCall, label: str) -> str:
    return call.log_path(next(node for node in call.nodes if node.label == label)).read_text()


def test_a_call_that_goes_well(make: Any, view: Watched, rows: list[StageRecord], workshop: Workshop) -> None:
    call = make("cuda/gdal")
    assert (call.status, call.has_failed) == (None, False)
    call.run()
    assert (call.status, call.has_failed, call.failure) == (0, False, None)
    assert workshop.bake.calls == [("cuda-gdal",)]
    assert [step.name for step in call.timeline.steps] == ["[gdal 1/1] RUN x"]
    assert call.events_path.name == "cuda-gdal.jsonl"
    assert len(call.events_path.read_text().splitlines()) == 2
    assert "2.000 s  [gdal 1/1] RUN x" in log(call, "cuda/gdal")
    assert [(row.label, row.status, row.log) for row in rows] == [("cuda/gdal", ledger.RUNNING, "logs/cuda-gdal.log")]
    assert view.told[:2] == ["begin cuda/gdal", "echo"]
    assert view.told[2:] == ["update cuda/gdal"] * (len(view.told) - 2)
    assert len(view.told) > 2


def test_an_image_and_its_report_are_one_call(make: Any, workshop: Workshop) -> None:
    call = make("cuda/runtime")
    call.run()
    assert workshop.bake.calls == [("cuda-runtime", "cuda-runtime-report")]
    assert call.metadata["cuda-runtime"]["containerimage.digest"] in workshop.docker.held


def test_what_runs_is_echoed_as_it_can_be_pasted(make: Any, view: Watched, workshop: Workshop) -> None:
    call = make("cuda/runtime")
    mine = {"DOCKER_HOST": "unix:///run/my engine.sock"}
    call.engine = replace(opened(workshop.docker), env={"WORD": "hunter2", **mine}, overrides=mine)
    call.run()
    (line,) = view.commands
    assert line == (
        "+ DOCKER_HOST='unix:///run/my engine.sock' BUILDX_NO_DEFAULT_LOAD=1 docker buildx bake --file "
        ".jetpare/bake.json --provenance=false cuda-runtime cuda-runtime-report"
    )


def test_what_buildx_says_without_a_step_is_the_failure(make: Any, workshop: Workshop) -> None:
    text = "WARNING: x\nERROR: failed to receive status: rpc error: code = Unavailable desc = error reading: EOF\n"
    workshop.bake.outcomes["cuda-gdal"] = Baked(status=1, data=stream(*vertex("[gdal 1/2] RUN a"), text=text))
    call = make("cuda/gdal")
    call.run()
    assert call.has_failed
    assert "rpc error" in call.failure.error
    assert call.text == text.splitlines()
    assert call.metadata == {}


def test_the_last_word_counts_though_its_line_has_no_end(make: Any, workshop: Workshop) -> None:
    workshop.bake.outcomes["cuda-gdal"] = Baked(status=1, data=b"ERROR: the disk is gone")
    call = make("cuda/gdal")
    call.run()
    assert call.text == ["ERROR: the disk is gone"]
    assert call.failure.error == "the disk is gone"


def test_a_program_that_says_nothing_leaves_no_failure_to_name(make: Any, workshop: Workshop) -> None:
    workshop.bake.outcomes["cuda-gdal"] = Baked(status=1, data=stream(*vertex("[gdal 1/2] RUN a")))
    call = make("cuda/gdal")
    call.run()
    assert (call.has_failed, call.failure) == (True, None)


def test_a_stream_that_breaks_off_is_still_worked_out(make: Any, workshop: Workshop) -> None:
    """What was begun counts until the last time in the stream, and the line without an end is in the log."""
    begun = vertex("[gdal 1/1] RUN a")[0]
    half = says("[gdal 1/1] RUN a", "half a line")
    half["logs"][0]["data"] = base64.b64encode(b"half a line").decode()
    workshop.bake.outcomes["cuda-gdal"] = Baked(data=stream(begun, half), raises=KeyboardInterrupt())
    call = make("cuda/gdal")
    with pytest.raises(KeyboardInterrupt):
        call.run()
    assert (call.status, call.has_failed) == (None, False)
    assert call.timeline.steps[0].running
    assert call.timeline.steps[0].seconds == pytest.approx(1.0)
    assert "half a line" in log(call, "cuda/gdal")
    assert "# steps" in log(call, "cuda/gdal")


def test_a_log_that_cannot_be_finished_hides_neither_status_nor_failure(
    make: Any, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StageLog, "finish", full)
    workshop.bake.outcomes["cuda-gdal"] = Baked(status=1, stream="failing")
    call = make("cuda/gdal")
    with pytest.raises(OSError, match="No space"):
        call.run()
    assert call.has_failed
    assert call.failure is not None


# --- helper stages: they have no row of their own


@pytest.mark.parametrize(
    ("stage", "targets", "label"),
    [
        ("base-with-cudnn", ["cuda-runtime", "cuda-runtime-report", "slim-slim"], "cuda/runtime"),
        ("runtime-report", ["cuda-runtime-report"], "cuda/runtime"),
        ("gdal-report", ["cuda-gdal"], "cuda/gdal"),
        ("cudnn", ["cuda-cudnn", "cuda-runtime"], "cuda/cudnn"),
        ("python", ["slim-python", "slim-slim"], "slim/python"),
        ("base-with-cudnn", ["slim-runtime", "slim-slim"], "slim/runtime"),
        ("slim", ["slim-slim"], "slim/slim"),
    ],
)
def test_a_helper_stage_that_fails_is_that_of_the_node_that_needs_it(
    make: Any, workshop: Workshop, stage: str, targets: list[str], label: str
) -> None:
    """In one solve, each target reports the step for itself."""
    events = [each for target in targets for each in fails(f"[{target} {stage} 2/2] COPY x")]
    for event in events:  # it is one and the same step
        for each in event.get("vertexes", ()):
            each["digest"] = digest(stage)
        for each in event.get("logs", ()):
            each["vertex"] = digest(stage)
    call = make()
    for target in {target for node in call.nodes for target in (node.target, f"{node.target}-report")}:
        workshop.bake.outcomes[target] = Baked(data=b"\n")
    workshop.bake.outcomes["cuda-gdal"] = Baked(status=1, data=stream(*events))
    call.run()
    assert call.failure is not None
    assert failed_node(call.nodes, call.failure, call.own_stages).label == label
    assert "of [" in log(call, label)
    assert "ERROR" in log(call, label)
    group = label.partition("/")[0]
    others = [node.label for node in call.nodes if node.label != label and node.group == group]
    assert not [each for each in others if "of [" in log(call, each)]


def node(label: str) -> Node:
    group, name = label.split("/")
    kind = NodeKind.INPUT if group == "inputs" else NodeKind.STAGE
    return Node(group=group, name=name, kind=kind)


def failure(stage: str | None, *targets: str) -> figures.Failure:
    return figures.Failure(
        target=targets[0] if targets else None, targets=targets, stage=stage, step=None, error="", detail="",
        exit_code=1, out_of_memory=False, tail=(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "label"),
    [
        (None, "inputs/base"),
        (failure("anything", "inputs-base"), "inputs/base"),
        (failure("gdal", "cuda-gdal"), "cuda/gdal"),
        (failure("python", "cuda-runtime"), "cuda/python"),  # its own target came too late to report it
        (failure("python", "jetpack-runtime", "cuda-runtime"), "cuda/python"),
        (failure("x", "inputs-other"), "inputs/other"),
        (failure("gdal", "inputs-other"), "inputs/other"),
        (failure(None, "cuda-python-report"), "cuda/python"),
        (failure("of nobody", "cuda-python"), "cuda/python"),
        (failure("of nobody", "of another call"), "inputs/base"),
        (failure(None), "inputs/base"),
    ],
)
def test_a_failure_without_a_stage_is_that_of_the_first_target_that_reports_it(
    found: figures.Failure | None, label: str
) -> None:
    labels = ("inputs/base", "inputs/other", "cuda/gdal", "cuda/python", "cuda/runtime")
    nodes = [node(each) for each in labels]
    own = {each: frozenset({each.partition("/")[2]}) for each in labels} | {"inputs/base": frozenset({"x"})}
    assert failed_node(nodes, found, own).label == label


def test_each_stage_of_a_dockerfile_belongs_to_one_node_of_an_image(make: Any) -> None:
    own = make().own_stages
    assert own["cuda/runtime"] == {"runtime", "runtime-report", "base-with-cudnn"}
    assert own["cuda/gdal"] == {"gdal", "gdal-report"}
    assert own["slim/slim"] == {"slim", "slim-report"}
    of_slim = [name for label, names in own.items() if label.startswith("slim/") for name in names]
    assert len(of_slim) == len(set(of_slim))

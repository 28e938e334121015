"""What a run sees of its host: the power mode, the sensors, and why a time does not count for the mode."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jetpare.board import power
from jetpare.board.nvpmodel import Present
from jetpare.build import watch
from jetpare.build.request import Request
from jetpare.build.watch import HostWatch
from jetpare.engine import api
from jetpare.records.samples import SAMPLES_FILE, Figure, StageTelemetry
from tests.fakes import opened
from tests.unit.conftest import Workshop

LOCAL = "unix:///x"


class Sensed:
    """A sampler that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def take(self) -> None:
        self.asked.append("take")

    def stage(self, start: float, end: float) -> str:
        self.asked.append((start, end))
        return "telemetry"


def test_where_nothing_is_measured_nothing_is_said() -> None:
    nobody = HostWatch()
    nobody.take_sample()
    assert nobody.present() is None
    assert nobody.measured(1.0, 2.0) is None
    assert nobody.marks(None, None, None) == ()


def test_the_sampler_is_asked_for_the_time_of_a_stage() -> None:
    sampler: Any = Sensed()
    host = HostWatch(sampler=sampler)
    host.take_sample()
    assert host.measured(1.0, 2.0) == "telemetry"  # type: ignore[comparison-overlap]
    assert host.measured(None, 2.0) is None
    assert host.measured(1.0, None) is None
    assert sampler.asked == ["take", (1.0, 2.0)]


def figure(mean: float) -> Figure:
    return Figure(mean=mean, min=mean, max=mean)


def test_the_marks_are_made_of_the_mode_the_clocks_and_the_heat(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def stage_marks(**words: Any) -> tuple[str, ...]:
        asked.update(words)
        return ("a mark",)

    monkeypatch.setattr(power, "stage_marks", stage_marks)
    held: Any = SimpleNamespace(promise="promised", present=lambda: "now")
    host = HostWatch(held=held)
    assert host.present() == "now"  # type: ignore[comparison-overlap]
    mode = Present(id=0, name="MAXN")
    seen = StageTelemetry(
        samples=2, cpu_khz={"0": figure(5.0)}, gpu_hz=figure(7.0), emc_hz=figure(9.0), tripped=("tj", "cpu")
    )
    assert host.marks(mode, None, seen) == ("a mark", "throttled by heat: tj, cpu")
    assert asked == {
        "before": mode, "after": None, "promise": "promised", "cpu_khz": {"0": 5.0}, "gpu_hz": 7.0, "emc_hz": 9.0,
    }  # fmt: skip
    assert host.marks(mode, None, StageTelemetry(samples=0)) == ("a mark",)
    assert (asked["cpu_khz"], asked["gpu_hz"], asked["emc_hz"]) == (None, None, None)


@pytest.mark.parametrize(("asked", "mode"), [("30w", "30w"), ("", "maxn")])
def test_the_flag_wins_over_build_toml(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, asked: str, mode: str
) -> None:
    found: list[power.Policy] = []

    def session(*, policy: power.Policy, **_: Any) -> Any:
        found.append(policy)
        return nullcontext("held")

    monkeypatch.setattr(power, "session", session)
    settings = workshop.project.config.power.model_copy(update={"mode": "maxn", "strict": True, "lock_clocks": True})
    config = workshop.project.config.model_copy(update={"power": settings})
    project = replace(workshop.project, config=config)
    request = Request(task="x", power=asked)
    with watch.power_session(project, opened(workshop.docker, host=LOCAL), request, say=print) as held:
        assert held == "held"  # type: ignore[comparison-overlap]
    assert found == [power.Policy(wanted=mode, lock_clocks=True, strict=True)]
    with watch.power_session(project, workshop.engine, request, say=print) as none:
        assert none is None
    assert len(found) == 1  # another machine's mode is not set here


def sampled(workshop: Workshop, folder: Path, said: list[str], *, host: str) -> Any:
    engine = opened(workshop.docker, host=host)
    project = replace(workshop.project, environ={"JETPARE_SYSROOT": str(folder)})
    return watch.sampling(project, engine, api.facts(engine), folder=folder, say=said.append)


def test_samples_of_this_host_go_into_the_runs_folder(workshop: Workshop, tmp_path: Path) -> None:
    said: list[str] = []
    with sampled(workshop, tmp_path, said, host=LOCAL) as sampler:
        sampler.take()
    assert (tmp_path / SAMPLES_FILE).read_text().count("\n") >= 1
    assert said == []


def test_another_hosts_sensors_are_not_read(workshop: Workshop, tmp_path: Path) -> None:
    with sampled(workshop, tmp_path, [], host="tcp://fake:1") as sampler:
        assert sampler is None
    assert not (tmp_path / SAMPLES_FILE).exists()


def test_samples_that_were_not_kept_are_told_even_when_the_run_fails(workshop: Workshop, tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(KeyError), sampled(workshop, tmp_path / "is not there", said, host=LOCAL):
        raise KeyError("x")
    assert [line for line in said if line.startswith("Not all samples were kept: ")]


def test_the_record_names_the_board_and_its_mode(workshop: Workshop) -> None:
    facts = power.PowerFacts(mode="MAXN", mode_id=0, wanted="maxn", locked=None, why="")
    held: Any = SimpleNamespace(facts=facts)
    found = watch.host_facts(workshop.project, held)
    assert (found["power_mode"], found["power"]) == ("MAXN", facts.as_dict())
    without = watch.host_facts(workshop.project, None)
    assert (without["power_mode"], without["power"]) == (None, None)
    assert without.keys() == found.keys()
    assert without["cores"] >= 1

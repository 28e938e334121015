"""One run in detail: ninja's log, recorded event streams, and a trace that keeps to the format."""

from __future__ import annotations

import io
import json
import shutil
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from jetpare.events.step_names import Place, StepKind
from jetpare.events.steps import Interval, Step, merge, union_seconds, work_seconds
from jetpare.records import reports, trace
from jetpare.records.ledger import Record, StageRecord
from jetpare.records.samples import SAMPLES_FILE, Sample, as_dict
from jetpare.records.trace import Command, Run, Stage, chrome, parse_ninja_log, shares
from jetpare.views import history_text

EVENTS = Path(__file__).parent.parent / "data" / "events"

# --- interval arithmetic

intervals = st.lists(
    st.tuples(st.integers(-1000, 1000), st.integers(0, 200)).map(
        lambda each: Interval(start=each[0], end=each[0] + each[1])
    ),
    max_size=30,
)


@given(intervals)
def test_merged_intervals_are_apart_and_cover_the_same(found: list[Interval]) -> None:
    merged = merge(found)
    assert all(first.end < second.start for first, second in pairwise(merged))
    for each in found:
        assert any(one.start <= each.start and each.end <= one.end for one in merged)
    ends = {each.start for each in found} | {each.end for each in found}
    assert {each.start for each in merged} | {each.end for each in merged} <= ends
    # A moment is in the one exactly when it is in the other.
    for moment in {end + 0.5 for end in ends}:
        assert any(each.start <= moment <= each.end for each in found) == any(
            each.start <= moment <= each.end for each in merged
        )


@given(intervals, st.randoms())
def test_merging_knows_no_order_and_nothing_to_do_twice(found: list[Interval], random: Any) -> None:
    merged = merge(found)
    random.shuffle(found)
    assert merge(found) == merged
    assert merge(merged) == merged


@given(intervals, intervals)
def test_the_union_is_at_most_the_sum_and_at_least_the_longest(first: list[Interval], second: list[Interval]) -> None:
    def steps(found: list[Interval]) -> list[Step]:
        return [step(f"[gdal 1/{number}] RUN x", each) for number, each in enumerate(found, 1)]

    one, two, both = (union_seconds(steps(found)) for found in (first, second, [*first, *second]))
    assert max(one, two) <= both <= one + two
    assert one <= work_seconds(steps(first))
    assert one >= max((each.seconds for each in first), default=0)
    if first:
        assert one <= max(each.end for each in first) - min(each.start for each in first)


# --- ninja's log


def log(*lines: tuple[int, int, str, str], version: int = 5) -> str:
    return "\n".join([f"# ninja log v{version}", *(f"{a}\t{b}\t0\t{c}\t{d}" for a, b, c, d in lines)]) + "\n"


@pytest.mark.parametrize("version", [5, 6, 7])
def test_commands_slowest_first(version: int) -> None:
    text = log((0, 1500, "a.o", "f1"), (10, 5010, "b b.o", "f2"), (1500, 1600, "c.o", "f3"), version=version)
    assert parse_ninja_log(text) == (
        Command(outputs=("b b.o",), start=0.01, end=5.01),
        Command(outputs=("a.o",), start=0.0, end=1.5),
        Command(outputs=("c.o",), start=1.5, end=1.6),
    )


def test_of_a_target_that_was_made_again_the_last_counts() -> None:
    (found,) = parse_ninja_log(log((0, 9000, "a.o", "f1"), (5, 25, "a.o", "f9")))
    assert (found.start, found.end) == (0.005, 0.025)


def test_a_command_with_several_outputs_is_one() -> None:
    (found,) = parse_ninja_log(log((28, 149, "version.h", "64"), (28, 149, "/build/version.h", "64")))
    assert found.outputs == ("version.h", "/build/version.h")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "# ninja log v4\n1\t2\t0\ta\tf",
        "# ninja log v8\n1\t2\t0\ta\tf",
        "1\t2\t0\ta\tf",
        "# ninja log v5",
        "\x00",
    ],
)
def test_no_log_of_a_known_format_has_no_commands(text: str) -> None:
    assert parse_ninja_log(text) == ()


def test_damaged_lines_are_passed_over() -> None:
    text = (
        log((0, 10, "a.o", "f1"))
        + "5\t1\t0\tback.o\tf\n\n-1\t5\t0\tn.o\tf\nx\ty\t0\tz.o\tf\n1\t2\t3\n²\t5\t0\tq.o\tf\n7\t9\t0\tcut"
    )
    assert [each.outputs for each in parse_ninja_log(text)] == [("a.o",)]


names = st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=["Cs"]), min_size=1, max_size=8)
rows = st.lists(
    st.tuples(st.integers(0, 10**7), st.integers(0, 10**6), names, st.sampled_from(["f1", "f2", "f3"])), max_size=30
)


@given(rows, st.sampled_from([5, 6, 7]), st.sampled_from(["\n", "\r\n"]))
def test_every_output_stands_once_with_its_last_time(
    found: list[tuple[int, int, str, str]], version: int, newline: str
) -> None:
    lines = [(start, start + length, name, key) for start, length, name, key in found]
    commands = parse_ninja_log(log(*lines, version=version).replace("\n", newline))
    last = {name: (start, end) for start, end, name, _ in lines}
    made = {name: (round(each.start * 1000), round(each.end * 1000)) for each in commands for name in each.outputs}
    assert made == last
    assert sum(len(each.outputs) for each in commands) == len(last)
    assert [each.seconds for each in commands] == sorted((each.seconds for each in commands), reverse=True)


@given(st.text())
def test_nothing_breaks_the_parser(text: str) -> None:
    assert parse_ninja_log(text) == () or text.startswith("# ninja log v")
    assert all(name in text for each in parse_ninja_log(f"# ninja log v5\n{text}") for name in each.outputs)


# --- a run


def step(name: str, *found: Interval, kind: StepKind = StepKind.STAGE, **more: Any) -> Step:
    place = Place(target=None, stage="gdal", number=1, total=2, kind=kind, name=name)
    return Step(digest=name, places=(place,), intervals=found, **more)


def span(start: float, end: float) -> Interval:
    return Interval(start=1000 + start, end=1000 + end)


def record(*rows: StageRecord, **changes: Any) -> Record:
    return Record.model_validate(
        {
            "tool": "test", "id": "r", "task": "build-all", "status": "succeeded", "pid": 1, "started": 1000.0, "finished": 1100.0,
            "wall_seconds": 100.0, "profile": "mini", "platform": "linux/arm64", "parallel": False, "cold": False,
            "config_digest": "sha256:0", "revision": None, "host": {"model": "NVIDIA Jetson AGX Orin"}, "engine": {}, "stages": rows,
        }
        | changes
    )  # fmt: skip


def run(*stages: Stage, samples: tuple[Sample, ...] = (), **changes: Any) -> Run:
    path = tuple(each for stage in stages for each in stage.steps if each.kind is StepKind.STAGE)
    return Run(
        record=record(*(stage.row for stage in stages), **changes), stages=stages, critical_path=path, samples=samples
    )


def baked(label: str, *steps: Step) -> Stage:
    own = [each for each in steps if each.kind is StepKind.STAGE]
    row = StageRecord(
        label=label, status="ok", cache="cold", events="events/x.jsonl", seconds=union_seconds(own), steps=len(own)
    )
    return Stage(row=row, steps=steps)


PREPARED = Stage(
    row=StageRecord(label="inputs/debian", status="ok", started=1000.0, seconds=20.0, work=20.0, cache="cold")
)
GDAL = baked(
    "cuda/gdal",
    step("[internal] load build definition", span(20, 21), kind=StepKind.INTERNAL),
    step("[gdal 1/3] FROM base", span(21, 30), kind=StepKind.PULL),
    step("[gdal 2/3] RUN make", span(28, 60)),
    step("[gdal 3/3] RUN check", span(60, 70)),
    step("exporting to image", span(70, 80), kind=StepKind.EXPORT),
)


def test_where_the_time_went_adds_up() -> None:
    found = shares(run(PREPARED, GDAL))
    assert found == {
        trace.PREPARE: 20, trace.COMPUTE: 42, trace.PULL: 7, trace.CONTEXT: 0, trace.EXPORT: 10, trace.OTHER: 21,
    }  # fmt: skip
    assert sum(found.values()) == 100


def copied(tmp_path: Path, name: str, row: StageRecord) -> Run:
    (tmp_path / "events").mkdir()
    shutil.copy(EVENTS / f"{name}.jsonl", tmp_path / "events" / f"{name}.jsonl")
    return trace.load(record(row.model_copy(update={"events": f"events/{name}.jsonl"})), tmp_path)


@pytest.mark.parametrize("name", sorted(path.stem for path in EVENTS.glob("*.jsonl")))
def test_recorded_streams_make_valid_traces(tmp_path: Path, name: str) -> None:
    targets = {place.target for each in trace.replay(EVENTS / f"{name}.jsonl").steps for place in each.places}
    label = next(
        (target.replace("-", "/") for target in sorted(filter(None, targets)) if target.count("-") == 1), "x/y"
    )
    found = copied(tmp_path, name, StageRecord(label=label, status="ok"))
    assert found.end >= found.start
    check(chrome(found))
    assert shares(found)
    shown(history_text.timings(found))


def test_a_run_is_read_whole(tmp_path: Path) -> None:
    report = tmp_path / "reports/cuda-gdal"
    report.mkdir(parents=True)
    (report / "ninja_log").write_text(log((0, 1000, "ogr/CMakeFiles/ogr.dir/slow.cpp.o", "f")))
    (report / "gdal.json").write_text(
        '{"ccache": {"hits": 3, "misses": 1}, "milliseconds": {"compile": 1500, "install": null}}'
    )
    samples = [Sample(time=1000.0, monotonic=0.0, power_mw=1.0), Sample(time=1001.0, monotonic=1.0)]
    (tmp_path / SAMPLES_FILE).write_text("".join(f"{json.dumps(as_dict(each))}\n" for each in samples))
    found = trace.load(
        record(StageRecord(label="cuda/gdal", status="ok", report="reports/cuda-gdal", events="events/none")), tmp_path
    )
    (stage,) = found.stages
    assert (stage.ccache, stage.phases, len(stage.commands)) == ((3, 4), {"compile": 1.5}, 1)
    assert found.samples == tuple(samples)
    assert trace.telemetry_of(found, stage) is None  # nothing tells when it was


@pytest.mark.parametrize(
    "text",
    ["", "[]", "[" * 60_000, '{"ccache": {"hits": "x"}}', '{"milliseconds": {"compile": "x"}}', '{"tree_bytes": -1}'],
)
def test_a_damaged_report_counts_as_not_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "gdal.json").write_text(text)
    assert reports.stage_report(tmp_path, "gdal") == reports.stage_report(None, "gdal")
    assert (reports.cache_counts(tmp_path), reports.phases(tmp_path), reports.fallback(tmp_path)) == (None, None, [])


def test_a_run_that_was_killed_ends_with_the_last_that_is_known() -> None:
    killed = run(
        GDAL, samples=(Sample(time=1090.0, monotonic=1.0),), finished=None, wall_seconds=None, status="interrupted"
    )
    assert killed.end == 1090.0
    assert sum(shares(killed).values()) == 90.0


def test_a_stage_that_was_cut_off_is_read_from_what_is_on_disk(tmp_path: Path) -> None:
    copied(tmp_path, "interrupted", StageRecord(label="cuda/gdal", status="ok"))
    (tmp_path / "events/interrupted.jsonl").rename(tmp_path / "events/all.jsonl")
    rows = [StageRecord(label=f"x/{name}", status="interrupted") for name in stages_in(tmp_path / "events/all.jsonl")]
    found = trace.load(record(*rows, status="interrupted", finished=None), tmp_path)
    assert any(stage.steps for stage in found.stages)
    check(chrome(found))
    waiting = trace.load(record(*(row.model_copy(update={"status": "waiting"}) for row in rows)), tmp_path)
    assert not any(stage.steps for stage in waiting.stages)


def stages_in(path: Path) -> list[str]:
    return sorted({each.stage for each in trace.replay(path).steps if each.stage})


# --- the trace


def check(found: dict[str, Any]) -> None:
    """What the Trace Event Format asks of phases X, C and M, and Perfetto of slices: those of a thread must nest."""
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    threads: dict[int, int] = {}
    slices: dict[int, list[tuple[int, int]]] = defaultdict(list)
    named: set[int] = set()
    for event in found["traceEvents"]:
        assert event["ph"] in {"X", "C", "M"}
        assert all(type(event[key]) is int for key in ("pid", "tid", "ts"))
        assert event["ts"] >= 0
        assert isinstance(event["name"], str)
        assert isinstance(event["args"], dict)
        assert threads.setdefault(event["tid"], event["pid"]) == event["pid"]
        if event["ph"] == "X":
            assert type(event["dur"]) is int
            assert event["dur"] >= 0
            slices[event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
        if event["ph"] == "C":
            assert all(isinstance(value, (int, float)) for value in event["args"].values())
        if event["ph"] == "M":
            assert event["name"] in {"process_name", "thread_name", "process_sort_index"}
            named |= {event["tid"]} if event["name"] == "thread_name" else set()
    for spans in slices.values():
        assert all(first[1] <= second[0] for first, second in pairwise(sorted(spans)))
    assert set(slices) <= named


def test_stages_steps_and_counters() -> None:
    samples = (
        Sample(
            time=1000.5,
            monotonic=1.0,
            cpu_khz={"cpu0": 1_344_000},
            celsius={"tj-thermal": 51.5},
            power_mw=18_000.0,
            gpu_hz=918_000_000,
        ),
        Sample(time=1001.5, monotonic=2.0, cpu_khz={"cpu0": 2_000_000}),
    )
    found = chrome(run(PREPARED, GDAL, samples=samples))
    check(found)
    events = found["traceEvents"]
    named = {event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert named == {"build-all r", "cuda/gdal"}
    by_name = {event["name"]: event for event in events if event["ph"] == "X"}
    assert (by_name["inputs/debian"]["ts"], by_name["inputs/debian"]["dur"]) == (0, 20_000_000)
    assert (by_name["cuda/gdal"]["ts"], by_name["cuda/gdal"]["dur"]) == (28_000_000, 42_000_000)
    assert by_name["[gdal 1/3] FROM base"]["tid"] != by_name["[gdal 2/3] RUN make"]["tid"]
    counters = [(event["name"], event["ts"], event["args"]["value"]) for event in events if event["ph"] == "C"]
    assert counters == [
        ("cpu0 (MHz)", 500_000, 1344.0), ("GPU (MHz)", 500_000, 918.0), ("tj-thermal (°C)", 500_000, 51.5),
        ("power (W)", 500_000, 18.0), ("cpu0 (MHz)", 1_500_000, 2000.0),
    ]  # fmt: skip


@given(st.lists(st.tuples(st.floats(-1, 1000), st.floats(0, 50)), max_size=30))
def test_overlapping_slices_get_threads_of_their_own(found: list[tuple[float, float]]) -> None:
    steps = [
        step(f"[gdal {number}/30] RUN", span(start, start + length)) for number, (start, length) in enumerate(found)
    ]
    made = chrome(run(baked("cuda/gdal", *steps)))
    check(made)
    assert sum(event["ph"] == "X" and event["pid"] > 1 for event in made["traceEvents"]) == len(steps)


# --- the tables


def shown(part: Any, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_timings_fit_80_columns() -> None:
    jetson = [
        Sample(
            time=1000.0 + at, monotonic=float(at), cores_online=12, cpu_khz={"cpu0": 2_201_600, "cpu1": 2_201_600},
            gpu_hz=1_300_500_000, emc_hz=3_199_000_000, celsius={"tj-thermal": 98.5 + at / 100, "cpu-thermal": 40.0},
            tripped=("tj-thermal",) if at > 50 else (), power_mw=36_000.0, power_rails=("VDD_IN",),
            throttle_events={"oc1": at}, memory_available=20_000_000_000, load=12.0, disk_free=123_456_000_000,
        )
        for at in range(101)
    ]  # fmt: skip
    commands = tuple(
        Command(outputs=(f"ogr/CMakeFiles/ogr.dir/file{n}.cpp.o", "x"), start=0.0, end=30.0 - n) for n in range(20)
    )
    gdal = Stage(
        row=GDAL.row, steps=GDAL.steps, ccache=(3, 475), phases={"configure": 18.4, "compile": 250.0}, commands=commands
    )
    text = shown(history_text.timings(run(PREPARED, gdal, samples=tuple(jetson))))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    telemetry = text[text.index("Clocks, heat and power") :].splitlines()
    assert telemetry[1].split() == [
        "stage",
        "cores",
        "CPU",
        "MHz",
        "GPU",
        "MHz",
        "EMC",
        "MHz",
        "max",
        "°C",
        "W",
        "Wh",
        "OC",
        "load",
    ]
    (gdal_line,) = [line for line in telemetry if line.startswith("cuda/gdal  ")]
    # 42 s at 36 W
    assert gdal_line.split() == ["cuda/gdal", "12", "2202", "1300", "3199", "99.2", "36.0", "0.420", "42", "12.0"]
    assert "cuda/gdal: throttled by heat: tj-thermal." in text
    assert "Power: VDD_IN." in text
    assert "Least memory available: 20.0 GB." in text
    assert "ccache 3 of 475 hits" in text
    assert "configure 18.4 s, compile 4 min 10 s" in text
    assert "30.0 s ogr/file0.cpp.o and 1 more" in text
    assert "file10.cpp.o" not in text
    assert "running steps       42.0 s 42.0%" in text
    assert "* 32.0 s cuda/gdal [gdal 2/3] RUN make" in text
    assert "  9.0 s cuda/gdal [gdal 1/3] FROM base" in text


def test_energy_that_is_known_for_a_part_only_says_so() -> None:
    samples = [Sample(time=1028.0 + at, monotonic=float(at), power_mw=1.0 if at < 21 else None) for at in range(50)]
    text = shown(history_text.timings(run(GDAL, samples=tuple(samples))))
    assert "cuda/gdal: energy is known for 48% of its time only." in text


def test_without_samples_nothing_is_claimed() -> None:
    text = shown(history_text.timings(run(PREPARED, GDAL, status="failed")))
    assert "not measured" in text
    assert "GPU" not in text


def test_marks_are_told_beside_the_time() -> None:
    marked = replace(GDAL, row=GDAL.row.model_copy(update={"why": "no step cached", "marks": ("mode was 30W",)}))
    assert "no step cached; mode was 30W" in " ".join(shown(history_text.timings(run(marked))).split())

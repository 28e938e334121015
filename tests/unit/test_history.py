"""History: records with statistics that are known beforehand."""

from __future__ import annotations

import csv
import io
import json
import statistics
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from jetpare.build.estimate import expected_caches
from jetpare.project.plan import Node, NodeKind
from jetpare.records import history
from jetpare.records.history import (
    Key,
    as_csv,
    as_dict,
    estimate,
    groups,
    host_of,
    modified_z_scores,
    outliers,
    sparkline,
)
from jetpare.records.ledger import Record, StageRecord
from jetpare.views import history_text

ORIN = {"model": "NVIDIA Jetson AGX Orin", "power_mode": "MAXN", "machine": "aarch64", "cores": 12}


def row(label: str = "cuda/gdal", **changes: Any) -> StageRecord:
    known: dict[str, Any] = {
        "label": label,
        "status": "ok",
        "seconds": 100.0,
        "work": 100.0,
        "cache": "cold",
        "inputs": "sha256:aaaaaaaa",
    }
    return StageRecord.model_validate(known | changes)


def record(number: int, *rows: StageRecord, **changes: Any) -> Record:
    return Record.model_validate(
        {
            "tool": "test", "id": f"20250102-{number:06d}", "task": "build-all", "status": "succeeded", "pid": 1,
            "started": 1_700_000_000.0 + number, "profile": "mini", "platform": "linux/arm64", "parallel": False, "cold": False,
            "config_digest": "sha256:0", "revision": None, "host": ORIN, "engine": {}, "stages": rows,
        }
        | changes
    )  # fmt: skip


def shown(*parts: Any, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    console.print(*parts)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


# --- grouping


def test_known_statistics() -> None:
    seconds = [270.0, 281.5, 276.0, 300.0, 275.0]
    (found,) = groups([record(number, row(seconds=each)) for number, each in enumerate(seconds)])
    assert (found.count, found.median, found.minimum, found.maximum) == (5, 276.0, 270.0, 300.0)
    assert found.deviation == pytest.approx(statistics.stdev(seconds))
    assert [point.seconds for point in found.points] == seconds
    assert found.key == Key(
        profile="mini", label="cuda/gdal", inputs="sha256:aaaaaaaa", host="NVIDIA Jetson AGX Orin",
        power_mode="MAXN", cache="cold", alone=True,
    )  # fmt: skip


def test_under_three_runs_there_is_no_deviation() -> None:
    (found,) = groups([record(number, row()) for number in range(2)])
    assert found.deviation is None
    (found,) = groups([record(number, row()) for number in range(3)])
    assert found.deviation == 0


@pytest.mark.parametrize(
    "other",
    [
        record(2, row(), profile="other"),
        record(2, row("cuda/python")),
        record(2, row(inputs="sha256:b")),
        record(2, row(), host=ORIN | {"model": "NVIDIA Jetson Orin Nano"}),
        record(2, row(), host=ORIN | {"power_mode": "MODE_30W"}),
        record(2, row(), host=ORIN | {"power_mode": None}),
        record(2, row(cache="warm")),
        record(2, row(overlaps=True)),
    ],
)
def test_what_differs_in_one_thing_is_not_compared(other: Record) -> None:
    assert [group.count for group in groups([record(1, row()), other])] == [1, 1]
    assert estimate(groups([record(1, row(seconds=5.0)), other]), history.key_of(record(1), row())) == 5.0


def test_what_came_from_the_cache_was_built_beside_nothing() -> None:
    (found,) = groups([record(1, row(cache="cached")), record(2, row(cache="cached", overlaps=True))])
    assert found.count == 2
    assert found.key.alone


@pytest.mark.parametrize(
    "changes",
    [{"status": "failed"}, {"status": "skipped"}, {"status": "interrupted"}, {"status": "running"}, {"seconds": None}],
)
def test_what_did_not_end_well_is_no_measurement(changes: dict[str, Any]) -> None:
    assert groups([record(1, row(**changes))]) == ()
    assert estimate(groups([record(1, row(**changes))]), history.key_of(record(1), row())) is None


def test_a_clock_that_was_set_back_does_not_make_the_newest_run_the_oldest() -> None:
    """A board without a battery boots in 1970 until its clock is set."""
    made = [
        record(0, row(seconds=1.0), id="0041-20250102-030405", started=1_735_787_045.0),
        record(0, row(seconds=2.0, inputs="sha256:b"), id="0042-19700101-000012", started=12.0),
        record(0, row(seconds=3.0), id="0043-19700101-000010", started=10.0),
    ]
    for records in (made, made[::-1]):
        found = groups(records)
        assert [[point.seconds for point in group.points] for group in found] == [[1.0, 3.0], [2.0]]
        assert [[point.seconds for point in group.points] for group in groups(records, last=1)] == [[3.0], [2.0]]
        assert [each.seconds for each in history.medians(records)] == [2.0]
        assert history.medians(records)[0].inputs == "sha256:aaaaaaaa"


def test_order_choice_and_the_newest() -> None:
    records = [
        record(
            number,
            row("cuda/runtime", seconds=1.0),
            row("cuda/gdal", cache=["warm", "cold"][number % 2], seconds=number),
        )
        for number in range(6)
    ]
    found = groups(records)
    assert [(group.key.label, group.key.cache) for group in found] == [
        ("cuda/runtime", "cold"), ("cuda/gdal", "cold"), ("cuda/gdal", "warm"),
    ]  # fmt: skip
    assert groups(list(reversed(records))) == found
    (cold, warm) = groups(records, labels=["cuda/gdal"], last=2)
    assert [point.seconds for point in cold.points] == [3, 5]
    assert [point.run for point in warm.points] == ["20250102-000002", "20250102-000004"]
    assert groups(records, last=0) == ()


def test_a_machine_without_a_model_is_what_decides_its_speed() -> None:
    assert host_of(record(1, host={"machine": "x86_64", "cores": 2})) == "x86_64, 2 cores"
    assert host_of(record(1, host={})) == "unknown, ? cores"


# --- statistics


def test_modified_z_scores_are_those_of_iglewicz_and_hoaglin() -> None:
    """Median 5, deviations 4 3 1 0 1 3 95, so MAD 3."""
    values = [1.0, 2.0, 4.0, 5.0, 6.0, 8.0, 100.0]
    assert modified_z_scores(values) == pytest.approx([0.6745 * (value - 5) / 3 for value in values])
    assert outliers(values) == [6]


def test_where_most_are_equal_the_mean_deviation_decides() -> None:
    assert outliers([10.0] * 9 + [11.0]) == [9]
    assert outliers([10.0] * 10) == []
    assert modified_z_scores([10.0] * 3) == [0, 0, 0]


def test_few_values_have_no_outliers() -> None:
    assert outliers([1.0, 1.0, 100.0]) == []
    assert outliers([]) == []


def test_outliers_are_named_with_their_run() -> None:
    seconds = [100.0, 101.0, 102.0, 400.0, 99.0]
    (found,) = groups([record(number, row(seconds=each)) for number, each in enumerate(seconds)])
    assert [(point.run, point.seconds) for point in found.outliers] == [("20250102-000003", 400.0)]


@given(st.lists(st.floats(0.01, 1e5), min_size=1, max_size=30))
def test_scores_keep_the_order_and_most_values_are_usual(values: list[float]) -> None:
    scores = modified_z_scores(sorted(values))
    assert scores == sorted(scores)
    assert statistics.median(abs(score) for score in scores) <= 0.6745 * (1 + 1e-9)
    assert len(outliers(values)) <= len(values) // 2


# --- estimates


def test_an_estimate_is_the_median_of_what_is_comparable() -> None:
    records = [record(number, row(seconds=each)) for number, each in enumerate([10.0, 20.0, 60.0])]
    key = history.key_of(records[0], row())
    assert estimate(groups(records), key) == 20.0
    assert estimate([], key) is None


def test_without_word_of_the_caches_what_was_always_built_alike_is_the_base() -> None:
    records = [record(1, row(seconds=10.0)), record(2, row(seconds=20.0)), record(3, row(seconds=0.1, cache="cached"))]
    asked = replace(history.key_of(records[0], row()), cache=None)
    assert estimate(groups(records), asked) == 15.0
    assert estimate(groups(records), replace(asked, cache="cached")) == 0.1
    assert estimate(groups(records[2:]), asked) is None
    warm = record(4, row(seconds=2.0, cache="warm"))
    assert estimate(groups([*records, warm]), asked) is None
    assert estimate(groups([*records, warm]), replace(asked, cache="warm")) == 2.0


def test_a_mode_that_was_not_measured_compares_with_none() -> None:
    key = history.key_of(record(1, host={**ORIN, "power_mode": None}), row())
    assert estimate(groups([record(1, row())]), key) is None


def node(label: str, *needs: str, kind: NodeKind = NodeKind.STAGE) -> Node:
    group, _, name = label.partition("/")
    return Node(group=group, name=name, kind=kind, needs=needs)


def test_what_the_caches_should_hold() -> None:
    nodes = [
        node("inputs/debian", kind=NodeKind.BOOTSTRAP), node("cuda/gdal", "inputs/debian"), node("cuda/python"),
        node("cuda/runtime", "cuda/gdal", "cuda/python", kind=NodeKind.IMAGE),
    ]  # fmt: skip
    labels = frozenset(each.label for each in nodes)
    nothing: frozenset[str] = frozenset()
    expected = expected_caches
    assert expected(nodes, cold=False, again=nothing, unchanged=labels) == dict.fromkeys(labels, "cached")
    assert expected(nodes, cold=False, again=nothing, unchanged=nothing) == dict.fromkeys(labels)
    cold = dict.fromkeys(labels, "cold") | {"inputs/debian": "cached"}  # a base system is not made anew by --cold
    assert expected(nodes, cold=True, again=nothing, unchanged=labels) == cold
    assert expected(nodes, cold=False, again=frozenset({"cuda/gdal"}), unchanged=labels) == {
        "inputs/debian": "cached", "cuda/gdal": "warm", "cuda/python": "cached", "cuda/runtime": None,
    }  # fmt: skip


# --- several runs of one command


def test_the_medians_of_several_runs() -> None:
    gdal = [100.0, 300.0, 120.0]
    records = [
        record(
            number,
            row(seconds=each),
            row("cuda/python", seconds=0.1, cache="cached"),
            row("cuda/runtime", status="failed"),
        )
        for number, each in enumerate(gdal)
    ]
    found = {each.label: each for each in history.medians(list(reversed(records)))}
    assert found["cuda/gdal"].seconds == 120.0
    assert found["cuda/python"].seconds == 0.1
    assert found["cuda/runtime"].status == "failed"
    warm = record(3, row(seconds=7.0, cache="warm"))
    assert history.medians([*records, warm])[0].seconds == 7.0  # what does not compare counts for nothing


def test_what_does_not_stand_for_the_power_mode_is_told() -> None:
    found = groups([record(1, row(marks=("throttled by heat: tj-thermal",))), record(2, row())])
    assert found[0].points[0].marks == ("throttled by heat: tj-thermal",)
    console = Console(file=io.StringIO(), width=80, record=True)
    console.print(history_text.history(found))
    assert "cuda/gdal, 1 min 40 s in run 20250102-000001: throttled by heat: tj-thermal" in " ".join(
        console.export_text().split()
    )
    assert next(csv.DictReader(io.StringIO(as_csv(found))))["marks"] == "throttled by heat: tj-thermal"


# --- forms


def test_a_sparkline_starts_at_zero() -> None:
    assert sparkline([0.0, 50.0, 100.0]) == "▁▅█"
    assert sparkline([99.0, 100.0, 99.5]) == "███"
    assert sparkline([1.0] * 20, width=5) == "█████"
    assert sparkline([]) == ""
    assert sparkline([0.0, 0.0]) == "▁▁"


def test_json_can_be_read_by_others() -> None:
    seconds = [100.0, 101.0, 102.0, 400.0, 99.0]
    found = json.loads(
        json.dumps(as_dict(groups([record(number, row(seconds=each)) for number, each in enumerate(seconds)])))
    )
    assert found["schema_version"] == 1
    (group,) = found["groups"]
    assert group["label"] == "cuda/gdal"
    assert (group["median"], group["count"], group["outliers"]) == (101.0, 5, ["20250102-000003"])
    first = {"run": "20250102-000000", "started": 1_700_000_000.0, "seconds": 100.0, "work": 100.0, "marks": []}
    assert group["points"][0] == first


def test_csv_has_a_line_for_each_measurement() -> None:
    odd = ORIN | {"model": 'Jetson, "super"\nkit'}
    text = as_csv(groups([record(1, row(work=None), host=odd), record(2, row(overlaps=True, inputs=None))]))
    lines = list(csv.DictReader(io.StringIO(text)))
    assert tuple(lines[0]) == history.CSV_COLUMNS
    by_run = {line["run"]: line for line in lines}
    assert by_run["20250102-000001"]["host"] == odd["model"]
    assert by_run["20250102-000001"]["work"] == ""
    assert by_run["20250102-000001"]["started"] == "2023-11-14T22:13:21+00:00"
    assert (by_run["20250102-000002"]["alone"], by_run["20250102-000002"]["inputs"]) == ("0", "")
    assert by_run["20250102-000001"]["stage"] == "cuda/gdal"


# --- the table


def test_the_table_fits_80_columns() -> None:
    seconds = [286.0, 300.0, 290.0, 900.0, 288.0]
    records = [
        record(number, row("inputs/l4t-jetpack", seconds=3.0), row(seconds=each), row(seconds=14.9, cache="warm"))
        for number, each in enumerate(seconds)
    ]
    text = shown(history_text.history(groups([*records, record(9, row(overlaps=True))])))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    cold, warm = (
        next(line for line in text.splitlines() if "cuda/gdal" in line and word in line) for word in ("cold", "warm")
    )
    assert cold.split()[:6] == ["cuda/gdal", "cold", "aaaaaa", "5", "4:50", "4:46-15:00"]
    assert warm.split()[3:8] == ["5", "14.9", "s", "14.9-14.9", "s"]
    assert "mini on NVIDIA Jetson AGX Orin, power mode MAXN, each stage alone" in text
    assert "one solve, stages side by side" in text
    assert "cuda/gdal (cold): 15 min 00 s in run 20250102-000003: outlier (median 4 min 50 s)" in " ".join(text.split())


def test_no_runs() -> None:
    assert "build-all" in shown(history_text.history(()))

"""What a comparison holds: versions, units, the documented JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jetpare.base.versions import VersionRow, version_matches
from tests.comparisons import figures, full


@pytest.mark.parametrize(
    ("measured", "expected", "fits"),
    [
        ("3.10.12", "3.10", True),
        ("3.1.2", "3.10", False),
        ("3.100", "3.10", False),
        ("2.8.0+cu126", "2.8.0", True),
        ("2.8.0+cpu", "2.8.0+cu126", False),
        ("2.8.0", "2.8.0", True),
        ("2.8", "2.8.0", False),
        ("2.8.0rc1", "2.8.0", True),
        ("True", "True", True),
        ("r36.4", "r36.5", False),
    ],
)
def test_versions(measured: str, expected: str, fits: bool) -> None:
    assert version_matches(measured, expected) is fits


def test_a_version_row_says_ok_differs_or_not_measured() -> None:
    def status(expected: str | None, measured: str | None) -> str:
        return VersionRow(component="x", expected=expected, measured=measured).status

    assert [status("1", "1.2"), status("2", "1.2"), status("2", None), status(None, "1")] == [
        "ok", "differs", "not measured", "ok",
    ]  # fmt: skip


def test_the_build_time_is_known_when_every_stage_is() -> None:
    image = figures("jetpack")
    assert image.build_seconds == pytest.approx(305.6 + 15.7 + 12.0)
    assert figures("jetpack", stages=()).build_seconds is None
    unknown = type(image.stages[0])(label="jetpack/gdal")
    assert figures("jetpack", stages=(*image.stages[1:], unknown)).build_seconds is None


def test_the_budget() -> None:
    assert not figures("cuda").over_budget
    assert figures("cuda", budget=1_000_000_000).over_budget
    assert not figures("cuda", budget=1_000_000_000, sizes={}).over_budget  # not measured is not over


def test_json_has_a_schema_and_every_figure() -> None:
    made = json.loads(json.dumps(full().as_dict()))
    assert made["schema"] == "jetpare.compare/2"
    jetpack, cuda, third = made["images"]
    assert cuda["sizes"] == {"layers": 2_495_113_000, "merged": 2_495_113_000, "pull": None, "alone": 2_095_113_000}
    tensorrt = next(row for row in cuda["versions"] if row["component"] == "tensorrt")
    assert tensorrt == {"component": "tensorrt", "expected": None, "measured": None, "status": "not measured"}
    assert third["status"] == "NOT BUILT"
    assert third["groups"] is None
    assert made["differences"][0]["words"] == "smaller"
    assert made["verdict"]["status"] == "recommended"
    assert sum(component["bytes"] for component in jetpack["components"]) == jetpack["sizes"]["merged"]
    assert {"rule", "title", "image", "outcome", "evidence"} == set(made["verdict"]["rules"][0])


def keys(value: Any) -> Iterator[str]:
    """The keys of an object and of all in it, but not of those that are keyed by what is in an image."""
    if isinstance(value, list):
        for each in value:
            yield from keys(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key
            if key not in {"env", "labels", "values"} and not (key in {"versions", "bytes"} and isinstance(each, dict)):
                yield from keys(each)


def test_every_key_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/compare.md").read_text()
    documented = set(re.findall(r"`([a-z_]+)`", text.split("## JSON")[1]))
    assert set(keys(full().as_dict())) - documented - {"schema"} == set()

"""The comparison: arithmetic, names, and what is said about what was not measured."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from jetpare.compare import (
    BUILT,
    NOT_BUILT,
    Comparison,
    ImageFigures,
    VersionRow,
    compare,
    gigabytes,
    split_layers,
    version_matches,
    version_rows,
)
from jetpare.views import terminal

BASE = (("base", 1_000_000_000),)
JETPACK = ImageFigures(
    name="jetpack",
    reference="jetpare/jetpack:test",
    status=BUILT,
    id="sha256:aaaa",
    layers=2,
    sizes={"layers": 8_000_000_000, "merged": 7_500_000_000},
    layer_sizes=(*BASE, ("more", 7_000_000_000)),
    versions=version_rows({"gdal": "3.10.3", "tensorrt": None}, {"gdal": "3.10.3", "tensorrt": "10.3"}),
    checks=({"name": "torch", "status": "ok"}, {"name": "gpu", "status": "not measured"}),
)
CUDA = ImageFigures(
    name="cuda",
    reference="jetpare/cuda:test",
    status=BUILT,
    sizes={"layers": 5_000_000_000, "merged": 5_000_000_000},
    layer_sizes=(*BASE, ("other", 4_000_000_000)),
    budget=4_500_000_000,
)
MISSING = ImageFigures(name="third", reference="jetpare/third:test", status=NOT_BUILT)


def result(*images: ImageFigures) -> Comparison:
    engine = {"version": "26.1", "store": "overlay2"}
    return compare(images, baseline="jetpack", profile="test", description="made up", engine=engine)


def shown(comparison: Comparison, width: int = 80) -> str:
    console = Console(width=width, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(terminal.comparison(comparison))
    return capture.get()


def test_the_baseline_comes_first_and_differences_are_from_it() -> None:
    made = result(CUDA, JETPACK)
    assert [image.name for image in made.images] == ["jetpack", "cuda"]
    layers = next(row for row in made.differences if row.size == "layers")
    assert (layers.saved, layers.percent, layers.words) == (3_000_000_000, 37.5, "smaller")
    merged = next(row for row in made.differences if row.size == "merged")
    assert merged.percent == pytest.approx(33.333, abs=0.001)


def test_larger_and_equal_are_called_so() -> None:
    bigger = ImageFigures(name="cuda", reference="r", status=BUILT, sizes={"layers": 10_000_000_000})
    equal = ImageFigures(name="third", reference="r", status=BUILT, sizes={"layers": 8_000_000_000})
    made = result(JETPACK, bigger, equal)
    assert [row.words for row in made.differences if row.size == "layers"] == ["larger", "equal"]
    text = shown(made)
    assert "cuda is 2.00 GB larger than jetpack (25.0 %)" in text
    assert "third is as large as jetpack" in text


def test_nothing_is_compared_with_what_was_not_measured() -> None:
    made = result(JETPACK, MISSING)
    assert not made.differences
    assert "third: NOT BUILT" in shown(made)
    assert not result(MISSING).differences


def test_a_missing_baseline_leaves_no_difference() -> None:
    absent = ImageFigures(name="jetpack", reference="r", status=NOT_BUILT)
    made = result(absent, CUDA)
    assert not made.differences
    assert "jetpack: NOT BUILT" in shown(made)


def test_layers_alone_and_shared() -> None:
    made = result(JETPACK, CUDA)
    assert {image.name: image.sizes["alone"] for image in made.images} == {
        "jetpack": 7_000_000_000,
        "cuda": 4_000_000_000,
    }
    assert made.shared == 1_000_000_000


def test_a_layer_on_another_chain_is_not_shared() -> None:
    alone, shared = split_layers({"a": (("x", 1), ("y", 2)), "b": (("y", 2),)})
    assert (alone, shared) == ({"a": 3, "b": 2}, 0)
    assert split_layers({"a": None, "b": (("y", 2),)}) == ({"a": None, "b": None}, None)
    assert split_layers({}) == ({}, None)


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


def test_the_budget() -> None:
    assert [image.name for image in result(JETPACK, CUDA).over_budget] == ["cuda"]
    assert "cuda is over its budget: 5.00 GB of 4.50 GB" in shown(result(JETPACK, CUDA))


def test_gigabytes_are_decimal() -> None:
    assert gigabytes(5_450_000_000) == "5.45 GB"
    assert gigabytes(None) == "not measured"


def test_the_view_fits_80_columns_and_shows_the_verdict_first() -> None:
    lines = shown(result(JETPACK, CUDA)).splitlines()
    assert lines[0] == "cuda is 3.00 GB smaller than jetpack (37.5 %)"
    assert max(len(line) for line in lines) <= 80
    text = "\n".join(lines)
    assert "compressed (pull)" in text
    assert "not measured" in text
    assert "1 ok, 1 not measured" in text
    assert "made up" in text


def test_markup_in_a_name_is_shown_as_it_is() -> None:
    odd = ImageFigures(name="cuda", reference="r", status=BUILT, base="[red]x[/red]", notes=("[bold]note",))
    text = shown(result(JETPACK, odd))
    assert "[red]x[/red]" in text
    assert "[bold]note" in text


def test_json_has_a_schema_and_every_figure() -> None:
    made = json.loads(json.dumps(result(JETPACK, CUDA, MISSING).as_dict()))
    assert made["schema"] == "jetpare.compare/1"
    assert made["images"][0]["sizes"] == {
        "layers": 8_000_000_000,
        "merged": 7_500_000_000,
        "pull": None,
        "alone": 7_000_000_000,
    }
    assert made["images"][0]["versions"][1]["status"] == "not measured"
    assert made["images"][2]["status"] == "NOT BUILT"
    assert made["differences"][0]["words"] == "smaller"

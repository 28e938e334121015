"""What differs between images: sums that are exact, and every kind of difference told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetpare.compare.comparison import BUILT, NOT_BUILT, Comparison, ImageFigures, LayerFigures
from jetpare.compare.differences import OTHER, complete, configuration, files_of, packages, split_layers, waterfall
from jetpare.image.attribution import Component
from jetpare.image.inventory import Distribution, File, Inventory, Package, Settings
from tests.comparisons import full, skeleton
from tests.inventories import image

NAMES = st.sampled_from(["PyTorch", "cuDNN", "CUDA", "GDAL", "Python", "base", "nobody", OTHER, *"abcdefgh"])
GROUPS = st.dictionaries(NAMES, st.integers(0, 10**10), min_size=1)
LINE = st.builds(
    File,
    path=st.sampled_from([f"/{name}" for name in "abcdef"]),
    kind=st.sampled_from(["file", "file", "link", "dir"]),
    size=st.integers(0, 3),
    mode=st.sampled_from([0o644, 0o755]),
    target=st.sampled_from([None, "x"]),
    hardlink=st.sampled_from([None, None, "/a"]),
    digest=st.sampled_from([None, "1", "2"]),
)


def sized(name: str, chain: dict[str, int | None], **sizes: int | None) -> ImageFigures:
    rows = tuple(
        LayerFigures(index=index, diff_id=one, size=size) for index, (one, size) in enumerate(chain.items(), 1)
    )
    return ImageFigures(name=name, reference=name, status=BUILT, layers=rows, sizes=sizes)


def completed(*images: ImageFigures) -> Comparison:
    return complete(skeleton(*images), {}, min_saving_percent=10)


# --- sizes


def test_the_baseline_comes_first_and_differences_are_from_it() -> None:
    jetpack = sized("jetpack", {"base": 10, "more": 70}, layers=80, merged=75)
    cuda = sized("cuda", {"base": 10, "other": 40}, layers=50, merged=50)
    made = completed(cuda, jetpack)
    assert [each.name for each in made.images] == ["jetpack", "cuda"]
    found = made.difference("cuda")
    assert found is not None
    assert (found.saved, found.percent, found.words) == (30, 37.5, "smaller")
    merged = made.difference("cuda", "merged")
    assert merged is not None
    assert merged.percent == pytest.approx(33.333, abs=0.001)
    assert {each.name: each.sizes["alone"] for each in made.images} == {"jetpack": 70, "cuda": 40}
    assert made.shared == 10
    assert made.difference("cuda", "pull") is None


def test_larger_and_equal_are_called_so() -> None:
    made = completed(sized("jetpack", {}, layers=80), sized("a", {}, layers=100), sized("b", {}, layers=80))
    assert [(row.image, row.words) for row in made.differences if row.size == "layers"] == [
        ("a", "larger"), ("b", "equal"),
    ]  # fmt: skip


def test_nothing_is_compared_with_what_is_not_built_or_not_known() -> None:
    absent = ImageFigures(name="jetpack", reference="r", status=NOT_BUILT)
    assert not completed(absent, sized("cuda", {"a": 1}, layers=1)).differences
    unknown = completed(sized("jetpack", {"a": None}, layers=5), sized("cuda", {"a": 1}, layers=1))
    assert unknown.shared is None
    assert [each.sizes["alone"] for each in unknown.images] == [None, None]


def test_a_layer_on_another_chain_is_not_shared() -> None:
    alone, shared = split_layers({"a": (("x", 1), ("y", 2)), "b": (("y", 2),)})
    assert (alone, shared) == ({"a": 3, "b": 2}, 0)
    assert split_layers({"a": None, "b": (("y", 2),)}) == ({"a": None, "b": None}, None)
    assert split_layers({}) == ({}, None)


# --- the waterfall


@given(before=GROUPS, after=GROUPS)
def test_a_waterfall_leads_from_one_size_exactly_to_the_other(before: dict[str, int], after: dict[str, int]) -> None:
    made = waterfall("cuda", before, after)
    assert (made.start, made.end) == (sum(before.values()), sum(after.values()))
    total = made.start
    for step in made.steps:
        total += step.bytes
        assert step.total_after == total
    assert total == made.end
    assert all(step.bytes for step in made.steps)
    assert len({step.label for step in made.steps}) == len(made.steps) <= 11


@given(before=GROUPS, after=GROUPS)
def test_what_is_named_is_what_moved(before: dict[str, int], after: dict[str, int]) -> None:
    for step in waterfall("cuda", before, after).steps:
        if step.label != OTHER:
            assert step.bytes == after.get(step.label, 0) - before.get(step.label, 0)


def test_small_steps_are_folded_and_the_largest_saving_comes_first() -> None:
    before = {"CUDA": 1000, "cuDNN": 500, "base": 100, "a": 10, "b": 4}
    after = {"CUDA": 400, "cuDNN": 500, "base": 50, "a": 11, "b": 6, "GDAL": 80}
    made = waterfall("cuda", before, after)
    assert [(step.label, step.bytes, step.total_after) for step in made.steps] == [
        ("CUDA", -600, 1014), ("base", -50, 964), ("GDAL", 80, 1044), (OTHER, 3, 1047),
    ]  # fmt: skip


def test_the_whole_comparison_has_a_waterfall_for_what_was_looked_into_only() -> None:
    made = full()
    assert [fall.image for fall in made.waterfalls] == ["cuda"]
    (fall,) = made.waterfalls
    assert (fall.start, fall.end) == tuple(each.sizes["merged"] for each in made.images[:2])


# --- files


@given(before=st.lists(LINE, unique_by=lambda each: each.path), after=st.lists(LINE, unique_by=lambda each: each.path))
def test_added_removed_and_changed_bytes_lead_from_one_size_to_the_other(before: list[File], after: list[File]) -> None:
    old, new = inventory(before), inventory(after)
    made = files_of("cuda", old, new)
    found = old.bytes - made.removed.bytes + made.added.bytes - made.changed_before.bytes + made.changed.bytes
    assert found == new.bytes
    assert made.changed.count == made.changed_before.count
    assert len(made.largest) == min(20, made.added.count + made.removed.count + made.changed.count)


def inventory(files: list[File]) -> Inventory:
    return replace(image({}), files=tuple(sorted(files, key=lambda each: each.path)))


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        ({"size": 1}, {"size": 1}, False),
        ({"size": 1}, {"size": 2}, True),
        ({"mode": 0o644}, {"mode": 0o755}, True),
        ({"uid": 0}, {"uid": 1}, True),
        ({"kind": "link", "target": "a"}, {"kind": "link", "target": "b"}, True),
        ({"kind": "link", "target": "a", "size": 1}, {"kind": "link", "target": "a", "size": 0}, False),
        ({"kind": "fifo"}, {"kind": "file"}, True),
        ({"size": 1, "digest": "1"}, {"size": 1, "digest": "2"}, True),
        ({"size": 1, "digest": "1"}, {"size": 1}, False),
    ],
)
def test_what_makes_a_file_another_one(old: dict[str, object], new: dict[str, object], differs: bool) -> None:
    before, after = (File(**{"path": "/x", "kind": "file", **each}) for each in (old, new))  # type: ignore[arg-type]
    made = files_of("cuda", inventory([before]), inventory([after]))
    assert bool(made.changed.count) is differs


def test_what_was_not_compared_is_counted_and_folders_are_not() -> None:
    old = image({"/a": 5, "/b": File(path="/b", kind="file", size=3, digest="1"), "/only/old": 7})
    new = image({"/a": 5, "/b": File(path="/b", kind="file", size=3, digest="1"), "/new": 11, "/l": "-> a"})
    made = files_of("cuda", old, new)
    assert (made.alike.count, made.alike.bytes) == (1, 5)
    assert (made.added.count, made.added.bytes) == (2, 11)
    assert (made.removed.count, made.removed.bytes) == (1, 7)
    assert [(row.path, row.change) for row in made.largest] == [
        ("/new", "added"), ("/only/old", "removed"), ("/l", "added"),
    ]  # fmt: skip


# --- packages


def package(name: str, version: str) -> Package:
    return Package(name=name, version=version, architecture="amd64")


def test_packages_by_name_with_what_changed() -> None:
    component = Component(key="debian:same", kind="debian", name="same", version="1", group="base", bytes=7, files=1)
    images = [
        ImageFigures(name="jetpack", reference="r", status=BUILT, components=(component,)),
        ImageFigures(name="cuda", reference="r", status=BUILT),
        ImageFigures(name="third", reference="r", status=BUILT),
    ]
    held = {
        "jetpack": image({}, packages=(package("same", "1"), package("gone", "1"), package("newer", "1"))),
        "cuda": image({}, packages=(package("same", "1"), package("newer", "2"), package("extra", "1"))),
    }
    found = {row.name: row for row in packages(images, held)}
    assert {name: row.change for name, row in found.items()} == {
        "same": "same", "gone": "removed", "newer": "changed", "extra": "added",
    }  # fmt: skip
    assert found["newer"].versions == {"jetpack": "1", "cuda": "2"}  # nothing is said of an image not looked into
    assert found["gone"].versions["cuda"] is None
    assert found["same"].bytes == {"jetpack": 7, "cuda": None}  # not known, as it was not attributed
    assert [row.change for row in packages(images, held)][-1] == "same"


def test_a_distribution_that_is_there_twice_has_both_versions() -> None:
    def made(version: str, where: str) -> Distribution:
        return Distribution(name="numpy", version=version, location=where, info=f"{where}/numpy.dist-info")

    images = [ImageFigures(name=name, reference="r", status=BUILT) for name in ("jetpack", "cuda")]
    twice = image({}, distributions=(made("1.26.4", "/opt/venv"), made("1.24.2", "/usr/lib/python3")))
    once = image({}, distributions=(made("1.26.4", "/opt/venv"),))
    (row,) = packages(images, {"jetpack": twice, "cuda": once})
    assert (row.change, row.versions) == ("changed", {"jetpack": "1.24.2, 1.26.4", "cuda": "1.26.4"})


# --- configuration


def test_configuration_that_differs_is_told_with_a_reason_and_the_rest_is_not() -> None:
    rows = configuration(
        {
            "jetpack": Settings(
                env={"PATH": "/a", "NVIDIA_X": "1", "SAME": "1"}, user="app", workdir="/", labels={"a": "1"}
            ),
            "cuda": Settings(env={"PATH": "/b", "SAME": "1", "ZETA": ""}, cmd=("run it", "now"), ports=("80/tcp",)),
        }
    )
    assert [row.key for row in rows] == ["env NVIDIA_X", "env PATH", "env ZETA", "cmd", "user", "ports"]
    assert rows[0].values == {"jetpack": "1", "cuda": None}
    assert rows[3].values == {"jetpack": None, "cuda": "'run it' now"}
    assert "NVIDIA runtime" in rows[0].why
    assert all(row.why for row in rows)

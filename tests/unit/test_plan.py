"""The plan: nodes, their order, and what each needs."""

from __future__ import annotations

import pytest

from jetpare.base.errors import ConfigError
from jetpare.config.load import load_config
from jetpare.project.plan import NodeKind, Plan, Platforms, find_stage, make_plan
from tests.conftest import ROOT

CONFIG = load_config(ROOT / "build.toml")


OWN = Platforms(target="linux/amd64", host="linux/amd64")
CROSS = Platforms(target="linux/arm64", host="linux/amd64", cross=True)


def plan(
    *, profile: str = "rehearsal", images: tuple[str, ...] = (), only: str | None = None, platforms: Platforms = OWN
) -> Plan:
    chosen = CONFIG.pick_profile(profile, architecture="amd64")
    return make_plan(profile=chosen, platforms=platforms, images=CONFIG.pick_images(images), only=only)


def labels(made: Plan) -> list[str]:
    return [node.label for node in made.nodes]


def test_everything_in_order() -> None:
    assert labels(plan()) == [
        "inputs/debian", "inputs/l4t-cuda", "inputs/l4t-jetpack", "inputs/gdal-source",
        "jetpack/gdal", "jetpack/python", "jetpack/runtime",
        "cuda/cudnn", "cuda/gdal", "cuda/python", "cuda/runtime",
    ]  # fmt: skip


def test_each_node_stands_after_what_it_needs() -> None:
    order = labels(plan())
    for node in plan().nodes:
        assert all(order.index(need) < order.index(node.label) for need in node.needs)


def test_one_stage_brings_only_what_it_needs() -> None:
    assert labels(plan(only="cuda/cudnn")) == ["inputs/debian", "inputs/l4t-jetpack", "cuda/cudnn"]
    assert labels(plan(only="cuda/python")) == ["inputs/debian", "inputs/l4t-cuda", "cuda/python"]


def test_one_image_leaves_the_other_out() -> None:
    order = labels(plan(images=("jetpack",)))
    assert not [label for label in order if label.startswith("cuda/") or label == "inputs/l4t-cuda"]


def test_what_a_registry_has_is_no_node() -> None:
    made = plan(profile="jetson-6.2")
    assert [(node.label, node.kind) for node in made.nodes if node.group == "inputs"] == [
        ("inputs/gdal-source", NodeKind.DOWNLOAD)
    ]
    assert made.node("cuda/python").needs == ()


def test_contexts_of_a_stage_are_those_of_all_it_needs() -> None:
    made = plan()
    assert made.contexts_of(made.node("cuda/cudnn")) == ("l4t-jetpack",)
    assert set(made.contexts_of(made.node("cuda/runtime"))) == {"l4t-cuda", "l4t-jetpack", "gdal-source"}
    assert made.contexts_of(made.node("inputs/l4t-cuda")) == ("debian",)


def test_finding_a_stage() -> None:
    assert find_stage(CONFIG, "gdal", None) == "cuda/gdal"
    assert find_stage(CONFIG, "gdal", "jetpack") == "jetpack/gdal"
    with pytest.raises(ConfigError, match=r"no stage 'gdla' \(did you mean 'gdal'\?\)"):
        find_stage(CONFIG, "gdla", None)
    with pytest.raises(ConfigError, match="image 'jetpack' has no stage 'cudnn'"):
        find_stage(CONFIG, "cudnn", "jetpack")
    with pytest.raises(ConfigError, match="no image 'cudda'"):
        find_stage(CONFIG, "gdal", "cudda")


def test_another_architecture_is_built_on_a_system_of_the_engine_s_own() -> None:
    made = plan(platforms=CROSS)
    assert labels(made)[:3] == ["inputs/debian", "inputs/builder", "inputs/l4t-cuda"]
    assert all("inputs/builder" in node.needs for node in made.nodes if node.baked)
    assert (made.builder_platform, made.emulated) == ("linux/amd64", True)
    assert "inputs/builder" not in labels(plan())
    assert not plan().emulated


def test_a_builder_that_a_registry_has_is_no_node() -> None:
    made = plan(profile="jetson-6.2", platforms=CROSS)
    assert [node.label for node in made.nodes if node.group == "inputs"] == ["inputs/gdal-source"]
    assert made.node("cuda/python").needs == ()

"""The plan: nodes, their order, and what each needs."""

from __future__ import annotations

import pytest

from jetpare.base.errors import ConfigError
from jetpare.config.load import load_config
from jetpare.config.schema import Context, Profile
from jetpare.project.plan import Node, NodeKind, Plan, Platforms, find_stage, make_plan, with_cudnn
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


def test_a_node_knows_how_it_is_made() -> None:
    made = plan()
    assert [(node.label, node.kind.value) for node in made.nodes if node.group != "jetpack"] == [
        ("inputs/debian", "bootstrap"), ("inputs/l4t-cuda", "input"), ("inputs/l4t-jetpack", "input"),
        ("inputs/gdal-source", "input"), ("cuda/cudnn", "stage"), ("cuda/gdal", "stage"), ("cuda/python", "stage"),
        ("cuda/runtime", "image"),
    ]  # fmt: skip
    assert [node.label for node in made.nodes if not node.baked] == ["inputs/debian"]
    assert not plan(profile="jetson-6.2").node("inputs/gdal-source").baked  # it is a download there


def test_a_bake_target_has_no_slash_and_no_dot() -> None:
    assert plan().node("cuda/gdal").target == "cuda-gdal"
    assert Node(group="v1.2", name="gdal", kind=NodeKind.STAGE).target == "v1_2-gdal"


def test_a_plan_names_its_profile_and_its_platforms() -> None:
    made = plan(platforms=CROSS)
    assert (made.profile_name, made.platform, made.host) == ("rehearsal", "linux/arm64", "linux/amd64")
    assert made.profile == CONFIG.profiles["rehearsal"]


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
    assert find_stage(CONFIG, "cudnn", None) == "cuda/cudnn"
    assert find_stage(CONFIG, "slim", None) == "slim/slim"  # no image has it but an optional one
    with pytest.raises(ConfigError) as unknown:
        find_stage(CONFIG, "gdla", None)
    assert unknown.value.message == (
        "there is no stage 'gdla' (did you mean 'gdal'?). The stages are: gdal, python, runtime, cudnn, slim."
    )
    with pytest.raises(ConfigError) as elsewhere:
        find_stage(CONFIG, "cudnn", "jetpack")
    assert elsewhere.value.message == "image 'jetpack' has no stage 'cudnn'. Images that have it: cuda, slim."
    with pytest.raises(ConfigError, match="no image 'cudda'"):
        find_stage(CONFIG, "gdal", "cudda")


def test_another_architecture_is_built_on_a_system_of_the_engine_s_own() -> None:
    made = plan(platforms=CROSS)
    assert labels(made)[:3] == ["inputs/debian", "inputs/builder", "inputs/l4t-cuda"]
    assert all("inputs/builder" in node.needs for node in made.nodes if node.baked)
    assert (made.builder_platform, made.emulated) == ("linux/amd64", True)
    assert made.how == "cross-built on linux/amd64, emulated where it must run"
    assert "inputs/builder" not in labels(plan())
    assert (plan().builder_platform, plan().emulated) == ("linux/amd64", False)


def test_without_a_cross_builder_another_architecture_is_emulated() -> None:
    made = plan(platforms=Platforms(target="linux/arm64", host="linux/amd64"))
    assert (made.builder_platform, made.emulated) == ("linux/arm64", True)
    assert made.how == "emulated on linux/amd64"
    assert "inputs/builder" not in labels(made)


def test_inputs_that_are_built_need_the_cross_builder_only_where_it_is_a_node() -> None:
    pulled = Profile.model_validate(
        CONFIG.profiles["rehearsal"].model_dump()
        | {"contexts": CONFIG.profiles["rehearsal"].contexts | {"builder": Context(image="debian:bookworm")}}
    )
    images = CONFIG.pick_images(("cuda",))
    made = make_plan(profile=("rehearsal", pulled), platforms=CROSS, images=images)
    assert made.node("inputs/l4t-cuda").needs == ("inputs/debian",)
    assert "inputs/builder" not in labels(made)


@pytest.mark.parametrize(
    ("cuda", "indexes", "platform", "wanted"),
    [
        (True, (), "linux/amd64", True),
        (True, (), "linux/arm64", False),  # the default index has no CUDA builds for it
        (True, ("https://example.org/jp6",), "linux/arm64", True),
        (False, ("https://example.org/jp6",), "linux/amd64", False),
    ],
)
def test_a_torch_with_cuda_is_wanted_where_an_index_has_one(
    *, cuda: bool, indexes: tuple[str, ...], platform: str, wanted: bool
) -> None:
    profile = CONFIG.profiles["rehearsal"].model_copy(update={"cuda": cuda, "indexes": indexes})
    platforms = Platforms(target=platform, host="linux/amd64")
    made = make_plan(profile=("rehearsal", profile), platforms=platforms, images=CONFIG.pick_images(()))
    assert made.wants_cuda is wanted


def test_cudnn_from_elsewhere_is_installed_on_the_image_s_base() -> None:
    images = CONFIG.pick_images(())
    assert with_cudnn(images, "jetpack") == images
    changed = with_cudnn(images, "wheel")
    assert changed["cuda"].stages == {**images["cuda"].stages, "cudnn": ("l4t-cuda",)}
    assert changed["jetpack"] == images["jetpack"]  # it has no such stage
    assert images["cuda"].stages["cudnn"] == ("l4t-jetpack",)


def test_a_builder_that_a_registry_has_is_no_node() -> None:
    made = plan(profile="jetson-6.2", platforms=CROSS)
    assert [node.label for node in made.nodes if node.group == "inputs"] == ["inputs/gdal-source"]
    assert made.node("cuda/python").needs == ()

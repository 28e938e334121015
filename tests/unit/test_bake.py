"""The bake definition: data from data."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jetpare import bake, config, files
from jetpare.plan import Plan, Platforms, make_plan
from tests.conftest import ROOT

CONFIG = config.load(ROOT / "build.toml")
STATE = Path(".jetpare")


def plan(profile: str = "rehearsal", platform: str = "linux/amd64", *, cross: bool = False) -> Plan:
    chosen = CONFIG.pick_profile(profile, architecture="amd64")
    platforms = Platforms(target=platform, host="linux/amd64" if cross else platform, cross=cross)
    return make_plan(profile=chosen, platforms=platforms, images=CONFIG.pick_images(()))


def targets(profile: str = "rehearsal", platform: str = "linux/amd64", **options: Any) -> dict[str, Any]:
    made = bake.definition(CONFIG, plan(profile, platform), bake.Options(state=STATE, **options))
    found = json.loads(json.dumps(made))["target"]  # it must survive being written
    assert isinstance(found, dict)
    return found


def test_profiles_differ_in_what_the_names_stand_for() -> None:
    real, rehearsed = targets("jetson-6.2", "linux/arm64"), targets()
    assert real["cuda-python"]["contexts"]["l4t-cuda"] == "docker-image://nvcr.io/nvidia/l4t-cuda:12.6.11-runtime"
    assert rehearsed["cuda-python"]["contexts"]["l4t-cuda"] == "target:inputs-l4t-cuda"
    assert real["cuda-python"]["dockerfile"] == rehearsed["cuda-python"]["dockerfile"]
    sha = CONFIG.profiles["jetson-6.2"].contexts["gdal-source"].sha256
    assert real["cuda-gdal"]["contexts"]["gdal-source"] == f".jetpare/downloads/{sha}"
    assert not [name for name in real if name.startswith("inputs-")]


def test_a_stage_is_built_by_exporting_its_record() -> None:
    made = targets()
    assert made["cuda-gdal"]["target"] == "gdal-report"
    assert made["cuda-gdal"]["output"] == ["type=local,dest=.jetpare/reports/cuda-gdal"]


def test_the_image_is_exported_without_a_name() -> None:
    made = targets(labels={"cuda": {"a": "b"}})
    assert made["cuda-runtime"]["output"] == ["type=docker"]
    assert "tags" not in made["cuda-runtime"]
    assert made["cuda-runtime"]["labels"] == {"a": "b"}
    assert made["cuda-runtime-report"]["target"] == "runtime-report"


def test_the_same_stage_gets_the_same_arguments_everywhere() -> None:
    made = targets()
    image, stage = made["cuda-runtime"]["args"], made["cuda-gdal"]["args"]
    assert {key: image[key] for key in stage} == stage
    assert image["COLLECT"] == made["cuda-cudnn"]["args"]["COLLECT"]


def test_patterns_follow_the_platform_and_say_what_is_optional() -> None:
    lines = targets("jetson-6.2", "linux/arm64")["cuda-cudnn"]["args"]["COLLECT"].splitlines()
    assert "usr/lib/aarch64-linux-gnu/libcudnn*.so*" in lines
    assert "usr/local/cuda/targets/aarch64-linux/lib/libnvToolsExt*.so* ?" in lines
    assert not [line for line in lines if "{" in line]


def test_cuda_is_required_where_such_wheels_exist() -> None:
    assert targets()["cuda-python"]["args"]["PYTHON_CUDA"] == "1"
    assert targets("rehearsal", "linux/arm64")["cuda-python"]["args"]["PYTHON_CUDA"] == "0"
    assert targets("jetson-6.2", "linux/arm64")["cuda-python"]["args"]["PYTHON_CUDA"] == "1"


def test_fresh_stages_and_cold_caches() -> None:
    assert "no-cache-filter" not in targets()["cuda-gdal"]
    made = targets(fresh=frozenset({"cuda/gdal", "inputs/l4t-cuda"}), cache_id="run1")
    assert made["cuda-gdal"]["no-cache-filter"] == ["gdal"]
    # Every target that holds the stage must agree, or one solve would build it twice.
    assert made["cuda-runtime"]["no-cache-filter"] == ["gdal"]
    assert made["inputs-l4t-cuda"]["no-cache-filter"] == ["l4t-cuda"]
    assert "no-cache-filter" not in made["jetpack-gdal"]
    assert made["cuda-gdal"]["args"]["CACHE_ID"] == "jetpare-amd64-run1"


def test_a_stage_that_is_to_be_built_again_keeps_its_caches() -> None:
    made = targets(rebuild={"cuda/gdal": "run1"})
    assert made["cuda-gdal"]["args"]["REBUILD_GDAL"] == made["cuda-runtime"]["args"]["REBUILD_GDAL"] == "run1"
    assert "REBUILD_GDAL" not in made["jetpack-gdal"]["args"]
    assert "REBUILD_PYTHON" not in made["cuda-runtime"]["args"]
    assert "no-cache-filter" not in made["cuda-gdal"]
    for image in ("jetpack", "cuda"):
        text = (ROOT / CONFIG.images[image].dockerfile).read_text()
        for stage in CONFIG.images[image].stages:
            assert f"AS {stage}\nARG {bake.rebuild_argument(stage)}\n" in text


def test_what_is_a_template_to_bake_reaches_it_as_text(tmp_path: Path) -> None:
    (tmp_path / STATE).mkdir()
    file = bake.write_definition(tmp_path, STATE, {"target": {"x": {"args": {"A": "${HOME} %{if} $5"}}}})
    assert '"A": "$${HOME} %%{if} $5"' in (tmp_path / file).read_text()


def test_what_only_builds_for_another_architecture_runs_on_the_builder() -> None:
    crossed = plan("rehearsal", "linux/arm64", cross=True)
    made = bake.definition(CONFIG, crossed, bake.Options(state=STATE))["target"]
    builder = "docker-image://jetpare/debian:bookworm-amd64"
    assert {target["contexts"]["builder"] for target in made.values()} == {builder}
    assert made["inputs-l4t-cuda"]["contexts"]["debian"] == "docker-image://jetpare/debian:bookworm-arm64"
    for name in ("inputs-l4t-cuda", "jetpack-gdal", "cuda-cudnn", "cuda-runtime"):
        assert made[name]["platforms"] == ["linux/arm64"]
        assert made[name]["args"].items() >= {"BUILDER_PLATFORM": "linux/amd64", "CROSS": "arm64"}.items()
    assert made["cuda-cudnn"]["args"]["CUDNN_ON"] == "builder"
    real = bake.definition(CONFIG, plan("jetson-6.2", "linux/arm64", cross=True), bake.Options(state=STATE))["target"]
    assert real["cuda-gdal"]["contexts"]["builder"] == "docker-image://ubuntu:22.04"


def test_for_the_engine_s_own_architecture_the_builder_is_the_base() -> None:
    made = targets()
    assert not [target for target in made.values() if "builder" in target["contexts"]]
    assert not [
        target for target in made.values() if {"BUILDER", "BUILDER_PLATFORM", "CROSS", "CUDNN_ON"} & {*target["args"]}
    ]
    for file, base in (("cuda", "l4t-cuda"), ("jetpack", "l4t-jetpack"), ("rehearsal", "debian")):
        assert f"\nARG BUILDER={base}\n" in (ROOT / f"dockerfiles/{file}.Dockerfile").read_text()


@pytest.mark.parametrize(
    ("file", "target", "only"),
    [
        ("cuda", "cudnn-report", True),
        ("cuda", "gdal-report", True),
        ("cuda", "python-report", True),
        ("cuda", "runtime", False),
        ("cuda", "slim", False),
        ("jetpack", "gdal-report", True),
        ("rehearsal", "gdal-source", True),
        ("rehearsal", "l4t-cuda", False),
    ],
)
def test_which_stages_run_nothing_of_what_they_build(file: str, target: str, only: bool) -> None:
    assert bake.only_builds((ROOT / f"dockerfiles/{file}.Dockerfile").read_text(), target) is only


def test_secrets_are_files_and_their_content_is_nowhere() -> None:
    for target in targets().values():
        assert target["secret"] == ["id=ca,src=.jetpare/secrets/ca", "id=net,src=.jetpare/secrets/net"]


def test_stand_ins_that_are_bases_are_kept_as_images() -> None:
    made = targets()
    assert made["inputs-l4t-cuda"]["output"] == ["type=docker,name=jetpare/l4t-cuda:rehearsal"]
    assert made["inputs-gdal-source"]["output"] == ["type=cacheonly"]
    assert made["inputs-l4t-cuda"]["contexts"] == {"debian": "docker-image://jetpare/debian:bookworm-amd64"}


def test_folders_of_wheels_become_one_context() -> None:
    python = CONFIG.python.model_copy(update={"wheels": (Path("/a"), Path("b"))})
    changed = CONFIG.model_copy(update={"python": python})
    made = bake.definition(changed, plan(), bake.Options(state=STATE))["target"]
    assert made["cuda-python"]["contexts"]["wheels"] == "target:inputs-wheels"
    assert made["inputs-wheels"]["contexts"] == {"wheels0": "/a", "wheels1": "b"}
    assert "COPY --from=wheels1 . /wheels1/" in made["inputs-wheels"]["dockerfile-inline"]
    assert targets()["cuda-python"]["contexts"]["wheels"] == ".jetpare/empty"


def test_the_inputs_digest_follows_what_matters(tmp_path: Path) -> None:
    (tmp_path / "dockerfiles").mkdir()
    (tmp_path / "scripts").mkdir()
    dockerfile = tmp_path / "dockerfiles/cuda.Dockerfile"
    dockerfile.write_text("FROM scratch\n")
    node = plan().node("cuda/gdal")

    def digest(**options: Any) -> str:
        content = bake.definition(CONFIG, plan(), bake.Options(state=STATE, **options))
        return bake.inputs_digest(tmp_path, content, node)

    first = digest()
    assert digest(cache_id="other", labels={"cuda": {bake.LABEL_REVISION: "2"}}) == first
    assert digest(rebuild={"cuda/gdal": "run1"}) == first  # the same work, done again
    dockerfile.write_text("FROM other\n")
    second = digest()
    assert second != first
    (tmp_path / "scripts/compile-gdal.sh").write_text("true\n")
    assert digest() == second  # no stage names it
    dockerfile.write_text(
        "FROM scratch AS gdal\nRUN scripts/compile-gdal.sh\nFROM gdal AS gdal-report\nFROM x AS other\n"
    )
    third = digest()
    assert third not in {first, second}
    dockerfile.write_text(dockerfile.read_text() + "RUN else\n")
    assert digest() == third  # of another stage
    (tmp_path / "scripts/compile-gdal.sh").write_text(". ./net.sh\n")
    fourth = digest()
    assert fourth != third
    (tmp_path / "scripts/net.sh").write_text("true\n")
    assert digest() != fourth  # named by a script


def with_wheels(folder: str) -> config.Config:
    return CONFIG.model_copy(update={"python": CONFIG.python.model_copy(update={"wheels": (Path(folder),)})})


def checkout(root: Path, *, wheels: str) -> tuple[Path, config.Config]:
    """A project's folder with a folder of wheels, as another machine or another day would make it."""
    folder = root / wheels
    folder.mkdir(parents=True)
    (folder / "torch-1-py3-none-any.whl").write_bytes(b"wheel")
    (folder / "newest.whl").symlink_to("torch-1-py3-none-any.whl")
    return folder, with_wheels(wheels)


def digest_of(root: Path, settings: config.Config, label: str = "cuda/python", profile: str = "rehearsal") -> str:
    chosen = plan(profile, "linux/arm64" if profile == "jetson-6.2" else "linux/amd64")
    content = bake.definition(settings, chosen, bake.Options(state=STATE))
    return bake.inputs_digest(root, content, chosen.node(label))


def test_another_checkout_with_the_same_content_has_the_same_digest(tmp_path: Path) -> None:
    first, settings = checkout(tmp_path / "a", wheels="wheels")
    again, _ = checkout(tmp_path / "b", wheels="wheels")
    os.utime(again / "torch-1-py3-none-any.whl", (1, 1))
    apart, elsewhere = checkout(tmp_path / "c", wheels=str(tmp_path / "wheels elsewhere"))
    wanted = digest_of(tmp_path / "a", settings)
    assert digest_of(tmp_path / "b", settings) == wanted
    assert digest_of(tmp_path / "c", elsewhere) == wanted
    assert first != again != apart


def replace(file: Path) -> None:
    known = file.stat()
    file.write_bytes(b"other")
    os.utime(file, ns=(known.st_atime_ns, known.st_mtime_ns + 1_000_000))


@pytest.mark.parametrize(
    "change",
    [
        replace,
        lambda file: file.rename(file.with_name("torch-2-py3-none-any.whl")),
        lambda file: file.chmod(0o755),
        lambda file: file.unlink(),
        lambda file: (file.parent / "more").write_bytes(b""),
        lambda file: ((file.parent / "newest.whl").unlink(), (file.parent / "newest.whl").symlink_to("more")),
    ],
)
def test_a_folder_of_other_content_has_another_digest(tmp_path: Path, change: Callable[[Path], object]) -> None:
    folder, settings = checkout(tmp_path, wheels="wheels")
    before = digest_of(tmp_path, settings)
    change(folder / "torch-1-py3-none-any.whl")
    assert digest_of(tmp_path, settings) != before


def test_a_download_is_the_same_input_before_it_is_there_and_when_it_is_fetched_again(tmp_path: Path) -> None:
    absent = digest_of(tmp_path, CONFIG, "cuda/gdal", "jetson-6.2")
    folder = tmp_path / bake.download_folder(STATE, str(CONFIG.profiles["jetson-6.2"].contexts["gdal-source"].sha256))
    folder.mkdir(parents=True)
    (folder / "gdal.tar.gz").write_bytes(b"what the checksum says")
    assert digest_of(tmp_path, CONFIG, "cuda/gdal", "jetson-6.2") == absent


def test_a_folder_that_is_only_called_downloads_is_read(tmp_path: Path) -> None:
    folder, settings = checkout(tmp_path, wheels="downloads/wheels")
    before = digest_of(tmp_path, settings)
    (folder / "torch-1-py3-none-any.whl").write_bytes(b"another wheel")
    assert digest_of(tmp_path, settings) != before


def test_a_wheel_is_read_once_in_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, settings = checkout(tmp_path, wheels="wheels")
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return files.digest(path)

    monkeypatch.setattr(bake, "digest", counted)
    for label in ("cuda/python", "cuda/runtime", "jetpack/python"):
        digest_of(tmp_path, settings, label)
    assert [path.name for path in read] == ["torch-1-py3-none-any.whl"]


def test_a_stage_is_made_of_what_it_stands_on_and_copies_from() -> None:
    text = (ROOT / "dockerfiles/cuda.Dockerfile").read_text()
    gdal, runtime = bake.stages_text(text, "gdal-report"), bake.stages_text(text, "runtime")
    assert "compile-gdal.sh" in gdal
    assert "install-pytorch.sh" not in gdal
    assert all(script in runtime for script in ("compile-gdal.sh", "install-pytorch.sh", "cudnn.sh", "probe.py"))
    assert "prune.py" not in runtime
    assert "prune.py" in bake.stages_text(text, "slim-report")
    assert bake.stages_text(text, "no such stage") == text


def test_the_command_is_what_a_person_can_paste() -> None:
    argv = bake.command("docker", bake.definition_file(STATE), ("cuda-gdal",))
    assert argv == ["docker", "buildx", "bake", "--file", ".jetpare/bake.json", "--provenance=false", "cuda-gdal"]


@pytest.mark.parametrize("image", ["jetpack", "cuda"])
def test_every_argument_is_declared_in_the_dockerfile(image: str) -> None:
    text = (ROOT / CONFIG.images[image].dockerfile).read_text()
    for name in targets()[f"{image}-runtime"]["args"]:
        assert f"ARG {name}" in text


def test_the_newest_run_is_not_the_one_of_the_latest_clock() -> None:
    tokens = {
        "cuda/gdal": "0009-20250103-000000",
        "cuda/cudnn": "10000-19700101-000000",
        "cuda/python": "20250104-000000",
    }
    content = bake.definition(CONFIG, plan(), bake.Options(state=STATE, rebuild=tokens))
    assert bake.newest_rebuild(content, plan().node("cuda/runtime")) == "10000-19700101-000000"


def test_the_newest_run_that_was_to_build_something_again() -> None:
    tokens = {"cuda/gdal": "20250101-000000", "cuda/cudnn": "20250102-000000", "jetpack/gdal": "20250103-000000"}
    content = bake.definition(CONFIG, plan(), bake.Options(state=STATE, rebuild=tokens))
    found = {
        label: bake.newest_rebuild(content, plan().node(label))
        for label in ("cuda/gdal", "cuda/runtime", "cuda/python")
    }
    assert found == {"cuda/gdal": "20250101-000000", "cuda/runtime": "20250102-000000", "cuda/python": ""}

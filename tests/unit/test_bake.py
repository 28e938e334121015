"""The bake definition: data from data."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jetpare.base import files, process
from jetpare.build import bake, buildx, inputs
from jetpare.config import schema
from jetpare.config.load import load_config
from jetpare.project import naming
from jetpare.project.plan import Plan, Platforms, make_plan
from tests.conftest import ROOT

CONFIG = load_config(ROOT / "build.toml")
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
    assert real["cuda-python"]["contexts"]["base"] == "docker-image://nvcr.io/nvidia/l4t-cuda:12.6.11-runtime"
    assert rehearsed["cuda-python"]["contexts"]["base"] == "target:inputs-l4t-cuda"
    assert real["cuda-python"]["dockerfile"] == rehearsed["cuda-python"]["dockerfile"]
    sha = CONFIG.profiles["jetson-6.2"].contexts["gdal-source"].sha256
    assert real["cuda-gdal"]["contexts"]["gdal-source"] == f".jetpare/downloads/{sha}"
    assert not [name for name in real if name.startswith("inputs-")]


def test_images_differ_in_their_base_and_in_the_tree_of_cudnn_alone() -> None:
    made = targets()
    jetpack, cuda = made["jetpack-runtime"], made["cuda-runtime"]
    assert jetpack["dockerfile"] == cuda["dockerfile"]
    assert (jetpack["contexts"]["base"], cuda["contexts"]["base"]) == (
        "target:inputs-l4t-jetpack",
        "target:inputs-l4t-cuda",
    )
    assert cuda["contexts"]["l4t-jetpack"] == "target:inputs-l4t-jetpack"  # where stage cudnn takes it from
    assert {key: value for key, value in cuda["args"].items() if not key.startswith(("CUDNN_", "COLLECT"))} == jetpack[
        "args"
    ]
    assert cuda["args"]["CUDNN_TREE"] == "cudnn"
    text = (ROOT / "dockerfiles/images.Dockerfile").read_text()
    assert "\nARG CUDNN_TREE=none\n" in text
    assert "AS base-with-none\n" in text
    assert f"AS base-with-{cuda['args']['CUDNN_TREE']}\n" in text


def test_a_target_is_linked_by_one_name() -> None:
    """Buildx 0.13 refuses a second one."""
    for profile, platform in (("rehearsal", "linux/amd64"), ("jetson-6.2", "linux/arm64")):
        for target in targets(profile, platform).values():
            linked = [source for source in target["contexts"].values() if source.startswith("target:")]
            assert len(linked) == len(set(linked))


def slim(**options: Any) -> tuple[Plan, dict[str, Any]]:
    chosen = CONFIG.pick_profile("rehearsal", architecture="amd64")
    platforms = Platforms(target="linux/amd64", host="linux/amd64")
    made = make_plan(profile=chosen, platforms=platforms, images=CONFIG.pick_images(("slim",)))
    return made, bake.definition(CONFIG, made, bake.Options(state=STATE, **options))["target"]


def test_slim_starts_from_the_settings_of_its_base() -> None:
    settings = {"Env": ["A=b"], "Cmd": ["bash"]}
    _, made = slim(base_settings={"slim": settings})
    for target in ("slim-slim", "slim-slim-report"):
        assert made[target]["contexts"]["base-settings"] == "target:slim-slim-base-settings"
    assert "base-settings" not in made["slim-runtime"]["contexts"]
    assert made["slim-slim-base-settings"]["platforms"] == ["linux/amd64"]
    assert "b" in made["slim-slim-base-settings"]["args"].values()


def test_the_inputs_of_slim_do_not_depend_on_whether_its_settings_were_read() -> None:
    plan_, without = slim()
    _, made = slim(base_settings={"slim": {"Env": ["A=b"]}})
    node = plan_.node("slim/slim")
    digests = {inputs.inputs_digest(ROOT, {"target": each}, node) for each in (without, made)}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ({"image": "example.org/x:1"}, "example.org/x:1"),
        ({"image": "example.org/x:1", "digest": "sha256:" + "0" * 64}, "example.org/x:1@sha256:" + "0" * 64),
        ({"dockerfile": Path("d"), "target": "x"}, "jetpare/l4t-cuda:rehearsal"),
    ],
)
def test_the_image_that_a_context_is(name: dict[str, Any], reference: str) -> None:
    made = plan()
    context = schema.Context.model_validate(name)
    profile = made.profile.model_copy(update={"contexts": {**made.profile.contexts, "l4t-cuda": context}})
    changed = replace(made, profile=profile)
    assert bake.context_reference(CONFIG, changed, "l4t-cuda") == reference


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
    file = buildx.write_definition(tmp_path, STATE, {"target": {"x": {"args": {"A": "${HOME} %{if} $5"}}}})
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
    for file, base in (("images", "base"), ("rehearsal", "debian")):
        assert f"\nARG BUILDER={base}\n" in (ROOT / f"dockerfiles/{file}.Dockerfile").read_text()


@pytest.mark.parametrize(
    ("file", "target", "only"),
    [
        ("images", "cudnn-report", True),
        ("images", "gdal-report", True),
        ("images", "python-report", True),
        ("images", "runtime", False),
        ("images", "slim", False),
        ("rehearsal", "gdal-source", True),
        ("rehearsal", "l4t-cuda", False),
    ],
)
def test_which_stages_run_nothing_of_what_they_build(file: str, target: str, only: bool) -> None:
    assert inputs.only_builds((ROOT / f"dockerfiles/{file}.Dockerfile").read_text(), target) is only


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
    (tmp_path / "scripts/image").mkdir(parents=True)
    dockerfile = tmp_path / CONFIG.images["cuda"].dockerfile
    dockerfile.write_text("FROM scratch\n")
    node = plan().node("cuda/gdal")

    def digest(**options: Any) -> str:
        content = bake.definition(CONFIG, plan(), bake.Options(state=STATE, **options))
        return inputs.inputs_digest(tmp_path, content, node)

    first = digest()
    assert digest(cache_id="other", labels={"cuda": {naming.LABEL_REVISION: "2"}}) == first
    assert digest(rebuild={"cuda/gdal": "run1"}) == first  # the same work, done again
    dockerfile.write_text("FROM other\n")
    second = digest()
    assert second != first
    script = tmp_path / "scripts/image/compile-gdal.sh"
    script.write_text("true\n")
    assert digest() == second  # no stage takes it
    mount = "--mount=type=bind,source=scripts/image/compile-gdal.sh,target=/run/jetpare/compile-gdal.sh"
    dockerfile.write_text(
        f"FROM scratch AS gdal\nRUN {mount} \\\n    true\nFROM gdal AS gdal-report\nFROM x AS other\n"
    )
    third = digest()
    assert third not in {first, second}
    dockerfile.write_text(dockerfile.read_text() + "RUN else\n")
    assert digest() == third  # of another stage
    script.write_text("false\n")
    assert digest() != third


@pytest.mark.parametrize(
    ("instruction", "taken"),
    [
        ("RUN --mount=type=bind,source=scripts/image/elf.py,target=/x true", ["scripts/image/elf.py"]),
        ("RUN --mount=target=/x,src=a/b,readonly --mount=type=cache,target=/c true", ["a/b"]),
        ("RUN --mount=type=bind,from=gdal,source=/opt,target=/x true", []),
        ("RUN --mount=type=secret,id=ca cat scripts/image/net.sh", []),
        (
            "RUN \\\n  --mount=type=bind,source=one,target=/x \\\n  --mount=type=bind,source=two,target=/y true",
            ["one", "two"],
        ),
        ("COPY --link --chmod=755 a b* /x/", ["a", "b*"]),
        ('COPY ["with space", "/x/"]', ["with space"]),
        ("ADD https://example.org/x tree /x/", ["tree"]),
        ("COPY --from=gdal /opt /opt", []),
        ("# COPY a /x", []),
    ],
)
def test_what_a_dockerfile_takes_from_the_project(instruction: str, taken: list[str]) -> None:
    assert inputs.project_sources(f"FROM x\n{instruction}\n") == taken


def test_the_inputs_digest_follows_folders_and_patterns_and_no_bytecode(tmp_path: Path) -> None:
    folder = tmp_path / "tree/deep"
    folder.mkdir(parents=True)
    (tmp_path / "Dockerfile").write_text("FROM x AS gdal-report\nCOPY tre* /x/\n")
    made = {"target": {"cuda-gdal": {"dockerfile": "Dockerfile", "target": "gdal-report"}}}

    def digest() -> str:
        return inputs.inputs_digest(tmp_path, made, plan().node("cuda/gdal"))

    first = digest()
    (folder / "file").write_text("a")
    second = digest()
    (folder / "file").write_text("b")
    third = digest()
    assert len({first, second, third}) == 3
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/file.pyc").write_text("c")
    assert digest() == third


def test_another_copy_of_the_project_has_the_same_inputs(tmp_path: Path) -> None:
    """Neither where it is nor when its files were written counts, only what is in them."""
    made = {"target": {"cuda-gdal": {"contexts": {"gdal-source": "downloads"}}}}
    digests = []
    for number, words in enumerate(("same", "same", "other")):
        root = tmp_path / str(number)
        (root / "downloads").mkdir(parents=True)
        (root / "downloads/file").write_text(words)
        os.utime(root / "downloads/file", (number, number))
        digests.append(inputs.inputs_digest(root, made, plan().node("cuda/gdal")))
    assert digests[0] == digests[1] != digests[2]


def test_every_file_that_a_script_uses_is_mounted_next_to_it() -> None:
    """What a script sources, starts or imports from its own folder has to be there when its RUN runs."""
    scripts = {path.name for path in (ROOT / "scripts/image").iterdir()}
    checked = 0
    for file in [*ROOT.glob("dockerfiles/*.Dockerfile"), *ROOT.glob("benchmarks/*.Dockerfile")]:
        for part in re.split(r"(?m)^(?=RUN )", file.read_text())[1:]:
            mounted = {Path(source).name for source in inputs.project_sources(part)}
            for name in mounted & scripts - {"image", "gdal-unity"}:
                text = (ROOT / "scripts/image" / name).read_text()
                used = set(re.findall(r"\$here/([\w.-]+)", text))
                used |= {f"{module}.py" for module in re.findall(r"(?m)^(?:import|from) (\w+)", text)} & scripts
                assert used <= mounted, f"{file.name}: {name} needs {sorted(used - mounted)}"
                checked += 1
    assert checked


def test_every_argument_at_the_top_of_the_images_dockerfile_has_a_comment() -> None:
    head = re.split(r"(?m)^FROM ", (ROOT / "dockerfiles/images.Dockerfile").read_text())[0].splitlines()
    arguments = [number for number, line in enumerate(head) if line.startswith("ARG ")]
    assert arguments
    assert [head[number] for number in arguments if not head[number - 1].startswith("# ")] == []


def with_wheels(folder: str) -> schema.Config:
    return CONFIG.model_copy(update={"python": CONFIG.python.model_copy(update={"wheels": (Path(folder),)})})


def checkout(root: Path, *, wheels: str) -> tuple[Path, schema.Config]:
    """A project's folder with a folder of wheels, as another machine or another day would make it."""
    folder = root / wheels
    folder.mkdir(parents=True)
    (folder / "torch-1-py3-none-any.whl").write_bytes(b"wheel")
    (folder / "newest.whl").symlink_to("torch-1-py3-none-any.whl")
    return folder, with_wheels(wheels)


def digest_of(root: Path, settings: schema.Config, label: str = "cuda/python", profile: str = "rehearsal") -> str:
    chosen = plan(profile, "linux/arm64" if profile == "jetson-6.2" else "linux/amd64")
    content = bake.definition(settings, chosen, bake.Options(state=STATE))
    return inputs.inputs_digest(root, content, chosen.node(label))


def test_another_checkout_with_the_same_content_has_the_same_digest(tmp_path: Path) -> None:
    first, settings = checkout(tmp_path / "a", wheels="wheels")
    again, _ = checkout(tmp_path / "b", wheels="wheels")
    os.utime(again / "torch-1-py3-none-any.whl", (1, 1))
    apart, elsewhere = checkout(tmp_path / "c", wheels=str(tmp_path / "wheels elsewhere"))
    wanted = digest_of(tmp_path / "a", settings)
    assert digest_of(tmp_path / "b", settings) == wanted
    assert digest_of(tmp_path / "c", elsewhere) == wanted
    assert first != again != apart


def rewrite(file: Path) -> None:
    known = file.stat()
    file.write_bytes(b"other")
    os.utime(file, ns=(known.st_atime_ns, known.st_mtime_ns + 1_000_000))


@pytest.mark.parametrize(
    "change",
    [
        rewrite,
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
    folder = tmp_path / naming.download_folder(STATE, str(CONFIG.profiles["jetson-6.2"].contexts["gdal-source"].sha256))
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

    monkeypatch.setattr(inputs, "digest", counted)
    for label in ("cuda/python", "cuda/runtime", "jetpack/python"):
        digest_of(tmp_path, settings, label)
    assert [path.name for path in read] == ["torch-1-py3-none-any.whl"]


def test_a_stage_is_made_of_what_it_stands_on_and_copies_from() -> None:
    text = (ROOT / "dockerfiles/images.Dockerfile").read_text()
    gdal, runtime = (
        inputs.stages_text(text, "gdal-report"),
        inputs.stages_text(text, "runtime", {"CUDNN_TREE": "cudnn"}),
    )
    assert "compile-gdal.sh" in gdal
    assert "install-pytorch.sh" not in gdal
    assert "cudnn.sh" not in inputs.stages_text(text, "runtime")  # by the argument's default
    assert all(script in runtime for script in ("compile-gdal.sh", "install-pytorch.sh", "cudnn.sh", "probe.py"))
    assert "prune.py" not in runtime
    assert "prune.py" in inputs.stages_text(text, "slim-report")
    assert inputs.stages_text(text, "no such stage") == text


def test_each_stage_of_the_real_dockerfiles_belongs_to_one_node() -> None:
    platforms = Platforms(target="linux/amd64", host="linux/amd64")
    chosen = CONFIG.pick_profile("rehearsal", architecture="amd64")
    made = make_plan(profile=chosen, platforms=platforms, images=CONFIG.pick_images(("cuda", "slim")))
    nodes = [node for node in made.nodes if node.baked]
    content = bake.definition(CONFIG, made, bake.Options(state=STATE))
    own = inputs.own_stages(ROOT, content, nodes)
    assert own["slim/slim"] == {"slim", "slim-report", "pruned"}
    assert "base-with-cudnn" in own["slim/runtime"] & own["cuda/runtime"]
    assert "cudnn-source" in own["cuda/cudnn"]
    of_slim = [name for label, names in own.items() if label.startswith("slim/") for name in names]
    assert len(of_slim) == len(set(of_slim))


def test_a_stage_that_does_not_exist_is_made_of_nothing() -> None:
    assert inputs.stages_of("FROM x AS a\nFROM a AS b\nFROM y\n", "c") == ()
    assert inputs.stages_of("FROM x AS a\nFROM a AS b\nFROM y\n", "b") == ("b", "a")


# --- running it


@pytest.mark.parametrize(
    ("text", "expected"),
    [('{"cuda-gdal": {"a": 1}}', {"cuda-gdal": {"a": 1}}), ("[]", {}), ("not JSON", {}), (None, {})],
)
def test_bake_runs_in_the_project_and_its_metadata_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, expected: dict[str, Any]
) -> None:
    metadata = tmp_path / "metadata.json"
    metadata.write_text("of an earlier call")
    chunks: list[bytes] = []

    def stream(argv: list[str], on_chunk: Any, *, env: dict[str, str], cwd: Path) -> int:
        assert not metadata.exists()  # buildx wants a path that does not exist yet
        assert argv == ["docker", "x", "--progress=rawjson", f"--metadata-file={metadata}"]
        assert (env, cwd) == ({"A": "b", **buildx.ENVIRONMENT}, tmp_path)
        on_chunk(b"x")
        if text is not None:
            metadata.write_text(text)
        return 3

    monkeypatch.setattr(process, "stream", stream)
    found = buildx.run(["docker", "x"], root=tmp_path, env={"A": "b"}, metadata=metadata, on_chunk=chunks.append)
    assert found == (3, expected)
    assert chunks == [b"x"]


def test_the_command_is_what_a_person_can_paste() -> None:
    argv = buildx.command("docker", naming.definition_file(STATE), ("cuda-gdal",))
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
    assert inputs.newest_rebuild(content, plan().node("cuda/runtime")) == "10000-19700101-000000"


def test_the_newest_run_that_was_to_build_something_again() -> None:
    tokens = {"cuda/gdal": "20250101-000000", "cuda/cudnn": "20250102-000000", "jetpack/gdal": "20250103-000000"}
    content = bake.definition(CONFIG, plan(), bake.Options(state=STATE, rebuild=tokens))
    found = {
        label: inputs.newest_rebuild(content, plan().node(label))
        for label in ("cuda/gdal", "cuda/runtime", "cuda/python")
    }
    assert found == {"cuda/gdal": "20250101-000000", "cuda/runtime": "20250102-000000", "cuda/python": ""}

"""Every task on the miniature, as a person would type it: what it prints, what it leaves, and how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jetpare.base import process
from jetpare.engine import api, disk, image_store, private
from jetpare.engine.model import Engine
from jetpare.records import ledger
from jetpare.views.rows import SIZE_TITLES
from tests.engine.conftest import (
    CUDA,
    INPUTS,
    JETPACK,
    Answer,
    Mini,
    assert_whole,
    clean_environ,
    cli_environ,
    make_mini,
    statuses,
)

pytestmark = pytest.mark.engine

ALL = (*INPUTS, *JETPACK, *CUDA)
NOWHERE = "unix:///nonexistent/docker.sock"
LAYERS = {"jetpack": 7, "cuda": 6}  # Debian, three and one RUNs of the bases, two and three trees, the check
STOP_SECONDS = 5.0
Fresh = Callable[[], Mini]


@pytest.fixture(scope="module")
def first(fresh: Fresh) -> tuple[Mini, Answer]:
    """A miniature, and what its first `build-all` said."""
    mini = fresh()
    for stage in ("cudnn", "gdal", "python", "runtime"):  # of this project alone: no other one's layers are found
        mini.knob(stage, f"echo this is the {stage} stage of {mini.name}")
    return mini, mini("build-all")


@pytest.fixture(scope="module")
def built(first: tuple[Mini, Answer]) -> Mini:
    """A built miniature, whose images no test changes."""
    return first[0]


@pytest.fixture(scope="module")
def side_by_side(fresh: Fresh) -> tuple[Mini, Answer]:
    """A miniature, and what its first `build-all --parallel` said."""
    mini = fresh()
    mini.knob("cudnn", ":")
    mini.knob("python", ":")
    return mini, mini("build-all", "--parallel")


@pytest.fixture
def workshop(side_by_side: tuple[Mini, Answer]) -> Iterator[Mini]:
    """A built miniature that a test may change; it gets its knobs and Dockerfiles back."""
    mini = side_by_side[0]
    kept = {path: path.read_text() for path in mini.root.rglob("*") if path.suffix in {".sh", ".Dockerfile", ".toml"}}
    yield mini
    for path, text in kept.items():
        path.write_text(text)


def comparison(mini: Mini, *words: str) -> dict[str, Any]:
    """What `compare --json` says."""
    answer = mini.ok("compare", "--json", *words)
    found = json.loads(answer.out)
    assert isinstance(found, dict)
    return found


def images_of(result: dict[str, Any]) -> dict[str, Any]:
    return {image["name"]: image for image in result["images"]}


def assert_sensible(result: dict[str, Any], store: str) -> None:
    """The comparison's figures fit the miniature: what is larger is larger, and by what was put there."""
    assert result["schema"] == "jetpare.compare/2"
    assert result["engine"]["store"] == store
    images = images_of(result)
    for name, image in images.items():
        sizes = image["sizes"]
        assert set(sizes) == {"layers", "merged", "pull", "alone"}
        if store == "containerd":  # which knows what its layers are compressed to; random bytes stay as many
            assert 0.2 * sizes["merged"] < sizes["pull"] < 1.2 * sizes["merged"]
        else:
            assert sizes["pull"] is None
        assert 60_000_000 < sizes["merged"] <= sizes["layers"] * 1.01
        assert 0 < sizes["alone"] < sizes["layers"]
        assert sizes["layers"] == pytest.approx(sizes["alone"] + result["shared"], rel=0.001)
        assert len(image["layers"]) == LAYERS[name]
        assert sum(group["bytes"] for group in image["groups"]) == sizes["merged"]
    larger, smaller = images["jetpack"]["sizes"], images["cuda"]["sizes"]
    ballast, library = 20_000_000, 2_000_000
    assert larger["layers"] - smaller["layers"] > ballast
    assert larger["merged"] - smaller["merged"] > ballast
    assert library < smaller["alone"] < ballast  # the library, the program and one megabyte of zeros
    difference = next(row for row in result["differences"] if row["image"] == "cuda" and row["size"] == "layers")
    assert difference["saved"] == larger["layers"] - smaller["layers"]
    assert difference["words"] == "smaller"
    assert difference["percent"] == pytest.approx(100 * difference["saved"] / larger["layers"])
    (fall,) = result["waterfalls"]
    assert (fall["start"], fall["end"]) == (larger["merged"], smaller["merged"])
    assert fall["steps"][-1]["total_after"] == fall["end"]
    (files,) = result["files"]
    assert files["removed"]["bytes"] > ballast
    came, went = (
        files["added"]["bytes"] + files["changed"]["bytes"],
        files["removed"]["bytes"] + files["changed_before"]["bytes"],
    )
    assert larger["merged"] - went + came == smaller["merged"]


# --- build-all


def test_build_all(first: tuple[Mini, Answer], running: Engine) -> None:
    mini, answer = first
    assert answer.code == 0, answer.err
    for title in ("Stages", "wall time", "Images", *SIZE_TITLES.values(), *ALL):
        assert title in answer.out
    assert re.search(r"cuda is [\d.]+ MB \([\d.]+ %\) smaller than jetpack", answer.out)
    record = mini.newest()
    assert_whole(mini, record, ALL)
    assert (record.task, record.profile, record.parallel, record.cold) == ("build-all", "mini", False, False)
    assert not any(row.overlaps for row in record.stages)
    assert record.critical_path == ()
    assert mini.row("jetpack/gdal").cache == "cold"
    assert "this is the gdal stage" in mini.file(mini.row("jetpack/gdal").log).read_text()
    assert "this is the gdal stage" not in mini.file(mini.row("jetpack/python").log).read_text()
    assert {image.name: image.id for image in record.images} == {
        name: mini.image_id(name) for name in ("jetpack", "cuda")
    }
    assert all(image.status == ledger.OK and image.versions["gdal"] == "1.0" for image in record.images)
    assert [image.layers for image in record.images] == [LAYERS[image.name] for image in record.images]
    facts = image_store.inspect_image(running, mini.tag("cuda"))
    assert facts is not None
    assert facts.labels["jetpare.project"] == mini.name
    assert facts.labels["jetpare.profile"] == "mini"
    assert not list((mini.root / ".jetpare").glob("reports/*"))  # they went to the run's folder


def test_build_all_again(built: Mini) -> None:
    before = [built.image_id(name) for name in ("jetpack", "cuda")]
    answer = built.ok("build-all")
    record = built.newest()
    assert_whole(built, record, ALL)
    assert {row.label: row.cache for row in record.stages} == dict.fromkeys(ALL, "cached")
    assert [built.image_id(name) for name in ("jetpack", "cuda")] == before
    assert "this is the gdal stage" not in built.file(built.row("jetpack/gdal").log).read_text()
    # What was paid for the image is still told, from the run that built it.
    assert re.search(r"build time +\d+\.\d s", answer.out)


def test_build_all_parallel(side_by_side: tuple[Mini, Answer]) -> None:
    mini, answer = side_by_side
    assert answer.code == 0, answer.err
    record = mini.newest()
    assert_whole(mini, record, ALL)
    assert record.parallel
    ran = [row for row in record.stages if row.cache != "cached"]
    assert {"cuda/cudnn", "jetpack/python"} <= {row.label for row in ran}
    assert all(row.overlaps for row in ran)
    assert mini.row("cuda/cudnn").cache == "cold"
    assert record.critical_path
    assert 0 < sum(float(step["seconds"]) for step in record.critical_path) <= (record.wall_seconds or 0)
    assert "Critical path" in answer.out
    assert "overlap" in answer.out
    assert [mini.image_id(image.name) for image in record.images] == [image.id for image in record.images]
    assert len(record.images) == 2


def test_one_image(fresh: Fresh) -> None:
    mini = fresh()
    answer = mini.ok("compare")
    assert "jetpack: NOT BUILT" in answer.out
    assert "cuda: NOT BUILT" in answer.out
    result = comparison(mini)
    assert [image["status"] for image in result["images"]] == ["NOT BUILT", "NOT BUILT"]
    assert result["differences"] == []

    answer = mini.ok("build-all", "--image", "cuda", "--parallel")
    assert_whole(mini, mini.newest(), (*INPUTS, *CUDA))
    assert mini.image_id("jetpack") is None
    assert mini.image_id("cuda")
    assert "jetpack: NOT BUILT" in answer.out
    assert "cuda: NOT BUILT" not in answer.out
    result = comparison(mini)
    images = images_of(result)
    assert images["jetpack"]["sizes"] == dict.fromkeys(("layers", "merged", "pull", "alone"))
    assert len(images["cuda"]["layers"]) == LAYERS["cuda"]
    assert result["differences"] == []

    # A later failure is told beside what is still there.
    mini.knob("cudnn", "exit 1")
    assert mini("build-all", "--image", "cuda", "--parallel").code == 5
    failed = mini.newest().id
    assert mini.image_id("cuda") == images["cuda"]["id"]
    answer = mini.ok("compare")
    assert f"cuda: run {failed} failed before it was finished; what is shown is from an earlier one" in answer.out


def test_cold(fresh: Fresh) -> None:
    mini = fresh()
    mini.ok("build-all", "--image", "cuda", "--parallel")
    before = mini.image_id("cuda")
    answer = mini.ok("build-all", "--image", "cuda", "--cold")
    record = mini.newest()
    assert record.cold
    assert_whole(mini, record, (*INPUTS, *CUDA))
    made = (*INPUTS[1:], *CUDA)  # the base system is no part of a build's caches
    assert {label: record.stage(label).cache for label in made} == dict.fromkeys(made, "cold")  # type: ignore[union-attr]
    assert "cold caches asked for" in answer.out
    assert mini.image_id("cuda") != before

    mini.ok("build-all", "--image", "cuda")
    caches = {row.label: row.cache for row in mini.newest().stages}
    assert caches == dict.fromkeys((*INPUTS, *CUDA), "cached")


def test_cold_side_by_side(workshop: Mini) -> None:
    workshop.ok("build-all", "--cold", "--parallel")
    record = workshop.newest()
    assert (record.cold, record.parallel) == (True, True)
    assert_whole(workshop, record, ALL)
    states = {row.label: row.cache for row in record.stages if row.label != "inputs/debian"}
    assert "cached" not in states.values(), states
    assert "no-cache-filter" not in (workshop.root / ".jetpare/bake.json").read_text()


def test_dry_run_can_be_pasted(built: Mini) -> None:
    before = len(built.records())
    ids = [built.image_id(name) for name in ("jetpack", "cuda")]
    answer = built.ok("build-all", "--dry-run")
    definition, end = json.JSONDecoder().raw_decode(answer.out)
    assert {"jetpack-runtime", "cuda-cudnn", "inputs-l4t-cuda"} <= set(definition["target"])
    rest = answer.out[end:]
    assert "jetpare makes inputs/debian (bootstrap) itself" in answer.err
    command = rest.strip().splitlines()[-1]
    assert command.startswith(f"cd {built.root} && ")
    assert len(built.records()) == before
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={**os.environ, **built.environ},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [built.image_id(name) for name in ("jetpack", "cuda")] == ids

    answer = built.ok("extract-cudnn", "--dry-run")
    assert answer.out.rstrip().endswith(" cuda-cudnn")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("build-all", "--image", "cud"), "did you mean 'cuda'"),
        (("build-all", "--profile", "mino"), "did you mean 'mini'"),
        (("compile-gdal", "--image", "jetpak"), "did you mean 'jetpack'"),
        (("extract-cudnn", "--image", "jetpack"), "has no stage 'cudnn'"),
        (("shell", "gdl"), "did you mean 'gdal'"),
        (("logs", "pyton"), "did you mean 'python'"),
        (("plan", "--profile", "mino"), "did you mean 'mini'"),
        (("engine-up", "--store", "vfs"), "overlay2 or containerd"),
        (("compare", "--output", "/nonexistent/file"), "/nonexistent/file: cannot be written"),
    ],
    ids=" ".join,
)
def test_wrong_words(built: Mini, words: tuple[str, ...], said: str) -> None:
    answer = built(*words)
    assert answer.code == 2
    assert said in answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err


def test_broken_build_toml(built: Mini, tmp_path: Path) -> None:
    root = tmp_path / "broken"
    shutil.copytree(built.root, root, ignore=shutil.ignore_patterns(".jetpare"))
    valid = (root / "build.toml").read_text()
    text = valid.replace("[runtime]\npackages", "[runtime]\npackges").replace('uv = "0.9.11"', "uv = 9")
    (root / "build.toml").write_text(text)
    for words in (("build-all",), ("compare",), ("plan",), ("doctor",), ("clean",), ("logs", "gdal")):
        answer = built(*words, JETPARE_ROOT=str(root))
        assert answer.code == 2, words
        assert "did you mean 'packages'" in answer.err
        assert re.search(r"\[python\].* uv: .* has the wrong type", answer.err)
    (root / "build.toml").write_text(valid.replace('baseline = "jetpack"', 'baseline = "jetpak"'))
    answer = built("plan", JETPARE_ROOT=str(root))  # names are looked up once every value is of the right type
    assert (answer.code, "did you mean 'jetpack'" in answer.err) == (2, True)
    (root / "build.toml").write_text("[project\n")
    assert re.search(r"line 1\D+\d+", built("build-all", JETPARE_ROOT=str(root)).err)
    (root / "build.toml").unlink()
    answer = built("build-all", JETPARE_ROOT=str(root))
    assert (answer.code, "build.toml" in answer.err) == (2, True)
    assert not (root / ".jetpare" / "runs").exists()


def test_the_engine_is_not_there(built: Mini) -> None:
    before = len(built.records())
    for words in (("build-all",), ("compile-gdal",), ("compare",), ("shell", "gdal"), ("clean",)):
        answer = built(*words, DOCKER_HOST=NOWHERE)
        assert answer.code == 3, words
        assert NOWHERE in answer.err
        assert answer.out == ""
    assert len(built.records()) == before
    # What needs no engine works without one.
    assert "cuda/runtime" in built.ok("plan", DOCKER_HOST=NOWHERE).out
    assert "docker buildx bake" in built.ok("build-all", "--dry-run", DOCKER_HOST=NOWHERE).out
    assert built.ok("logs", "gdal", DOCKER_HOST=NOWHERE).out


# --- one stage


@pytest.mark.parametrize(
    ("words", "label"),
    [
        (("extract-cudnn",), "cuda/cudnn"),
        (("compile-gdal", "--image", "jetpack"), "jetpack/gdal"),
        (("compile-gdal", "--no-cache"), "cuda/gdal"),
        (("install-pytorch", "--image", "cuda"), "cuda/python"),
        (("install-pytorch", "--image", "jetpack", "--no-cache"), "jetpack/python"),
        (("assemble-runtime", "--image", "jetpack"), "jetpack/runtime"),
    ],
)
def test_stage_tasks(workshop: Mini, words: tuple[str, ...], label: str) -> None:
    answer = workshop.ok(*words)
    record = workshop.newest()
    image, stage = label.split("/")
    base = "inputs/l4t-cuda" if label in {"cuda/gdal", "cuda/python"} else "inputs/l4t-jetpack"
    needs = ("inputs/debian", base, *(JETPACK if stage == "runtime" else (label,)))
    assert_whole(workshop, record, needs)
    # The miniature's compiler cache counts no hit; package caches count nothing, and are there since the first build.
    again = "cold" if stage == "gdal" else "warm"
    assert workshop.row(label).cache == (again if "--no-cache" in words else "cached")
    assert all(workshop.row(other).cache == "cached" for other in needs if other != label)
    assert (workshop.root / answer.path("log")).read_text()
    assert (workshop.root / answer.path("record")).is_dir()
    assert str(record.id) in str(answer.path("record"))
    assert f"invoke shell {stage} --image {image}" in answer.out
    assert ("/opt/stage" in answer.out) == (stage != "runtime")
    if stage == "runtime":
        assert workshop.tag("jetpack") in answer.out


FAILURES = [
    ("cuda/cudnn", "in order", "invoke extract-cudnn --image cuda"),
    ("cuda/gdal", "in order", "invoke compile-gdal --image cuda"),
    ("cuda/gdal", "parallel", "invoke compile-gdal --image cuda"),
    ("cuda/python", "in order", "invoke install-pytorch --image cuda"),
    ("cuda/runtime", "in order", "invoke assemble-runtime --image cuda"),
    ("cuda/runtime", "parallel", "invoke assemble-runtime --image cuda"),
    ("jetpack/gdal", "in order", "invoke compile-gdal --image jetpack"),
]


@pytest.mark.parametrize(("label", "how", "again"), FAILURES)
def test_failing_stage(fresh: Fresh, label: str, how: str, again: str) -> None:
    image, stage = label.split("/")
    mini = fresh()
    mini.knob(stage, "for n in $(seq 1 50); do echo line number $n; done; echo it is broken; exit 3")
    words = ("build-all", "--image", image, *(["--parallel"] if how == "parallel" else []))
    answer = mini(*words)
    assert answer.code == 5
    assert f"{label} failed at step [{stage} " in answer.err
    tail = answer.err[answer.err.index(f"{label} failed at step") :]
    assert "it is broken" in tail
    assert "exit code 3" in tail
    assert "line number 50" in tail
    assert "line number 15\n" not in tail
    assert f"{again} --profile mini" in tail
    shown = re.search(r"Full log: (\S+)", tail)
    assert shown
    assert "line number 1\n" in (mini.root / shown[1]).read_text()
    record = mini.newest()
    assert record.status == ledger.FAILED
    if how == "in order":
        order = list(statuses(record))
        place = order.index(label)
        assert set(list(statuses(record).values())[:place]) <= {ledger.OK}
        assert set(list(statuses(record).values())[place + 1 :]) <= {ledger.SKIPPED}
        assert all(row.reason == f"{label} failed" for row in record.stages[place + 1 :])
    assert statuses(record)[label] == ledger.FAILED
    assert "exit code 3" in mini.row(label).reason
    assert [row.label for row in record.stages if row.status == ledger.FAILED] == [label]
    assert record.images == ()
    assert mini.image_id(image) is None
    # The command that it names runs just that stage, and works once the fault is gone.
    mini.knob(stage, ":")
    mini.ok(*again.split()[1:])
    assert statuses(mini.newest())[label] == ledger.OK


def test_failing_input(fresh: Fresh) -> None:
    mini = fresh()
    mini.edit(
        "dockerfiles/rehearsal.Dockerfile", "RUN head -c 3000000", "RUN echo no such thing; exit 4\nRUN head -c 3"
    )
    answer = mini("build-all")
    assert answer.code == 5
    assert re.search(r"inputs/l4t-cuda failed at step \[l4t-cuda \d/\d\] RUN echo no such thing", answer.err)
    assert "exit code 4" in answer.err
    assert "invoke build-all --profile mini" in answer.err
    found = statuses(mini.newest())
    assert found.pop("inputs/debian") == ledger.OK
    assert found.pop("inputs/l4t-cuda") == ledger.FAILED
    assert set(found.values()) == {ledger.SKIPPED}
    assert mini.images() == [] or all("debian" in str(image["RepoTags"]) for image in mini.images())


def test_out_of_memory(workshop: Mini) -> None:
    workshop.knob("gdal", "kill -9 $$")
    answer = workshop("compile-gdal")
    assert answer.code == 5
    assert "out of memory" in answer.err
    assert "137" in workshop.row("cuda/gdal").reason


def test_wrong_version_is_not_tagged(fresh: Fresh) -> None:
    mini = fresh()
    answer = mini("build-all", "--image", "cuda", "--profile", "wrong")
    assert answer.code == 6
    assert "gdal is 1.0, expected 2.0" in answer.err
    assert mini.image_id("cuda", "wrong") is None
    record = mini.newest()
    assert record.status == ledger.FAILED
    (image,) = record.images
    assert (image.status, image.reason) == (ledger.FAILED, "gdal is 1.0, expected 2.0")
    # The id that it names is there to be looked at.
    assert str(image.id) in answer.err
    assert image_store.inspect_image(mini.engine, str(image.id)) is not None
    assert mini("compare", "--profile", "wrong").code == 0


def test_over_budget_is_tagged(fresh: Fresh) -> None:
    mini = fresh()
    for stage in ("gdal", "python"):  # of this project alone: really built
        mini.knob(stage, ":")
    answer = mini("build-all", "--image", "cuda", "--profile", "tight")
    assert answer.code == 12
    assert "cuda is over its budget" in answer.out
    told = answer.err[answer.err.index("over budget:") :]
    for name in ("  cuda: ", "  cuda/gdal: "):
        assert name in told
    assert "cold" in told
    assert "[profiles.tight.budget]" in told
    assert "cuda/cudnn" not in told  # an hour is enough
    assert "cuda/python: its warm budget of 0.0 s (+5 % tolerated) is not judged: it was built cold" in answer.err
    assert mini.image_id("cuda", "tight")
    assert mini.newest().status == ledger.SUCCEEDED
    again = mini("build-all", "--image", "cuda", "--profile", "tight")
    assert (
        "cuda/gdal: its cold budget of 0.0 s (+5 % tolerated) is not judged: it came from the layer cache" in again.err
    )
    assert "  cuda/gdal: " not in again.err[again.err.index("over budget:") :]
    compared = mini("compare", "--profile", "tight")  # by the newest run in which it was built
    assert compared.code == 12
    assert "  cuda/gdal: " in compared.err


# --- several runs


def test_repeat_builds_again_beside_warm_caches(fresh: Fresh) -> None:
    mini = fresh()
    mini.knob("python", "sleep 1.2")
    answer = mini.ok("build-all", "--image", "cuda", "--repeat", "3")
    runs = mini.records()
    assert len(runs) == 3
    for label in CUDA:
        rows = [run.stage(label) for run in runs]
        assert {row.cache for row in rows if row} <= {"cold", "warm"}, label
        assert len({row.inputs for row in rows if row}) == 1, label  # the same work, three times
        if label == "cuda/python":
            assert [row.cache for row in rows if row] == ["warm", "warm", "cold"]  # newest first
    assert "3 of 3 runs succeeded" in answer.out
    assert answer.out.index("3 of 3") < answer.out.index("Images")
    # Only the third run has a base for what a warm one takes: the second one.
    parts = re.split(r"Run \d of 3\.", answer.err)[1:]
    told = ["cuda/python: start, about" in part for part in parts]
    assert told == [False, False, True]
    mini.ok("build-all", "--image", "cuda")
    assert {row.cache for row in mini.newest().stages} == {"cached"}


def test_repeat_cold(fresh: Fresh) -> None:
    mini = fresh()
    answer = mini.ok("build-all", "--image", "cuda", "--repeat", "2", "--cold")
    assert {row.cache for run in mini.records() for row in run.stages if row.label != "inputs/debian"} == {"cold"}
    assert "2 of 2 runs succeeded" in answer.out
    found = json.loads(mini.ok("history", "--json", "--stage", "gdal").out)
    assert [group["count"] for group in found["groups"]] == [2]
    assert found["groups"][0]["deviation"] is None


def test_repeat_interrupted(fresh: Fresh, mark: str) -> None:
    mini = fresh()
    mini.knob("gdal", f"sleep {mark}")
    with mini.started("build-all", "--image", "cuda", "--repeat", "2", "--cold") as run:
        assert wait_for(lambda: sleepers(mark), 60), run.poll()
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=30)
    assert run.returncode == 130, err
    assert "Traceback" not in err
    assert "0 of 2 runs succeeded" in out
    assert "cuda/cudnn" in out
    assert "Run 2 of 2" not in err
    assert wait_for(lambda: not sleepers(mark), 3)
    assert len(mini.records()) == 1


@pytest.mark.parametrize("number", ["0", "-1"])
def test_repeat_wants_a_number_of_runs(built: Mini, number: str) -> None:
    answer = built("build-all", f"--repeat={number}")
    assert answer.code == 2
    assert f"--repeat {number} is not a valid number of runs" in answer.err


# --- looking


def test_compare(built: Mini, running: Engine, tmp_path: Path) -> None:
    result = comparison(built)
    assert_sensible(result, api.facts(running).store)
    assert (result["baseline"], result["profile"]) == ("jetpack", "mini")
    for name, image in images_of(result).items():
        assert image["id"] == built.image_id(name)
        assert image["reference"] == built.tag(name)
        assert all(stage["seconds"] is not None for stage in image["stages"])
        assert len(image["stages"]) == len([label for label in ALL if label.startswith(f"{name}/")])
        assert image["notes"] == []
        assert [row["status"] for row in image["versions"]] == ["ok", "ok"]
        assert image["checks"] == [{"name": "demo", "status": "ok", "detail": "", "seconds": None}]
    table, content = tmp_path / "table.txt", tmp_path / "content.json"
    answer = built.ok("compare", "--output", str(table))
    assert answer.out == ""
    assert str(table) in answer.err
    assert table.read_text() == built.ok("compare").out
    built.ok("compare", "--json", "--output", str(content))
    again = json.loads(content.read_text())
    assert again | {"generated": ""} == result | {"generated": ""}
    for name, begins in (("report.md", "# Base image comparison"), ("report.html", "<!doctype html>")):
        built.ok("compare", "--output", str(tmp_path / name))
        assert (tmp_path / name).read_text().lower().startswith(begins.lower())
    assert max(map(len, table.read_text().splitlines())) <= 100
    assert "\x1b" not in table.read_text()


def test_any_two_images(built: Mini) -> None:
    first, second = built.tag("cuda"), str(built.image_id("jetpack"))
    result = json.loads(built.ok("compare", "--json", "--", first, second).out)
    assert (result["baseline"], result["profile"]) == (first, None)
    assert [image["id"] for image in result["images"]] == [built.image_id("cuda"), second]
    assert result["verdict"]["status"] == "no recommendation"  # they are only compared
    assert " larger than " in result["verdict"]["headline"]
    assert built.ok("compare", "--image", "jetpack", "--image", "cuda").out
    missing = built("compare", "--image", first, "--image", "jetpare-mini/nothing:1")
    assert (missing.code, missing.out) == (9, "")
    assert "jetpare-mini/nothing:1: the engine at" in missing.err


def test_audit(built: Mini, tmp_path: Path) -> None:
    """A miniature lacks much of what an image should have, so the audit fails; the same in every form."""
    answer = built("audit")
    assert answer.code == 16
    assert "findings: " in answer.err
    assert all(len(line) <= 100 for line in answer.out.splitlines())
    content, log, plan = (tmp_path / name for name in ("a.json", "a.sarif", "plan.txt"))
    assert built("audit", "--json", "--output", str(content)).code == 16
    made = json.loads(content.read_text())
    assert [image["name"] for image in made["images"]] == ["jetpack", "cuda"]
    assert {row["status"] for row in made["rows"]} == {"ok", "found", "not measured"}
    assert built("audit", "--sarif", "--output", str(log)).code == 16
    assert len(json.loads(log.read_text())["runs"][0]["results"]) == len(made["findings"])
    built.ok("audit", "--prune-plan", "--output", str(plan))
    assert "Nothing is removed by itself." in " ".join(plan.read_text().split())
    one = built("audit", "--image", built.tag("cuda"), "--json")
    assert [image["name"] for image in json.loads(one.out)["images"]] == [built.tag("cuda")]
    assert built("audit", "--image", "no-such-image:1").code == 9
    assert built("audit", "--json", "--sarif").code == 2


def test_compare_without_records(built: Mini, tmp_path: Path) -> None:
    root = tmp_path / "other"
    shutil.copytree(built.root, root, ignore=shutil.ignore_patterns(".jetpare"))
    answer = built.ok("compare", JETPARE_ROOT=str(root))
    assert "no run record of this project tells how it was built" in answer.out
    assert re.search(r"build time +not measured +not measured", answer.out)
    assert re.search(r"checks +1 ok +1 ok", answer.out)
    assert "of the report that the image brings along" in answer.out


def test_shell(workshop: Mini) -> None:
    answer = workshop.apart("shell", "python", "--command", "cat /opt/stage/opt/venv/demo.txt")
    assert (answer.code, answer.out) == (0, "demo==1.0\n")
    answer = workshop.apart(
        "shell", "gdal", "--image", "jetpack", "--command", "gdalinfo || /opt/stage/usr/local/bin/gdalinfo"
    )
    assert (answer.code, answer.out) == (0, "1.0\n")
    answer = workshop.apart("shell", "runtime", "--command", "gdalinfo; echo trouble >&2; exit 7")
    assert (answer.code, answer.out) == (7, "1.0\n")
    assert "trouble" in answer.err
    workshop.knob("cudnn", "echo no; exit 1")
    answer = workshop.apart("shell", "cudnn", "--command", "true")
    assert answer.code == 5
    assert "invoke extract-cudnn --image cuda --profile mini" in answer.err
    with api.client(workshop.engine) as docker:
        assert docker.api.containers(all=True, filters={"label": f"jetpare.project={workshop.name}"}) == []


def test_shell_and_logs_of_what_was_never_built(fresh: Fresh) -> None:
    mini = fresh()
    for words in (("shell", "runtime"), ("logs", "gdal"), ("logs", "runtime", "--image", "jetpack")):
        answer = mini(*words)
        assert answer.code == 9, words
        assert answer.out == ""


def test_logs(built: Mini) -> None:
    answer = built.ok("logs", "gdal", "--image", "jetpack")
    assert "this is the gdal stage" in answer.out  # of the run that ran it, not of one that found it in the cache
    assert "/logs/jetpack-gdal.log" in answer.err


def test_plan(built: Mini, fresh: Fresh, tmp_path: Path) -> None:
    rows = [line for line in fresh().ok("plan").out.splitlines() if "/" in line.split("  ")[0] or "never" in line]
    assert [line.split()[1] for line in rows if line[:1].isdigit() or "never" in line] == list(ALL)
    assert all("never built here" in line for line in rows if line.split()[1] in ALL)

    root = tmp_path / "changed"
    shutil.copytree(built.root, root)
    said = {line.split()[1]: line for line in built.ok("plan").out.splitlines() if line[:1].isdigit()}
    assert set(said) == set(ALL)
    assert all("unchanged since run" in line for line in said.values())
    dockerfile = root / "dockerfiles/images.Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace("echo compiling", "echo compiling again"))
    said = {
        line.split()[1]: line
        for line in built.ok("plan", JETPARE_ROOT=str(root)).out.splitlines()
        if line[:1].isdigit()
    }
    # the stage itself, and what is made of it, of both images
    changed = {f"{image}/{stage}" for image in ("jetpack", "cuda") for stage in ("gdal", "runtime")}
    assert {label for label in ALL if "  changed since run" in said[label]} == changed
    assert {label for label in ALL if "unchanged since run" in said[label]} == set(ALL) - changed
    only = built.ok("plan", "--image", "jetpack").out
    assert "jetpack/gdal" in only
    assert "cuda/gdal" not in only


def test_doctor(built: Mini, running: Engine) -> None:
    answer = built.ok("doctor")
    assert api.facts(running).version_text in answer.out
    for name in ("engine", "buildx", "disk", "memory", "platform", "l4t-jetpack", "index"):
        assert name in answer.out
    assert "failed" not in answer.out

    answer = built("doctor", DOCKER_HOST=NOWHERE)
    assert answer.code == 7
    assert re.search(r"^failed +engine +.*/nonexistent", answer.out, re.MULTILINE)
    assert "1 failed: engine" in answer.err


# --- Ctrl-C, kill, two at once


def sleepers(mark: str) -> list[int]:
    """The processes called `sleep *mark*` on this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", mark.encode()]:
            found.append(int(path.parent.name))
    return found


def wait_for(condition: Callable[[], object], seconds: float) -> bool:
    """Whether *condition* holds within *seconds*."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.fixture
def mark(running: Engine) -> str:
    """How long to sleep: a number that no other process has."""
    if not disk.is_local(running):
        pytest.skip("the engine's processes cannot be seen from here")
    return f"300.{os.getpid()}{time.monotonic_ns() % 10**6:06}"


@pytest.mark.parametrize("how", ["in order", "parallel"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_interrupted(fresh: Fresh, mark: str, number: signal.Signals, how: str) -> None:
    mini = fresh()
    mini.knob("gdal", f"sleep {mark}")
    flags = ["--parallel"] if how == "parallel" else []
    with mini.started("build-all", "--image", "cuda", *flags) as run:
        assert wait_for(lambda: sleepers(mark), 60), run.poll()
        clock = time.monotonic()
        run.send_signal(number)
        out, err = run.communicate(timeout=30)
        assert time.monotonic() - clock < STOP_SECONDS
    assert run.returncode == 130, err
    assert "Interrupted." in err
    assert "Traceback" not in err
    assert out == ""
    assert wait_for(lambda: not sleepers(mark), 3)
    record = mini.newest()
    assert record.status == ledger.INTERRUPTED
    assert record.finished is not None
    found = statuses(record)
    assert found["cuda/gdal"] == ledger.INTERRUPTED
    assert found["inputs/debian"] == ledger.OK
    if how == "in order":
        assert found["cuda/cudnn"] == ledger.OK
        assert found["cuda/runtime"] == ledger.SKIPPED
    assert mini.image_id("cuda") is None
    assert str(record.id) in err


def test_killed_and_two_at_once(fresh: Fresh, mark: str) -> None:
    mini = fresh()
    mini.knob("cudnn", f"sleep {mark}")  # in silence: nothing is written to the pipe that nobody reads any more
    with mini.started("build-all", "--image", "cuda", "--parallel") as run:
        assert wait_for(lambda: sleepers(mark), 60), run.poll()
        assert mini.newest().status == ledger.RUNNING
        for words in (("build-all",), ("extract-cudnn",), ("clean",), ("shell", "cudnn", "--command", "true")):
            answer = mini(*words)
            assert answer.code == 8, words
            assert str(run.pid) in answer.err
        assert "NOT BUILT" in mini.ok("compare").out  # looking is allowed
        assert len(mini.records()) == 1
        run.kill()
        run.wait()
    assert wait_for(lambda: not sleepers(mark), 10), "the build went on without its master"
    record = mini.newest()
    assert record.status == ledger.INTERRUPTED
    assert statuses(record)["cuda/cudnn"] == ledger.INTERRUPTED
    assert "interrupted" in mini.ok("compare").out
    mini.knob("cudnn", ":")
    mini.ok("build-all", "--image", "cuda", "--parallel")
    assert mini.image_id("cuda")


# --- cleaning up, and what must not be left anywhere


def test_clean(fresh: Fresh, running: Engine) -> None:
    mini = fresh()
    mini.ok("build-all", "--image", "cuda", "--parallel")
    mini.apart("shell", "cudnn", "--command", "true")
    mine, foreign = mini.tag("cuda"), f"{mini.name}x/mine:1"
    image = mini.image_id("cuda")
    assert image
    image_store.tag_image(running, image, foreign)
    neighbour = fresh()  # another project in the same engine
    try:
        answer = mini.ok("clean")
        assert answer.out == ""
        assert f"{mine} removed" in answer.err
        assert image_store.inspect_image(running, mine) is None
        assert image_store.inspect_image(running, foreign) is not None  # someone else's name for it
        assert {tag for each in mini.images() for tag in each["RepoTags"]} == {foreign}
        assert image_store.inspect_image(running, f"{neighbour.name}/debian:bookworm-{api.facts(running).arch}")
        assert mini.newest().status == ledger.SUCCEEDED
        state = {path.name for path in (mini.root / ".jetpare").iterdir()}
        assert state <= {"runs", "lock", "shell-metadata.json"}
        assert "There are no images of this project." in mini.ok("clean").err
        assert "NOT BUILT" in mini.ok("compare").out
    finally:
        image_store.remove_image(running, foreign)


def test_no_secret_is_left(fresh: Fresh) -> None:
    mini = fresh()
    secret = "hunter2"  # noqa: S105 - it is the point
    url = f"https://user:{secret}@example.invalid/simple"
    mini.edit(
        "dockerfiles/images.Dockerfile",
        "target=/run/knob.sh echo compiling",
        "target=/run/knob.sh --mount=type=secret,id=net,target=/run/net --mount=type=secret,id=ca,target=/run/ca "
        "echo $(grep -c example.invalid /run/net) lines name the index",
    )
    mini.knob("gdal", ":")
    environ = {"PIP_INDEX_URL": url, "HTTPS_PROXY": f"http://user:{secret}@127.0.0.1:9", "NO_PROXY": "*"}
    mini.ok("build-all", "--image", "cuda", **environ)
    assert "2 lines name the index" in mini.ok("logs", "gdal").out  # it did reach the build
    needle = secret.encode()
    history = process.run([mini.engine.docker, "history", "--no-trunc", mini.tag("cuda")], env=mini.engine.env)
    assert "example.invalid /run/net" in history or "RUN" in history
    assert f":{secret}@" not in history
    with api.client(mini.engine) as docker:
        calls: Any = docker.api  # its stubs lack types
        assert secret not in json.dumps(calls.inspect_image(mini.tag("cuda")))
        rest = b""
        for chunk in calls.get_image(mini.tag("cuda")):
            assert needle not in rest + chunk
            rest = chunk[-len(needle) :]
    state = mini.root / ".jetpare"
    holders = {
        str(path.relative_to(state)) for path in state.rglob("*") if path.is_file() and needle in path.read_bytes()
    }
    assert holders == set()
    answer = mini.ok("build-all", "--image", "cuda", "--dry-run", **environ)
    assert secret not in answer.out + answer.err
    assert not (state / "secrets").exists()


# --- the other store


@pytest.fixture(scope="module")
def other(
    running: Engine, debian: str, private_state: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mini]:
    """A miniature on a private engine with the containerd store."""
    up = private.up(state=private_state, environ=clean_environ(), store="containerd")
    folder = tmp_path_factory.mktemp("other")
    archive = folder / "debian.tar"
    process.run([running.docker, "save", "--output", archive, debian], env=running.env)
    process.run([up.docker, "load", "--input", archive], env=up.env)
    archive.unlink()
    yield make_mini(folder, target=up, environ=cli_environ(up, folder / "bin"), base=debian)
    private.down(state=private_state, purge=False)


def test_containerd_store(other: Mini) -> None:
    # The command by which this tool knows its own cache.
    dockerfile = other.root / "dockerfiles/images.Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace("/run/knob.sh", "/run/jetpare/knob.sh"))
    answer = other.ok("build-all")
    assert "smaller than jetpack" in answer.out
    assert "containerd store" in answer.out
    assert_whole(other, other.newest(), ALL)
    result = comparison(other)
    assert_sensible(result, "containerd")
    before = {name: image["id"] for name, image in images_of(result).items()}
    other.ok("build-all")
    assert {row.label: row.cache for row in other.newest().stages} == dict.fromkeys(ALL, "cached")
    assert {name: other.image_id(name) for name in before} == before

    answer = other.apart("shell", "python", "--command", "cat /opt/stage/opt/venv/demo.txt; exit 3")
    assert (answer.code, answer.out) == (3, "demo==1.0\n")
    answer = other.apart("shell", "runtime", "--image", "jetpack", "--command", "gdalinfo")
    assert (answer.code, answer.out) == (0, "1.0\n")

    answer = other("build-all", "--image", "cuda", "--profile", "wrong")
    assert answer.code == 6
    assert other.image_id("cuda", "wrong") is None
    other.knob("gdal", "exit 9")
    assert other("compile-gdal").code == 5
    other.ok("doctor")


def test_containerd_store_clean(other: Mini) -> None:
    other.knob("gdal", ":")
    other.ok("build-all", "--parallel")
    answer = other.ok("clean", "--cache")
    assert "its layer cache stays" in answer.err  # an engine that DOCKER_HOST names may be everybody's
    assert other.images() == []
    base = f"jetpare-mini/debian:bookworm-{api.facts(other.engine).arch}"
    assert image_store.inspect_image(other.engine, base) is not None  # of another project
    assert len(other.records()) > 1
    image_store.tag_image(other.engine, base, f"{other.name}/{base.partition('/')[2]}")
    other.ok("build-all", "--image", "cuda", "--parallel")
    assert {label: other.row(label).cache for label in CUDA} == dict.fromkeys(CUDA, "cached")
    assert other.image_id("cuda") is not None

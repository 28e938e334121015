"""The full rehearsal, once: real CUDA and cuDNN libraries, a real GDAL compile, real PyTorch, on stand-in bases."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from jetpare.audit import verify
from jetpare.config.load import load_config
from jetpare.engine import api, image_store
from jetpare.engine.model import Engine
from jetpare.image.attribution import attribute, unowned
from jetpare.image.read import inventory_reader
from jetpare.records.ledger import Ledger, Record
from tests.conftest import ROOT
from tests.engine.conftest import invoke

pytestmark = [pytest.mark.engine, pytest.mark.rehearsal]


def newest(task: str) -> tuple[Record, Path]:
    return next(
        (record, folder) for record, folder in Ledger(ROOT / ".jetpare").records() if record and record.task == task
    )


@pytest.fixture(scope="module")
def built(rehearsal: str) -> tuple[Record, Path, str]:
    """The images, their record, the record's folder, and what was printed."""
    return *newest("build-all"), rehearsal


def in_image(running: Engine, image: str, *argv: str) -> str:
    with api.client(running) as docker:
        said = docker.containers.run(f"jetpare/{image}:rehearsal", list(argv), remove=True, network_disabled=True)
    assert isinstance(said, bytes)
    return said.decode()


def test_every_stage_is_built_and_timed(built: tuple[Record, Path, str]) -> None:
    record, folder, out = built
    assert record.status == "succeeded"
    assert [row.status for row in record.stages] == ["ok"] * 11
    assert all(row.seconds is not None and row.why for row in record.stages)
    assert all((folder / str(row.log)).is_file() for row in record.stages if row.log)
    assert "cuda is" in out or "slim is" in out  # slim, where an earlier run left it in the engine
    assert "smaller than jetpack" in out


def test_both_images_hold_what_is_expected_and_work(built: tuple[Record, Path, str]) -> None:
    for image in built[0].images:
        assert image.status == "ok"
        for name, version in image.expected.items():
            assert str(image.versions[name]).startswith(version), (image.name, name)
        assert {check["name"]: check["status"] for check in image.checks} == dict.fromkeys(
            ("torch", "cudnn", "torchvision", "numpy", "gdal", "data"), "ok"
        )


def test_nearly_every_byte_has_an_owner(built: tuple[Record, Path, str], running: Engine) -> None:
    groups = load_config(ROOT / "build.toml").groups
    for image in built[0].images:
        found = inventory_reader.take(running, str(image.id), state=ROOT / ".jetpare")
        owned = attribute(found, groups=groups)
        assert sum(each.bytes for each in owned.components) == found.bytes
        assert sum(file.bytes for file in unowned(found, owned)) <= 0.001 * found.bytes
        assert any(each.key == "gdal" and each.version for each in owned.components)


def test_the_small_image_is_smaller(built: tuple[Record, Path, str], running: Engine) -> None:
    made = json.loads(invoke(running, "compare", "--profile", "rehearsal", "--json"))
    sizes = {image["name"]: image["sizes"] for image in made["images"]}
    for name in ("layers", "merged", "alone"):
        assert sizes["cuda"][name] < sizes["jetpack"][name]
    assert sizes["cuda"]["layers"] < 6_500_000_000
    assert built[0].images


def test_links_are_kept_and_no_library_is_there_twice(built: tuple[Record, Path, str], running: Engine) -> None:
    text = (built[1] / "reports/cuda-cudnn/cudnn.tsv").read_text()
    rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(text), delimiter="\t"))
    kinds = {row["type"] for row in rows}
    assert {"file", "link"} <= kinds
    assert any("libcudnn.so.9" in row["path"] and row["type"] == "link" for row in rows)
    assert any("libcupti.so" in row["path"] for row in rows)
    real = in_image(running, "cuda", "sh", "-c", "find / -xdev -type f -name 'libcudnn.so*'").split()
    assert len(real) == 1


def test_nothing_that_builds_is_in_the_small_image(built: tuple[Record, Path, str], running: Engine) -> None:
    packages = in_image(running, "cuda", "dpkg-query", "-W", "-f", "${Package}\\n").split()
    assert built[0].images
    builders = {"g++", "gcc", "cpp", "cmake", "ninja-build", "make", "ccache", "build-essential"}
    compilers = [name for name in packages if re.fullmatch(r"(g\+\+|gcc|cpp)-\d+", name) or name in builders]
    assert not [name for name in packages if name.endswith("-dev")] + compilers
    assert {"python3", "tzdata", "ca-certificates"} <= set(packages)


def test_ours_wins_over_the_older_gdal_of_the_base(built: tuple[Record, Path, str], running: Engine) -> None:
    assert built[0].images
    assert "3.6.2" in in_image(running, "jetpack", "/usr/bin/gdalinfo", "--version")
    for image in ("jetpack", "cuda"):
        assert "3.10.3" in in_image(running, image, "gdalinfo", "--version")


def test_the_bases_environment_is_kept_and_labels_say_where_it_comes_from(
    built: tuple[Record, Path, str], running: Engine
) -> None:
    facts = image_store.inspect_image(running, "jetpare/cuda:rehearsal")
    assert facts is not None
    assert facts.env["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility,video"
    assert facts.env["PATH"].startswith("/opt/venv/bin:")
    assert facts.labels["jetpare.profile"] == "rehearsal"
    assert "stand-in" in facts.labels["org.opencontainers.image.base.name"]
    assert facts.labels.get("org.opencontainers.image.revision") == built[0].revision


def test_a_second_build_changes_nothing(built: tuple[Record, Path, str], running: Engine) -> None:
    invoke(running, "build-all", "--profile", "rehearsal")
    again, _ = newest("build-all")
    assert again.id != built[0].id
    assert {row.cache for row in again.stages} == {"cached"}
    assert [image.id for image in again.images] == [image.id for image in built[0].images]


def test_a_compile_with_a_warm_cache_is_called_warm(built: tuple[Record, Path, str], running: Engine) -> None:
    assert built[0].images
    invoke(running, "compile-gdal", "--image", "cuda", "--no-cache", "--profile", "rehearsal")
    record, folder = newest("gdal")
    row = record.stage("cuda/gdal")
    assert row is not None
    assert row.cache == "warm"
    assert "ccache" in row.why
    counts = json.loads((folder / str(row.report) / "gdal.json").read_text())["ccache"]
    assert counts["hits"] > 10 * max(counts["misses"], 1)


def test_slim_is_smaller_and_every_image_works_when_run_with_the_same_results(
    built: tuple[Record, Path, str], running: Engine
) -> None:
    assert built[0].images
    assert "slim is" in invoke(running, "build-all", "--profile", "rehearsal", "--image", "slim")
    sizes = {
        image["name"]: image["sizes"]["layers"]
        for image in json.loads(invoke(running, "compare", "--profile", "rehearsal", "--json"))["images"]
    }
    assert sizes["cuda"] - sizes["slim"] > 250_000_000
    found = json.loads(invoke(running, "audit", "--profile", "rehearsal", "--image", "slim", "--json"))
    assert found["counts"]["error"] == 0
    outcome = json.loads(invoke(running, "verify", "--profile", "rehearsal", "--json"))
    assert outcome["works"]
    assert outcome["differing"] == outcome["unused"] == []
    assert [image["image"] for image in outcome["images"]] == ["jetpack", "cuda", "slim"]
    for image in outcome["images"]:
        status = {row["name"]: row["status"] for row in image["rows"]}
        assert status["import torchvision"] == status["torch LSTM"] == status["gdal"] == "ok"
        assert sum(name.startswith("load ") and value == "ok" for name, value in status.items()) > 30
        assert status["GPU LSTM (cuDNN)"] == ("ok" if image["gpu"] else "not measured")


def test_an_image_that_lost_a_library_fails_when_run(built: tuple[Record, Path, str], running: Engine) -> None:
    """libtorch_cpu links CUPTI, which has nothing to do with cuDNN: the classic thing to forget."""
    assert built[0].images
    with api.client(running) as docker:
        container = docker.containers.create(
            "jetpare/cuda:rehearsal", ["sh", "-c", "rm /usr/local/cuda/targets/*/lib/libcupti.so*"], user="0"
        )
        try:
            container.start()
            container.wait()
            broken = str(container.commit(repository="jetpare-broken/verify").id)
        finally:
            container.remove(force=True)
    try:
        outcome = verify.run(running, {"broken": broken}, state=ROOT / ".jetpare", say=print)
    finally:
        image_store.remove_image(running, "jetpare-broken/verify")
    failed = {row.name: row.detail for row in outcome.images[0].rows if row.status == verify.FAILED}
    assert not outcome.works
    assert "libcupti.so.12" in failed["import torch"]
    assert "gdal" not in failed

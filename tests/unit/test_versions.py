"""Versions of an image that no run record tells of: its own report first, then its files, and no guess."""

from __future__ import annotations

import json

import pytest

from jetpare.base.probe_report import PLACE
from jetpare.base.versions import ImageCheck
from jetpare.compare.contents import contents, with_contents
from jetpare.image.attribution import attribute
from jetpare.image.inventory import Distribution, Package
from jetpare.image.version_sources import BY_FILES, BY_REPORT, told
from tests.comparisons import CHECKS, figures
from tests.inventories import image

CONTENT = {
    "schema": 1,
    "versions": {"gdal": "3.10.3", "tensorrt": None},
    "checks": [{"name": "gdal", "status": "ok", "detail": "warped", "seconds": 0.1}],
}


def package(name: str, version: str) -> Package:
    return Package(name=name, version=version, architecture="arm64")


def distribution(name: str, version: str, where: str = "/opt/venv") -> Distribution:
    return Distribution(name=name, version=version, location=where, info=f"{where}/{name}.dist-info")


def test_the_report_that_an_image_brings_along_counts_first() -> None:
    found = told(image({"/x/libcudart.so.12.6.77": 1}, texts={PLACE: json.dumps(CONTENT)}))
    assert found.versions == CONTENT["versions"]
    assert found.checks == (ImageCheck(name="gdal", status="ok", detail="warped", seconds=0.1),)
    assert found.notes == (BY_REPORT,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        '{"versions": []}',
        '{"versions": {}, "checks": [1]}',
        "[" * 9999,
        '{"versions": {"gdal": 3}}',
    ],
)
def test_what_is_no_report_is_left_aside(text: str) -> None:
    found = told(image({"/x/libcudart.so.12.6.77": 1}, texts={PLACE: text}))
    assert found.versions == {"cuda_runtime": "12.6.77"}
    assert found.checks == ()
    assert found.notes == (BY_FILES,)


def test_versions_by_files_and_packages() -> None:
    held = image(
        {
            "/usr/local/cuda/lib/libcudart.so.12": "-> libcudart.so.12.6.77",
            "/usr/local/cuda/lib/libcudart.so.12.6.77": 1,
            "/usr/lib/libcudnn.so.9.10.2": 1,
            "/usr/lib/libcudnn_ops.so.9.9.9": 1,
            "/usr/local/lib/libgdal.so.36.3.10.3": 1,
            "/usr/lib/ogdi/4.1/libgdal.so": 1,
        },
        packages=(
            package("python3.11", "3.11.2-6+deb12u9"), package("libc6", "2.36-9+deb12u14"), package("python3", "3.9"),
            package("nvidia-l4t-core", "36.4.0-20240912212859"),
        ),
        distributions=(distribution("torch", "2.8.0+cu126"), distribution("NumPy", "1.26.4")),
    )  # fmt: skip
    assert told(held).versions == {
        "python": "3.11.2", "glibc": "2.36", "torch": "2.8.0+cu126", "numpy": "1.26.4", "gdal": "3.10.3",
        "cuda_runtime": "12.6.77", "cudnn": "9.10.2", "l4t": "36.4.0",
    }  # fmt: skip


def test_of_several_versions_none_is_guessed() -> None:
    held = image({}, distributions=(distribution("numpy", "1.26.4"), distribution("numpy", "1.24.2", "/usr/lib")))
    found = told(held)
    assert found.versions == {"numpy": None}
    assert found.notes == (BY_FILES, "numpy: 1.24.2 and 1.26.4 are there")


def test_the_release_file_of_a_jetson() -> None:
    text = "# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic, EABI: aarch64"
    assert told(image({}, texts={"/etc/nv_tegra_release": text})).versions == {"l4t": "36.4.0"}
    assert told(image({})).versions == {}
    assert told(image({})).notes == ()


def test_a_record_is_believed_before_the_image() -> None:
    held = image({"/x": 1}, texts={PLACE: json.dumps(CONTENT)})
    found = contents(held, None, attribute(held, groups={}))
    known = with_contents(figures("cuda"), found)
    assert known.checks == CHECKS
    assert BY_REPORT not in known.notes
    unknown = with_contents(figures("cuda", versions=(), checks=()), found)
    assert [row.component for row in unknown.versions] == ["gdal", "tensorrt"]
    assert [check.name for check in unknown.checks] == ["gdal"]
    assert BY_REPORT in unknown.notes

"""Building for another architecture: by a compiler of this one's own, with only what must run emulated."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from jetpare.build import bootstrap, doctor
from jetpare.engine import api, image_store
from jetpare.engine.model import Engine
from tests.conftest import ROOT
from tests.engine.conftest import Mini

pytestmark = pytest.mark.engine

OTHER = {"amd64": "arm64", "arm64": "amd64"}
GDAL = """FROM --platform=${BUILDER_PLATFORM} builder AS gdal
ARG REBUILD_GDAL
ARG CROSS
ARG GDAL_VERSION
RUN --mount=type=bind,source=scripts/image,target=/run/jetpare \\
    --mount=type=bind,from=base,target=/run/target \\
    TARGET=/run/target /run/jetpare/build-packages.sh gcc libc6-dev zlib1g-dev
RUN --mount=type=bind,source=scripts/image,target=/run/jetpare \\
    . /run/jetpare/cross.sh && mkdir -p /opt/stage/usr/local/bin /opt/report && \\
    printf '#include <stdio.h>\\n#include <zlib.h>\\nint main(void) { puts(*zlibVersion() ? "%s" : ""); return 0; }\\n' \\
    "${GDAL_VERSION}" >/tmp/info.c && \\
    "${triple}-gcc" -o /opt/stage/usr/local/bin/gdalinfo /tmp/info.c -lz && /opt/stage/usr/local/bin/gdalinfo && \\
    uname -m >/opt/report/machine && echo '{"schema": 1}' >/opt/report/gdal.json
"""


@pytest.fixture(scope="module")
def other(running: Engine) -> str:
    """The other architecture, whose programs this machine can run."""
    name = OTHER[api.facts(running).arch]
    host = api.facts(running).platform
    found = doctor.check_platform(host, f"linux/{name}", Path("/"), local=True, cross=True)
    if found.status != "ok":
        if os.environ.get("CI"):
            pytest.fail(f"{found.detail}. {found.advice}")
        pytest.skip(found.detail)
    return name


@pytest.fixture(scope="module")
def crossing(running: Engine, fresh: Callable[[], Mini], other: str) -> Mini:
    """A miniature whose small image is compiled by real scripts on a builder, and built for the other architecture."""
    mini = fresh()
    base = f"jetpare-mini/debian:bookworm-{other}"
    bootstrap.bootstrap_base(running, name=base, suite="bookworm", arch=other, environ=dict(os.environ))
    image_store.tag_image(running, base, f"{mini.name}/debian:bookworm-{other}")
    shutil.copytree(ROOT / "scripts", mini.root / "scripts")
    debian = 'debian = { suite = "bookworm" }\n'
    mini.edit("build.toml", debian, f"{debian}{debian.replace('debian', 'builder', 1)}")
    dockerfile = mini.root / "dockerfiles/images.Dockerfile"
    parts = re.split(r"(?m)^(?=FROM )", dockerfile.read_text())
    parts = [GDAL if "AS gdal\n" in part else part for part in parts]
    dockerfile.write_text("ARG BUILDER_PLATFORM=${TARGETPLATFORM}\n" + "".join(parts))
    mini.ok("build-all", "--image", "cuda", "--platform", f"linux/{other}")
    return mini


def test_what_is_compiled_here_runs_there(crossing: Mini, other: str) -> None:
    profile = f"mini-{other}"
    facts = image_store.inspect_image(crossing.engine, crossing.tag("cuda", profile))
    assert facts is not None
    assert facts.platform == f"linux/{other}"
    own = {"amd64": "x86_64", "arm64": "aarch64"}
    built_on = crossing.file(crossing.row("cuda/gdal").report) / "machine"
    assert built_on.read_text().strip() == own[OTHER[other]]
    # Run in the image while it was built: a program that a compiler of this machine made for the other one.
    assert crossing.newest().images[0].versions["gdal"] == "1.0"
    assert crossing.newest().platform == f"linux/{other}"
    assert crossing.image_id("cuda") is None


def test_times_that_are_no_time_of_the_target_are_marked(crossing: Mini, other: str) -> None:
    marks = {row.label: row.marks for row in crossing.newest().stages}
    assert marks["cuda/gdal"] == (f"cross-built on linux/{OTHER[other]}",)
    assert marks["cuda/runtime"] == (f"emulated on linux/{OTHER[other]}",)
    again = crossing.ok("compile-gdal", "--no-cache", "--profile", f"mini-{other}").out
    assert "cross-built on" in again
    assert f"say nothing about a linux/{other} machine" in again


def test_the_name_of_such_a_profile_can_be_asked_for(crossing: Mini, other: str) -> None:
    assert "gdalinfo" in crossing.ok("logs", "gdal", "--profile", f"mini-{other}").out
    assert crossing("logs", "gdal", "--profile", "mini").code == 9
    refused = crossing("build-all", "--platform", "linux/arm46")
    assert refused.code == 2
    assert "linux/arm64" in refused.err

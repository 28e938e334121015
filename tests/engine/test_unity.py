"""GDAL in units against GDAL compiled plainly: the real library, twice."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from jetpare.config.load import load_config
from jetpare.engine.model import Engine
from tests.conftest import ROOT

pytestmark = [pytest.mark.engine, pytest.mark.rehearsal]


def test_the_library_in_units_is_the_plain_one(running: Engine) -> None:
    """The unit build comes from the layer cache when the images were built before; the plain one is compiled here."""
    version = load_config(ROOT / "build.toml").profiles["rehearsal"].gdal
    assert (ROOT / f"scripts/image/gdal-unity/{version}.txt").exists()
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/unity.py", "proof", "--profile", "rehearsal"],
        cwd=ROOT, env={**os.environ, **running.overrides}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"differences": []' in done.stdout

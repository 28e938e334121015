"""What every test shares: no process starts by accident, and engine tests know whether they may be skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from jetpare.base.errors import JetpareError
from jetpare.engine import discovery
from jetpare.engine.model import Engine

ROOT = Path(__file__).parent.parent
MINI = ROOT / "tests" / "mini"

# A machine that is slow, or under load from the tests next to this one, is not a fault.
settings.register_profile("any machine", deadline=None, suppress_health_check=(HealthCheck.too_slow,))
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _no_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit test that starts a process fails; one that has to is marked `processes`."""
    if any(request.node.get_closest_marker(marker) for marker in ("engine", "processes", "browser")):
        return

    def refuse(*args: Any, **_: Any) -> None:
        raise AssertionError(f"a unit test started a process: {args}")

    monkeypatch.setattr(subprocess, "Popen", refuse)


@pytest.fixture(scope="session")
def running() -> Engine:
    """The engine that the tests use: the environment's, or this project's private one. Without one: skipped, in CI failed."""
    try:
        return discovery.find(state=ROOT / ".jetpare", environ=dict(os.environ))
    except JetpareError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs an engine: {error}")
        pytest.skip(f"no engine answers: {error}")


@pytest.fixture
def mini(tmp_path: Path) -> Path:
    """A miniature project in a folder of its own."""
    folder = tmp_path / "mini"
    shutil.copytree(MINI, folder)
    return folder

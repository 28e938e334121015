"""What running an image leaves behind, whatever the image, a signal or a kill does to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from jetpare.audit import verify
from jetpare.base.errors import EngineError
from jetpare.engine import api, containers, image_store
from jetpare.engine.model import Engine
from jetpare.project.project import host_architecture
from tests.conftest import ROOT
from tests.engine.test_xray import HANG, Make, liar, loader, make, own_python, program, tar_of

__all__ = ["make"]  # a fixture
pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(host_architecture() != "amd64", reason="the programs are x86-64"),
]
# write(1, it, 4096) for ever
CHATTER = b"\xb8\x01\0\0\0\xbf\x01\0\0\0\xbe\x00\x00\x40\x00\xba\x00\x10\0\0\x0f\x05\xeb\xe8"


def python(code: bytes) -> bytes:
    """An image whose python3 is a program of its own."""
    return tar_of({}, {"usr/bin/python3": code})


def left(running: Engine, reference: str) -> list[str]:
    """The containers there are of an image."""
    with api.client(running) as docker:
        facts = image_store.inspect_image(running, reference)
        assert facts is not None
        return [each["Names"][0] for each in docker.api.containers(all=True, filters={"ancestor": facts.id})]


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> Any:
    until = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def cli(mark: str) -> list[int]:
    """The processes of the Docker CLI that wait for a container called *mark*."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.lstrip("/").encode() in words and b"run" in words:
            found.append(int(path.parent.name))
    return found


def one(running: Engine, reference: str, state: Path) -> verify.Verification:
    facts = image_store.inspect_image(running, reference)
    assert facts is not None
    (found,) = verify.run(running, {"liar": facts.id}, state=state, say=print).images
    assert left(running, reference) == []
    return found


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (liar(b'{"versions":{},"rows":[]}\n'), "its report cannot be read: 19 checks that are always made are missing"),
        (program(CHATTER), "it said more than 256 MB"),
    ],
)
def test_an_image_that_lies_does_not_work(code: bytes, why: str, running: Engine, make: Make, tmp_path: Path) -> None:
    found = one(running, make(python(code), changes=["ENV PATH=/usr/bin"]), tmp_path)
    assert why in found.trouble
    assert not found.works
    assert verify.load(tmp_path, found.image_id) is None


def started(words: Sequence[str], root: Path, running: Engine) -> subprocess.Popen[str]:
    environ = {**os.environ, **running.overrides, "JETPARE_ROOT": str(root), "DOCKER_HOST": running.host}
    argv = [sys.executable, "-m", "invoke", "--search-root", str(ROOT), *words]
    return subprocess.Popen(argv, env=environ, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("task", ["verify", "audit"])
def test_a_command_that_is_told_to_end_leaves_no_container(task: str, running: Engine, make: Make, mini: Path) -> None:
    reference = make(python(program(HANG)), changes=["ENV PATH=/usr/bin"])
    with started([task, "--image", reference], mini, running) as run:
        assert wait_for(lambda: left(running, reference)), run.communicate(timeout=5)
        run.send_signal(signal.SIGTERM)
        out, err = run.communicate(timeout=30)
    assert (run.returncode, out) == (130, ""), err
    assert "Interrupted." in err
    assert left(running, reference) == []


@pytest.mark.parametrize("task", ["verify", "audit"])
def test_what_a_kill_leaves_goes_the_next_time(task: str, running: Engine, make: Make, mini: Path) -> None:
    """The image's own program does not mind the CLI's SIGTERM, so that only its end ends the CLI."""
    reference = make(python(program(HANG)), changes=["ENV PATH=/usr/bin"])
    with started([task, "--image", reference], mini, running) as run:
        (name,) = wait_for(lambda: left(running, reference))
        run.kill()
    with api.client(running) as docker:
        containers.remove_orphans(docker)
    assert left(running, reference) == []
    assert wait_for(lambda: not cli(name), 5)


def test_a_kill_ends_the_checks_of_a_python_that_works(running: Engine, make: Make, mini: Path) -> None:
    """Nobody comes to tidy up: the kernel ends the CLI, which passes that on."""
    binary = Path(sys.executable).resolve()
    data = tar_of({"/usr/bin/python3": f"-> {binary}"}, loader(), own_python())
    reference = make(data, changes=["ENV PATH=/usr/bin"])

    def checks() -> bool:
        with suppress(EngineError), api.client(running) as docker:  # there, but not started yet
            calls: Any = docker.api
            stats = [calls.stats(each[1:], stream=False, one_shot=True) for each in left(running, reference)]
            return any(each["pids_stats"].get("current", 0) > 1 for each in stats)
        return False

    with started(["verify", "--image", reference], mini, running) as run:
        assert wait_for(checks), run.communicate(timeout=5)
        run.kill()
    assert wait_for(lambda: left(running, reference) == [])

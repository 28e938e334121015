"""A private engine of a test's own, beside whatever else runs here: both stores, a crash, and nothing left behind."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jetpare import engine, private_engine, process
from jetpare.errors import EngineError
from jetpare.private_engine import Places

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.engine

LINUX_ROOT = os.geteuid() == 0 and shutil.which("apt-get") is not None


def clean_environ() -> dict[str, str]:
    """This environment, pointing to no engine."""
    return {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if not LINUX_ROOT:
        if os.environ.get("CI"):
            pytest.fail("a private engine needs root and apt")
        pytest.skip("a private engine needs root and apt")
    # Deeper than a unix socket's path may be long.
    state = tmp_path_factory.mktemp("deep") / ("a-deep-project-folder-" * 5) / "state"
    yield state
    private_engine.down(state=state, purge=True)
    places = Places.of(state)
    assert leftovers(places) == []
    assert not places.home.exists()


def leftovers(places: Places) -> list[str]:
    """Whatever of the engine is still on this host after `down`."""
    found = [f"process {pid}: {words}" for pid, words in private_engine._processes() if places.mark in " ".join(words)]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(places.home) in line]
    found += [str(path) for path in (places.run, Path("/sys/class/net", places.bridge)) if path.exists()]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{places.mark}")]
    if (places.rootfs / "usr/sbin/iptables-nft").exists():
        for table in ("nat", "filter"):
            words = ["chroot", str(places.rootfs), "iptables-nft", "-t", table, "-S"]
            rules = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            found += [rule for rule in rules.splitlines() if places.bridge in rule]
    return found


def load_tiny_image(target: engine.Engine, name: str) -> None:
    """An image with one file of 1000 bytes under two names and a file of 24 bytes; nothing in it can run."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, size in (("data/thousand", 1000), ("data/small", 24)):
            member = tarfile.TarInfo(path)
            member.size = size
            tar.addfile(member, io.BytesIO(b"x" * size))
        link = tarfile.TarInfo("data/again")
        link.type, link.linkname = tarfile.LNKTYPE, "data/thousand"
        tar.addfile(link)
    process.run([target.docker, "import", "-", name], env=target.env, stdin=archive.getvalue())


@pytest.mark.parametrize("store", ["overlay2", "containerd"])
def test_up_measure_down(state: Path, store: private_engine.Store) -> None:
    lines: list[str] = []
    environ = clean_environ()
    up = private_engine.up(state=state, environ=environ, store=store, say=lines.append)
    try:
        assert engine.find(state=state, environ=environ) == up
        said = engine.facts(up)
        assert said.store == store
        assert said.buildx is not None
        again = private_engine.up(state=state, environ=environ, store=store, say=lines.append)
        assert again == up
        assert "up already" in lines[-1]
        other: private_engine.Store = "containerd" if store == "overlay2" else "overlay2"
        with pytest.raises(EngineError, match="engine-down"):
            private_engine.up(state=state, environ=environ, store=other)

        load_tiny_image(up, "tiny:base")
        dockerfile = b"FROM tiny:base\nWORKDIR /deep/er\nCOPY <<EOF /new\n12345\nEOF\nENV A=1\n"
        process.run([up.docker, "buildx", "build", "--provenance=false", "--tag", "tiny:child", "-"],
                    env=up.env, stdin=dockerfile)  # fmt: skip
        base, child = engine.inspect_image(up, "tiny:base"), engine.inspect_image(up, "tiny:child")
        assert base is not None
        assert child is not None
        assert engine.inspect_image(up, "tiny:nothing") is None
        assert child.env["A"] == "1"
        assert child.layer_count == 3
        assert child.layers is not None
        assert child.layer_ids[0] == base.layer_ids[0]
        base_share, child_share = engine.shared_bytes([base, child])
        assert base_share is not None
        assert child_share is not None
        assert base_share.alone_bytes == 0
        assert base_share.shared_bytes == child_share.shared_bytes == base.layers_bytes
        assert engine.merged_bytes(up, base.id) == 1024
        assert engine.merged_bytes(up, child.id) == 1030
        if child.layers_exact:
            assert (base.layers_bytes, child.layers_bytes) == (1024, 1030)
        with engine.client(up) as docker:
            assert docker.api.containers(all=True) == []

        engine.tag_image(up, child.id, "tiny:other")
        assert engine.remove_image(up, "tiny:other")
        assert not engine.remove_image(up, "tiny:other")
    finally:
        private_engine.down(state=state, purge=False)
    assert leftovers(Places.of(state)) == []
    with pytest.raises(EngineError, match="engine-up"):
        engine.find(state=state, environ={**environ, "PATH": "/nonexistent"})


def test_up_recovers_after_a_crash(state: Path) -> None:
    environ = clean_environ()
    places = Places.of(state)
    private_engine.up(state=state, environ=environ)
    for pid, words in list(private_engine._processes()):
        if words[0] == "dockerd" and f"jetpare.engine={places.mark}" in words:
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while private_engine.supervisor(places) is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert private_engine.supervisor(places) is None
    assert places.socket.exists()
    up = private_engine.up(state=state, environ=environ)
    assert engine.not_answering(up) == ""
    private_engine.down(state=state, purge=False)
    assert leftovers(places) == []


def test_an_engine_that_cannot_start_says_why(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_engine, "KEEP_CACHE", "many")
    with pytest.raises(EngineError, match=r"dockerd\.log:\n(.|\n)*many"):
        private_engine.up(state=state, environ=clean_environ())
    assert leftovers(Places.of(state)) == []

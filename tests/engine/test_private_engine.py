"""A private engine of a test's own, beside whatever else runs here: both stores, a crash, and nothing left behind."""

from __future__ import annotations

import io
import os
import signal
import tarfile
import time
from pathlib import Path

import pytest

from jetpare.base import process
from jetpare.base.errors import EngineError
from jetpare.compare.differences import split_layers
from jetpare.engine import api, containers, discovery, image_store, private
from jetpare.engine.folders import EngineFolders
from jetpare.engine.model import Engine
from tests.engine.conftest import clean_environ, leftovers

pytestmark = pytest.mark.engine


def load_tiny_image(target: Engine, name: str) -> None:
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
def test_up_measure_down(private_state: Path, store: private.Store) -> None:
    lines: list[str] = []
    environ = clean_environ()
    up = private.up(state=private_state, environ=environ, store=store, say=lines.append)
    try:
        assert discovery.find(state=private_state, environ=environ) == up
        said = api.facts(up)
        assert said.store == store
        assert said.buildx is not None
        again = private.up(state=private_state, environ=environ, store=store, say=lines.append)
        assert again == up
        assert "runs already" in lines[-1]
        other: private.Store = "containerd" if store == "overlay2" else "overlay2"
        with pytest.raises(EngineError, match="engine-down"):
            private.up(state=private_state, environ=environ, store=other)

        load_tiny_image(up, "tiny:base")
        dockerfile = b"FROM tiny:base\nWORKDIR /deep/er\nCOPY <<EOF /new\n12345\nEOF\nENV A=1\n"
        process.run([up.docker, "buildx", "build", "--provenance=false", "--tag", "tiny:child", "-"],
                    env=up.env, stdin=dockerfile)  # fmt: skip
        base, child = image_store.inspect_image(up, "tiny:base"), image_store.inspect_image(up, "tiny:child")
        assert base is not None
        assert child is not None
        assert image_store.inspect_image(up, "tiny:nothing") is None
        assert child.env["A"] == "1"
        assert child.layer_count == 3
        assert child.layers is not None
        assert child.layer_ids[0] == base.layer_ids[0]
        assert base.layers is not None
        sizes = {"base": base.layers, "child": child.layers}
        alone, shared = split_layers(
            {name: tuple((layer.diff_id, layer.size) for layer in layers) for name, layers in sizes.items()}
        )
        assert alone["base"] == 0
        assert shared == base.layers_bytes
        assert containers.merged_bytes(up, base.id) == 1024
        assert containers.merged_bytes(up, child.id) == 1030
        if child.layers_exact:
            assert (base.layers_bytes, child.layers_bytes) == (1024, 1030)
        with api.client(up) as docker:
            assert docker.api.containers(all=True) == []

        image_store.tag_image(up, child.id, "tiny:other")
        assert image_store.remove_image(up, "tiny:other")
        assert not image_store.remove_image(up, "tiny:other")
    finally:
        private.down(state=private_state, purge=False)
    assert leftovers(EngineFolders.of(private_state)) == []
    with pytest.raises(EngineError, match="engine-up"):
        discovery.find(state=private_state, environ={**environ, "PATH": "/nonexistent"})


def test_up_recovers_after_a_crash(private_state: Path) -> None:
    environ = clean_environ()
    folders = EngineFolders.of(private_state)
    private.up(state=private_state, environ=environ)
    for pid, words in list(private.running_processes()):
        if words[0] == "dockerd" and f"jetpare.engine={folders.mark}" in words:
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while private.supervisor(folders) is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert private.supervisor(folders) is None
    assert folders.socket.exists()
    up = private.up(state=private_state, environ=environ)
    assert api.not_answering(up) == ""
    private.down(state=private_state, purge=False)
    assert leftovers(folders) == []


def test_an_engine_that_cannot_start_says_why(private_state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "KEEP_CACHE", "many")
    with pytest.raises(EngineError, match=r"dockerd\.log:\n(.|\n)*many"):
        private.up(state=private_state, environ=clean_environ())
    assert leftovers(EngineFolders.of(private_state)) == []

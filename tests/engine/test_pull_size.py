"""Compressed sizes, against what `docker push` really sends to a registry and `docker pull` really gets from it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from jetpare.base import process
from jetpare.compare.pull_size import METHODS, Method, PullSize, pull_size
from jetpare.engine import api, containers, image_store, private
from jetpare.engine.model import Engine, ImageFacts
from tests.engine.conftest import clean_environ
from tests.registry import Registry, registry

pytestmark = pytest.mark.engine

INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture(scope="module", params=["given", "containerd"])
def target(request: pytest.FixtureRequest, running: Engine) -> Iterator[Engine]:
    """The engine of all tests, and one with the containerd store."""
    if request.param == "given":
        yield running
        return
    state = request.getfixturevalue("private_state")
    yield private.up(state=state, environ=clean_environ(), store="containerd")
    private.down(state=state, purge=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry."""
    with registry(tmp_path_factory.mktemp("registry")) as made:
        yield made


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """An image that was pushed: its name in the registry, what the engine says of it, and what the registry got."""

    target: Engine
    name: str
    reference: str
    manifest: dict[str, Any]
    sent: tuple[int, ...]  # by layer
    config: int

    @property
    def bytes(self) -> int:
        """All that was sent but the manifest: the layers, each distinct one once, and the config."""
        digests = [layer["digest"] for layer in self.manifest["layers"]]
        return sum(dict(zip(digests, self.sent, strict=True)).values()) + self.config

    @property
    def containerd(self) -> bool:
        """Whether the engine keeps images in containerd's store, compressed as they are."""
        return api.facts(self.target).store == "containerd"

    def facts(self) -> ImageFacts:
        """What the engine says now."""
        found = image_store.inspect_image(self.target, self.reference)
        assert found is not None
        return found

    def docker(self, *words: str | Path) -> str:
        """Type `docker *words*`."""
        return process.run([self.target.docker, *words], env=self.target.env)


@pytest.fixture(scope="module")
def pushed(target: Engine, store: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    """Two layers that compress well and badly, and a third, which is the first again or, to BuildKit, empty; pushed."""
    folder = tmp_path_factory.mktemp("image")
    name = f"jetpare-test-{os.getpid()}-{'c' if target.private else 'g'}"
    library = Path(os.__file__).parent
    (folder / "text").write_bytes(b"".join(path.read_bytes() for path in sorted(library.glob("*.py"))))
    (folder / "code").write_bytes(Path(sys.executable).resolve().read_bytes() + os.urandom(1 << 20))
    os.utime(folder / "text", (0, 0))
    lines = "FROM scratch", "COPY text /", "COPY code /", "COPY text /", f"LABEL name={name}"
    (folder / "Dockerfile").write_text("\n".join(lines) + "\n")
    reference = f"{store.address}/{name}:latest"
    words = ("buildx", "build", "--quiet", "--provenance=false", "--tag", reference, str(folder))
    process.run([target.docker, *words], env=target.env)
    process.run([target.docker, "push", "--quiet", reference], env=target.env)
    manifest = store.manifest(name, "latest")
    yield Pushed(
        target=target,
        name=name,
        reference=reference,
        manifest=manifest,
        sent=tuple(store.blob_size(layer["digest"]) for layer in manifest["layers"]),
        config=store.blob_size(manifest["config"]["digest"]),
    )
    image_store.remove_image(target, reference)


def unpushed(pushed: Pushed) -> ImageFacts:
    """The same image as if it were in no registry."""
    return replace(pushed.facts(), repo_digests=())


def test_a_pushed_image_takes_what_was_sent(pushed: Pushed, store: Registry, tmp_path: Path) -> None:
    assert len(pushed.sent) == 3
    assert len({layer["digest"] for layer in pushed.manifest["layers"]}) == (3 if pushed.containerd else 2)
    found = pull_size(pushed.target, pushed.facts(), state=tmp_path)
    if pushed.containerd:
        manifest = len((store.folder / f"{pushed.name}@latest").read_bytes())
        assert found == PullSize(bytes=pushed.bytes + manifest, how=found.how)
        assert "containerd store" in found.how
    else:
        assert found == PullSize(bytes=pushed.bytes, how=found.how, layers=pushed.sent)
        assert f"registry's manifest of {store.address}/{pushed.name}" in found.how


def test_a_pulled_image_takes_what_was_sent(pushed: Pushed, tmp_path: Path) -> None:
    image_store.remove_image(pushed.target, pushed.reference)
    assert image_store.inspect_image(pushed.target, pushed.reference) is None
    pushed.docker("pull", "--quiet", pushed.reference)
    found = pull_size(pushed.target, pushed.facts(), state=tmp_path, compute="gzip")
    assert (found.bytes, found.layers) == (pushed.bytes, pushed.sent)
    assert "registry" in found.how


def test_gzip_is_computed_to_what_push_sends(pushed: Pushed, tmp_path: Path) -> None:
    found = pull_size(pushed.target, unpushed(pushed), state=tmp_path, compute="gzip")
    assert found.bytes is not None
    assert found.layers is not None
    assert METHODS["gzip"] in found.how
    assert found.bytes == pytest.approx(pushed.bytes, rel=0.02)
    assert found.layers == pytest.approx(pushed.sent, rel=0.02)
    if pushed.containerd:  # it is read as it is stored
        assert found.layers == pushed.sent
        assert found.bytes == pushed.bytes


def test_zstd_is_computed(pushed: Pushed, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    found = pull_size(
        pushed.target, pushed.facts(), state=tmp_path, compute="zstd", tell=lambda *each: seen.append(each)
    )
    assert found.bytes is not None
    assert METHODS["zstd"] in found.how
    assert found.bytes == pytest.approx(pushed.bytes, rel=0.1)
    assert found.layers is not None
    assert not set(found.layers) & set(pushed.sent)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    total = seen[0][1]
    assert total
    assert 0.5 * total < seen[-1][0] < 2 * total


@pytest.mark.parametrize("method", METHODS)
def test_what_was_computed_is_not_computed_again(
    pushed: Pushed, method: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pull_size(pushed.target, unpushed(pushed), state=tmp_path, compute=method)
    monkeypatch.setattr(containers, "saved", None)
    assert pull_size(pushed.target, unpushed(pushed), state=tmp_path, compute=method) == first


def test_of_several_platforms_the_images_own_counts(pushed: Pushed, store: Registry, tmp_path: Path) -> None:
    raw = (store.folder / f"{pushed.name}@latest").read_bytes()
    own = {
        "mediaType": pushed.manifest["mediaType"],
        "digest": f"sha256:{hashlib.sha256(raw).hexdigest()}",
        "size": len(raw),
    }
    system, _, machine = pushed.facts().platform.partition("/")
    foreign = store.put_manifest(f"{pushed.name}/many", {"config": {}, "layers": []}, own["mediaType"])
    (store.folder / f"{pushed.name}/many@{own['digest']}").write_bytes(raw)
    entries = [
        {**own, "digest": foreign, "platform": {"os": system, "architecture": "s390x"}},
        {**own, "platform": {"os": system, "architecture": machine}},
        {**own, "digest": foreign, "platform": {"os": "unknown", "architecture": "unknown"}},
    ]
    digest = store.put_manifest(f"{pushed.name}/many", {"schemaVersion": 2, "manifests": entries}, INDEX)
    facts = replace(pushed.facts(), repo_digests=(f"{store.address}/{pushed.name}/many@{digest}",))
    found = pull_size(pushed.target, facts, state=tmp_path, compute="gzip")
    assert (found.bytes, found.layers) == (pushed.bytes, pushed.sent)


def test_a_registry_that_is_gone_is_a_reason(pushed: Pushed, tmp_path: Path) -> None:
    with registry(tmp_path) as gone:
        pass
    reference = f"{gone.address}/{pushed.name}"
    facts = replace(pushed.facts(), store="overlay2", repo_digests=(f"{reference}@sha256:{'0' * 64}",))
    found = pull_size(pushed.target, facts, state=tmp_path)
    assert found.bytes is None
    assert f"{reference} cannot be asked" in found.how
    assert "refused" in found.how

"""Compressed sizes: what is counted, where it comes from, and what is said where there is none."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from jetpare.base import process
from jetpare.base.errors import EngineError, ToolError
from jetpare.compare import pull_size
from jetpare.compare.pull_size import METHODS, Method, PullSize
from jetpare.engine import api, containers, disk, image_store
from jetpare.engine.model import Engine, ImageFacts, LayerFacts

ENGINE = Engine(docker="docker", env={}, overrides={}, private=False)
LAYERS = tuple(f"sha256:{digit * 64}" for digit in "12")
OCI = "application/vnd.oci.image.layer.v1.tar"
CONTENT = {LAYERS[0]: b"text " * 300_000, LAYERS[1]: random.Random(1).randbytes(2_500_000)}  # noqa: S311 - any bytes


def image(*, store: str = "overlay2", digests: tuple[str, ...] = (), layers: tuple[str, ...] = LAYERS) -> ImageFacts:
    return ImageFacts(
        reference="demo",
        id="sha256:" + "c" * 64,
        created=None,
        platform="linux/amd64",
        labels={},
        env={},
        repo_digests=digests,
        store=store,
        layer_ids=layers,
        layers=tuple(LayerFacts(diff_id=layer, size=10) for layer in layers),
        layers_bytes=20,
        engine_bytes=1234,
    )


def archive(
    contents: Mapping[str, bytes], *, names: tuple[str, ...], links: Mapping[str, str] | None = None
) -> list[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """The members that `docker save` has: blobs, then the list of which blobs are layers."""
    config = b'{"config": 1}'
    listed = [{"Config": "blobs/sha256/config", "Layers": [*names], "RepoTags": None}]
    files = {**contents, "blobs/sha256/config": config, "manifest.json": json.dumps(listed).encode()}
    members: list[tuple[tarfile.TarInfo, IO[bytes] | None]] = [(tarfile.TarInfo("blobs/"), None)]
    for name, target in (links or {}).items():
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.SYMTYPE, target
        members.append((link, None))
    for name, data in files.items():
        member = tarfile.TarInfo(name)
        member.size = len(data)
        members.append((member, io.BufferedReader(io.BytesIO(data))))
    return members


@pytest.fixture
def save(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[tuple[tarfile.TarInfo, IO[bytes] | None]]], None]:
    """Lets the engine save these members."""

    def patch(members: list[tuple[tarfile.TarInfo, IO[bytes] | None]]) -> None:
        def saved(_: Engine, __: str) -> Generator[tuple[tarfile.TarInfo, IO[bytes] | None], None, None]:
            yield from members

        monkeypatch.setattr(containers, "saved", saved)
        monkeypatch.setattr(pull_size, "_no_room", lambda *_: "")

    return patch


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a registry answers, by reference; a text is the error that it gives."""
    known: dict[str, Any] = {}

    def run(argv: list[str], **_: Any) -> str:
        answer = known.get(argv[-1], "ERROR: not found.")
        if isinstance(answer, str):
            raise ToolError(f"`docker` failed with exit status 1:\n{answer}")
        return json.dumps(answer)

    monkeypatch.setattr(process, "run", run)
    return known


def manifest(*, config: str = "c", compression: str = "gzip", sizes: tuple[int, ...] = (100, 200)) -> dict[str, Any]:
    layers = [
        {"digest": f"sha256:{size}", "size": size, "mediaType": f"{OCI}+{compression}"}
        for number, size in enumerate(sizes)
    ]
    return {"config": {"digest": f"sha256:{config * 64}", "size": 7}, "layers": layers}


# --- the compressors


@given(st.lists(st.binary(max_size=70_000), max_size=6))
def test_gzip_in_pieces_is_a_valid_stream_of_that_size(pieces: list[bytes]) -> None:
    """What is counted could be sent: the pieces, joined, unpack to what went in."""
    window, packed = b"", b""
    for piece in pieces:
        compressor = zlib.compressobj(pull_size.GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=window)
        packed += compressor.compress(piece) + compressor.flush(zlib.Z_SYNC_FLUSH)
        window = piece[-pull_size.WINDOW :]
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    assert unpacker.decompress(packed + b"\x03\x00") == b"".join(pieces)  # with the empty last block
    assert unpacker.eof
    assert pull_size.COMPRESSORS["gzip"](iter(pieces)) == 10 + len(packed) + 2 + 8


@pytest.mark.parametrize("data", CONTENT.values())
def test_in_pieces_is_as_small_as_in_one(data: bytes) -> None:
    pieces = [data[start : start + pull_size.PIECE] for start in range(0, len(data), pull_size.PIECE)]
    one_gzip = len(gzip.compress(data, pull_size.GZIP_LEVEL))
    one_zstd = len(zstandard.ZstdCompressor(level=pull_size.ZSTD_LEVEL).compress(data))
    assert pull_size.COMPRESSORS["gzip"](pieces) == pytest.approx(one_gzip, rel=0.002, abs=40)
    assert pull_size.COMPRESSORS["zstd"](pieces) == pytest.approx(one_zstd, rel=0.002, abs=40)


# --- computed


def computed(state: Path, method: Method, *, layers: tuple[str, ...] = LAYERS, store: str = "overlay2") -> PullSize:
    return pull_size.pull_size(ENGINE, image(layers=layers, store=store), state=state, compute=method)


@pytest.mark.parametrize("method", METHODS)
def test_computed_counts_layers_and_config(method: Method, save: Callable[..., None], tmp_path: Path) -> None:
    names = tuple(f"blobs/sha256/{layer[7:]}" for layer in LAYERS)
    save(archive(dict(zip(names, CONTENT.values(), strict=True)), names=names))
    seen: list[tuple[int, int | None]] = []
    found = pull_size.pull_size(
        ENGINE, image(), state=tmp_path, compute=method, tell=lambda done, total: seen.append((done, total))
    )
    assert found.layers is not None
    assert found.bytes == sum(found.layers) + len(b'{"config": 1}')
    assert found.layers[0] < 20_000
    assert found.layers[1] == pytest.approx(2_500_000, rel=0.001)
    assert METHODS[method] in found.how
    assert seen[0] == (0, 20)
    assert seen[-1][0] > 4_000_000
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)

    save([])  # from now on it is known
    assert computed(tmp_path, method) == found
    other: Method = "gzip" if method == "zstd" else "zstd"
    assert "cannot be read" in computed(tmp_path, other).how


def test_a_layer_that_is_there_twice_is_pulled_once(save: Callable[..., None], tmp_path: Path) -> None:
    twice = (LAYERS[0], LAYERS[0])
    save(archive({"one/layer.tar": CONTENT[LAYERS[0]]}, names=("one/layer.tar", "one/layer.tar")))
    found = computed(tmp_path, "zstd", layers=twice)
    assert found.layers is not None
    assert found.layers[0] == found.layers[1]
    assert found.bytes == found.layers[0] + len(b'{"config": 1}')


def test_older_engines_link_to_a_layer(save: Callable[..., None], tmp_path: Path) -> None:
    content = {"one/layer.tar": CONTENT[LAYERS[0]]}
    save(archive(content, names=("one/layer.tar", "two/layer.tar"), links={"two/layer.tar": "../one/layer.tar"}))
    found = computed(tmp_path, "gzip")
    assert found.layers is not None
    assert found.layers[0] == found.layers[1] < 20_000


@pytest.mark.parametrize(("stored", "method"), [("gzip", "zstd"), ("zstd", "gzip"), ("gzip", "gzip"), ("zstd", "zstd")])
def test_what_is_stored_compressed_is_unpacked_first_or_taken_as_it_is(
    stored: Method, method: Method, save: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_store, "content_bytes", lambda *_: 99)
    pack = {"gzip": lambda data: gzip.compress(data, 1), "zstd": zstandard.ZstdCompressor(level=1).compress}[stored]
    packed = {f"blobs/sha256/{number}": pack(data) for number, data in enumerate(CONTENT.values())}
    save(archive(packed, names=tuple(packed)))
    found = computed(tmp_path / "stored", method, store="containerd")
    plain = {f"blobs/sha256/{number}": data for number, data in enumerate(CONTENT.values())}
    save(archive(plain, names=tuple(plain)))
    if stored == method:
        assert found.layers == tuple(len(data) for data in packed.values())
    else:
        assert found.layers == pytest.approx(computed(tmp_path / "plain", method).layers, rel=0.005, abs=50)


def test_only_layers_that_are_not_known_are_compressed(
    save: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = tuple(f"blobs/sha256/{layer[7:]}" for layer in LAYERS)
    save(archive({names[0]: CONTENT[LAYERS[0]]}, names=names[:1]))
    below = computed(tmp_path, "gzip", layers=LAYERS[:1])
    counted = []
    pack = pull_size.COMPRESSORS["gzip"]

    def counting(pieces: Iterator[bytes]) -> int:
        counted.append(1)
        return pack(pieces)

    monkeypatch.setattr(pull_size, "COMPRESSORS", {"gzip": counting})
    save(archive(dict(zip(names, CONTENT.values(), strict=True)), names=names))
    above = computed(tmp_path, "gzip")
    assert above.layers is not None
    assert below.layers == above.layers[:1]
    assert len(counted) == 2  # the new layer, and the config, which nobody knows from a layer until the end


@pytest.mark.parametrize(
    "members",
    [
        [],
        archive({}, names=("blobs/sha256/lost", "blobs/sha256/too")),
        archive({"a": b""}, names=("a",)),
        archive({"a": gzip.compress(b"x" * 99)[:20], "b": b""}, names=("a", "b")),
        archive({"a": b"\x28\xb5\x2f\xfd broken", "b": b""}, names=("a", "b")),
        archive({"a": b"\x1f\x8b broken", "b": b""}, names=("a", "b")),
    ],
    ids=["nothing", "no layers", "a layer too few", "cut short", "no zstd", "no gzip"],
)
def test_a_broken_archive_is_a_reason(
    members: list[tuple[tarfile.TarInfo, IO[bytes] | None]], save: Callable[..., None], tmp_path: Path
) -> None:
    save(members)
    methods: tuple[Method, ...] = ("zstd", "gzip")
    for method in methods:
        for _, file in members:
            if file is not None:
                file.seek(0)
        found = computed(tmp_path, method)
        if found.bytes is None:
            assert "`docker save`" in found.how
            return
    pytest.fail("neither method met it")


def test_an_engine_that_refuses_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def saved(*_: Any) -> Any:
        raise EngineError("unix:///x: no space left on device")
        yield

    monkeypatch.setattr(containers, "saved", saved)
    monkeypatch.setattr(pull_size, "_no_room", lambda *_: "")
    found = computed(tmp_path, "gzip")
    assert found.bytes is None
    assert "no space left" in found.how


@pytest.mark.parametrize(("free", "enough"), [(20, False), (21, True), (None, True)])
def test_docker_save_needs_room_at_the_engine(free: int | None, enough: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "facts", lambda _: None)
    monkeypatch.setattr(disk, "free_bytes", lambda *_: free)
    reason = pull_size._no_room(ENGINE, image(), Path("state"))
    assert (not reason) == enough
    assert enough or "20 B" in reason


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"gzip level 6": 3}', "\x00", json.dumps({"gzip level 6": {LAYERS[0]: "x"}})]
)
def test_a_lost_file_is_made_anew(text: str, save: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / pull_size.FILE_NAME).write_text(text)
    names = tuple(f"blobs/sha256/{layer[7:]}" for layer in LAYERS)
    save(archive(dict(zip(names, CONTENT.values(), strict=True)), names=names))
    found = computed(tmp_path, "gzip")
    assert found.bytes is not None
    save([])
    assert computed(tmp_path, "gzip") == found


# --- by a registry


def by_registry(state: Path, *digests: str, compute: Method | None = None, **facts: Any) -> PullSize:
    return pull_size.pull_size(ENGINE, image(digests=digests, **facts), state=state, compute=compute)


def test_a_manifest_says_it(answers: dict[str, Any], tmp_path: Path) -> None:
    answers["example.org/demo@sha256:a"] = manifest(sizes=(100, 200, 100))
    found = by_registry(tmp_path, "example.org/demo@sha256:a")
    assert found == PullSize(
        bytes=307, how="by the registry's manifest of example.org/demo", layers=(100, 200, 100)
    )  # a layer that is there twice is sent once
    answers.clear()
    assert by_registry(tmp_path, "example.org/demo@sha256:a") == found  # a digest's content never changes


def test_of_an_index_the_manifest_of_this_image_counts(answers: dict[str, Any], tmp_path: Path) -> None:
    platforms = [("linux", "arm64"), ("linux", "amd64"), ("linux", "amd64"), ("unknown", "unknown")]
    answers["demo@sha256:index"] = {
        "manifests": [
            {"digest": f"sha256:{number}", "platform": {"os": os, "architecture": machine}}
            for number, (os, machine) in enumerate(platforms)
        ]
    }
    answers["demo@sha256:1"] = manifest(config="d")  # of another build
    answers["demo@sha256:2"] = manifest(sizes=(5,))
    assert by_registry(tmp_path, "demo@sha256:index").bytes == 12


def test_a_manifest_of_another_image_does_not_count(answers: dict[str, Any], tmp_path: Path) -> None:
    answers["demo@sha256:a"] = manifest(config="d")
    found = by_registry(tmp_path, "demo@sha256:a", "other@sha256:b")
    assert found == PullSize(
        bytes=None, how="demo has no manifest of this image; other cannot be asked: ERROR: not found"
    )
    assert by_registry(tmp_path).how == "it is in no registry that this engine knows of"


OWN = {"digest": "sha256:" + "c" * 64, "size": 7}


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {"schemaVersion": 1, "fsLayers": []},
        {"manifests": None},
        {"manifests": [3]},
        {"manifests": [{"platform": {"os": "linux", "architecture": "amd64"}}]},
        {"config": 3, "layers": []},
        {"config": OWN, "layers": [{}]},
        {"config": OWN, "layers": 3},
        {"config": OWN, "layers": [{"digest": "sha256:a", "size": "many"}]},
    ],
)
def test_an_answer_of_another_kind_is_a_reason(answer: Any, answers: dict[str, Any], tmp_path: Path) -> None:
    answers["demo@sha256:a"] = answer
    assert by_registry(tmp_path, "demo@sha256:a").bytes is None


def test_another_compression_than_the_registrys_is_computed(
    answers: dict[str, Any], save: Callable[..., None], tmp_path: Path
) -> None:
    names = tuple(f"blobs/sha256/{layer[7:]}" for layer in LAYERS)
    save(archive(dict(zip(names, CONTENT.values(), strict=True)), names=names))
    answers["demo@sha256:a"] = manifest(compression="gzip")
    assert by_registry(tmp_path, "demo@sha256:a", compute="gzip").bytes == 307
    assert METHODS["zstd"] in by_registry(tmp_path, "demo@sha256:a", compute="zstd").how
    answers["demo@sha256:b"] = json.loads(
        json.dumps(manifest()).replace(f"{OCI}+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip")
    )
    assert by_registry(tmp_path, "demo@sha256:b", compute="gzip").bytes == 307


# --- by the containerd store


def test_the_containerd_store_says_it(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any], tmp_path: Path) -> None:
    monkeypatch.setattr(image_store, "content_bytes", lambda *_: 4321)
    found = by_registry(tmp_path, "demo@sha256:a", store="containerd")
    assert (found.bytes, found.layers) == (4321, None)
    monkeypatch.setattr(image_store, "content_bytes", lambda *_: None)
    found = by_registry(tmp_path, "demo@sha256:a", store="containerd")
    assert "does not hold all" in found.how
    assert "demo cannot be asked" in found.how
    answers["demo@sha256:a"] = manifest(config="d")  # there the image's id is that of the index
    assert by_registry(tmp_path, "demo@sha256:a", store="containerd").bytes == 307


def listed(**changes: Any) -> list[dict[str, Any]]:
    """An engine's list of images with their manifests, as API 1.47 and later documents it."""
    own = {
        "ID": "sha256:m",
        "Available": True,
        "Kind": "image",
        "Size": {"Content": 500, "Total": 900},
        "ImageData": {"Platform": {"os": "linux", "architecture": "amd64"}, "Size": {"Unpacked": 400}},
        **changes,
    }
    foreign = {**own, "ImageData": {"Platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}}}
    attestation = {"Kind": "attestation", "Available": True, "Size": {"Content": 9, "Total": 9}, "AttestationData": {}}
    return [{"Id": "sha256:x", "Manifests": [own]}, {"Id": image().id, "Manifests": [foreign, attestation, own]}]


def test_content_of_the_platforms_manifest() -> None:
    assert image_store.content_of(listed(), image()) == 500
    assert image_store.content_of(listed(Available=False), image()) is None
    assert image_store.content_of([{"Id": image().id}], image()) is None
    assert image_store.content_of([], image()) is None


@pytest.mark.parametrize(
    ("entry", "platform", "same"),
    [
        ({"os": "linux", "architecture": "arm64", "variant": "v8"}, "linux/arm64", True),
        ({"os": "linux", "architecture": "arm64"}, "linux/arm64/v8", True),
        ({"os": "linux", "architecture": "arm", "variant": "v7"}, "linux/arm/v6", False),
        ({"os": "linux", "architecture": "amd64"}, "linux/arm64", False),
        ({"os": "unknown", "architecture": "unknown"}, "linux/amd64", False),
        ({}, "linux/amd64", False),
        (None, "linux/amd64", False),
    ],
)
def test_of_platform(entry: dict[str, str] | None, platform: str, same: bool) -> None:
    assert image_store.of_platform(entry, platform) is same

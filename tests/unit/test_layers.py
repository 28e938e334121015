"""Listings of layers: from folders as overlayfs has them, from archives as engines send them, and kept on disk."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
import zstandard

from jetpare.engine.model import Engine
from jetpare.image.layers import LayerEntry, LayerListing, Listing
from jetpare.image.read import layer_reader
from jetpare.image.read.layer_reader import Unreadable

IMAGE = "sha256:" + "1" * 64
Pack = Callable[[bytes], bytes]


def tar(members: Iterable[tuple[str, bytes | str | None]]) -> bytes:
    """An archive: bytes are a file's content, None a folder, '-> x' a link, '=> x' a hard link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, what in members:
            info = tarfile.TarInfo(name)
            if what is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(what, str):
                info.type = tarfile.SYMTYPE if what.startswith("->") else tarfile.LNKTYPE
                info.linkname = what[3:]
            else:
                info.size = len(what)
            archive.addfile(info, io.BytesIO(what) if isinstance(what, bytes) else None)
    return out.getvalue()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def saved(contents: list[bytes], *, pack: Pack = lambda data: data, others: Mapping[str, bytes] | None = None) -> bytes:
    """What `docker save` gives of an image with these layers, as an OCI layout with Docker's manifest beside it."""
    config = json.dumps({"rootfs": {"diff_ids": [f"sha256:{digest(each)}" for each in contents]}}).encode()
    blobs = {f"blobs/sha256/{digest(pack(each))}": pack(each) for each in contents}
    names = [f"blobs/sha256/{digest(pack(each))}" for each in contents]
    manifest = [{"Config": f"blobs/sha256/{digest(config)}", "RepoTags": None, "Layers": names}]
    files = {**blobs, f"blobs/sha256/{digest(config)}": config, **(others or {})}
    files |= {"index.json": b"{}", "manifest.json": json.dumps(manifest).encode(), "oci-layout": b"{}"}
    return tar([("blobs", None), *files.items()])


def read(data: bytes, contents: list[bytes], *, size: int = 1000) -> tuple[LayerListing, ...]:
    chunks = (data[start : start + size] for start in range(0, len(data), size))
    return layer_reader.from_stream(chunks, diff_ids=[f"sha256:{digest(each)}" for each in contents])


def damaged(data: bytes) -> bytes:
    return data[:12] + bytes(255 - byte for byte in data[12:60]) + data[60:]


BASE = tar(
    [
        ("./", None),
        ("./etc/", None),
        ("./etc/b", b"12345"),
        ("./etc/a", "=> ./etc/b"),
        ("./etc/link", "-> b"),
        ("./etc/twice", b"1"),
        ("./etc/twice", b"123"),
        ("./srv/b\udcff\nd", b"1234567"),
    ]
)
ABOVE = tar([("etc/.wh.b", b""), ("srv", None), ("srv/.wh..wh..opq", b""), (".wh..wh.plnk", None), ("srv/new", b"1")])
EMPTY = tar([])
BASE_ENTRIES = (
    LayerEntry(path="/etc", kind="dir"),
    LayerEntry(path="/etc/a", kind="file", size=5),
    LayerEntry(path="/etc/b", kind="file", size=5, hardlink="/etc/a"),
    LayerEntry(path="/etc/link", kind="link"),
    LayerEntry(path="/etc/twice", kind="file", size=3),
    LayerEntry(path="/srv/b\udcff\nd", kind="file", size=7),
)
ABOVE_ENTRIES = (
    LayerEntry(path="/etc/b", kind="whiteout"),
    LayerEntry(path="/srv", kind="dir"),
    LayerEntry(path="/srv", kind="opaque"),
    LayerEntry(path="/srv/new", kind="file", size=1),
)
PACKINGS: dict[str, Pack] = {
    "plain": lambda data: data,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("size", [1, 700, 1 << 20])
def test_every_form_of_an_image_that_an_engine_sends(packing: str, size: int) -> None:
    contents = [BASE, ABOVE, EMPTY]
    found = read(saved(contents, pack=PACKINGS[packing]), contents, size=size)
    assert [each.entries for each in found] == [BASE_ENTRIES, ABOVE_ENTRIES, ()]
    assert [each.bytes for each in found] == [15, 1, 0]
    assert found[1].diff_id == f"sha256:{digest(ABOVE)}"


def test_an_older_engines_archive_with_a_layer_that_is_a_link_to_another() -> None:
    config = json.dumps({"rootfs": {"diff_ids": [f"sha256:{digest(ABOVE)}"] * 2}}).encode()
    manifest = [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["b/layer.tar", "a/layer.tar"]}]
    data = tar(
        [
            ("a/VERSION", b"1.0"),
            ("a/layer.tar", ABOVE),
            ("b/layer.tar", "-> ../a/layer.tar"),
            ("c.json", config),
            ("manifest.json", json.dumps(manifest).encode()),
        ]
    )
    assert [each.entries for each in read(data, [ABOVE, ABOVE])] == [ABOVE_ENTRIES] * 2


@pytest.mark.parametrize("links", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "b"}])
def test_hard_links_in_a_circle_come_to_an_end(links: Mapping[str, str]) -> None:
    layer = tar((name, f"=> {target}") for name, target in links.items())
    (found,) = read(saved([layer]), [layer])
    assert {(each.path, each.size) for each in found.entries} == {(f"/{name}", 0) for name in links}


def test_of_several_manifests_the_one_of_the_image() -> None:
    config = json.dumps({"rootfs": {"diff_ids": ["sha256:other"]}}).encode()
    first = json.loads(json.dumps([{"Config": "other.json", "Layers": ["none"]}]))
    own = tarfile.open(fileobj=io.BytesIO(saved([BASE])))  # noqa: SIM115
    manifest = own.extractfile("manifest.json")
    assert manifest
    both = json.dumps(first + json.loads(manifest.read())).encode()
    data = saved([BASE], others={"other.json": config})
    data = tar(
        [*((each, _content(data, each)) for each in _names(data) if each != "manifest.json"), ("manifest.json", both)]
    )
    assert [each.entries for each in read(data, [BASE])] == [BASE_ENTRIES]


def _names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [each.name for each in archive if each.isreg()]


def _content(data: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        opened = archive.extractfile(name)
        assert opened
        return opened.read()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (saved([BASE])[:3000], "cannot be read"),
        (b"x" * 2000, "cannot be read"),
        (saved([ABOVE]), "no manifest of this image"),
        (tar([("manifest.json", b"{")]), "no manifest that can be read"),
        (tar([("a", b"")]), "no manifest that can be read"),
        (saved([BASE], pack=lambda data: gzip.compress(data)[:-40]), "cannot be read"),
        (saved([BASE], pack=lambda data: damaged(gzip.compress(data))), "cannot be read"),
        (saved([BASE], pack=lambda data: damaged(zstandard.ZstdCompressor().compress(data))), "cannot be read"),
        (saved([BASE], pack=lambda data: b"no layer " + data), "lacks layers"),
    ],
)
def test_a_stream_that_cannot_be_used_says_why(data: bytes, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        read(data, [BASE])


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="device nodes and trusted attributes are root's")


@root_only
def test_a_folder_as_overlayfs_keeps_it(tmp_path: Path) -> None:
    folder = tmp_path / "diff"
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/b").write_bytes(b"12345")
    os.link(folder / "etc/b", folder / "etc/a")
    (folder / "etc/link").symlink_to("b")
    (folder / "etc/twice").write_bytes(b"123")
    os.mkfifo(folder / "etc/pipe")
    os.mknod(folder / "etc/gone", 0o600 | 0o020000, os.makedev(0, 0))
    os.mknod(folder / "etc/null", 0o600 | 0o020000, os.makedev(1, 3))
    (folder / "srv").mkdir()
    os.setxattr(folder / "srv", "trusted.overlay.opaque", b"y")
    os.fsencode(folder / "srv/b\udcff\nd")
    (folder / "srv/b\udcff\nd").write_bytes(b"1234567")
    assert layer_reader.walk(folder) == tuple(
        sorted(
            [
                *BASE_ENTRIES,
                LayerEntry(path="/etc/gone", kind="whiteout"),
                LayerEntry(path="/etc/null", kind="other"),
                LayerEntry(path="/etc/pipe", kind="other"),
                LayerEntry(path="/srv", kind="dir"),
                LayerEntry(path="/srv", kind="opaque"),
            ],
            key=lambda each: (each.path, each.kind),
        )
    )


@root_only
def test_a_folder_that_the_kernel_redirects_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    os.setxattr(tmp_path / "moved", "trusted.overlay.redirect", b"/old")
    with pytest.raises(Unreadable, match="redirect_dir"):
        layer_reader.walk(tmp_path)


def test_chain_ids_are_those_of_the_specification() -> None:
    second = "sha256:" + hashlib.sha256(b"sha256:a sha256:b").hexdigest()
    third = "sha256:" + hashlib.sha256(f"{second} sha256:c".encode()).hexdigest()
    assert layer_reader.chains(["sha256:a", "sha256:b", "sha256:c"]) == ["sha256:a", second, third]
    assert layer_reader.chains([]) == []


def data_root(root: Path, diff_ids: list[str]) -> Path:
    for number, (chain, diff_id) in enumerate(zip(layer_reader.chains(diff_ids), diff_ids, strict=True)):
        entry = root / "image/overlay2/layerdb/sha256" / chain.removeprefix("sha256:")
        entry.mkdir(parents=True)
        (entry / "diff").write_text(diff_id)
        (entry / "cache-id").write_text(f"cache{number}")
        (root / f"overlay2/cache{number}/diff").mkdir(parents=True)
    return root


def test_the_engines_folders_are_found_by_digest_and_never_another_images(tmp_path: Path) -> None:
    own = data_root(tmp_path / "own", ["sha256:a", "sha256:b"])
    other = data_root(tmp_path / "other", ["sha256:a", "sha256:c"])
    nowhere = tmp_path / "nowhere"
    found = layer_reader._folders(["sha256:a", "sha256:b"], [nowhere, other, own])
    assert found == [own / "overlay2/cache0/diff", own / "overlay2/cache1/diff"]
    with pytest.raises(Unreadable, match="cannot be read by this process"):
        layer_reader._folders(["sha256:a", "sha256:b"], [nowhere, other])


def test_a_listing_survives_on_disk_and_what_is_damaged_is_made_anew(tmp_path: Path) -> None:
    made = Listing(
        image_id=IMAGE,
        how="stream",
        layers=(
            LayerListing(diff_id="sha256:a", entries=BASE_ENTRIES),
            LayerListing(diff_id="sha256:b", entries=ABOVE_ENTRIES),
        ),
    )
    path = tmp_path / "layers" / "x.json.gz"
    layer_reader.save(made, path)
    assert layer_reader.load(path, IMAGE) == made
    assert [each.name for each in path.parent.iterdir()] == ["x.json.gz"]
    assert layer_reader.load(path, "sha256:" + "2" * 64) is None
    whole = path.read_bytes()

    def changed(row: object) -> bytes:
        content = json.loads(gzip.decompress(whole))
        content["layers"][0]["rows"].append(row)
        return gzip.compress(json.dumps(content).encode())

    for bad in (
        b"",
        whole[:-20],
        damaged(whole),
        b"x",
        gzip.compress(b"[]"),
        gzip.compress(b'{"schema": "jetpare.layers/1"}'),
        gzip.compress(b"[" * 200_000),
        *(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :] for place in (12, 40, len(whole) - 6)),
        *map(
            changed, (["/a", "file", "5", None], ["/a", "file", -5, None], ["/a", "disk", 5, None], [3, "dir", 0, None])
        ),
    ):
        path.write_bytes(bad)
        assert layer_reader.load(path, IMAGE) is None
    assert layer_reader.load(tmp_path / "none", IMAGE) is None


def test_what_cannot_be_kept_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Listing(image_id=IMAGE, how="overlay2", layers=(LayerListing(diff_id="sha256:a", entries=BASE_ENTRIES),))
    monkeypatch.setattr(layer_reader, "_from_disk", lambda *_, **__: made)
    cached = tmp_path / "layers" / f"{IMAGE.removeprefix('sha256:')}.json.gz"
    cached.mkdir(parents=True)
    said: list[str] = []
    running = Engine(docker="docker", env={}, overrides={}, private=False)
    assert layer_reader.take(running, IMAGE, state=tmp_path, say=said.append) == made
    assert said[0].startswith(f"{cached}: not kept (")

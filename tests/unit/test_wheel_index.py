"""What a wheel requires, read from an index without downloading the wheel."""

from __future__ import annotations

import hashlib
import io
import json
import random
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from packaging.requirements import Requirement

from jetpare.build import wheel_index
from jetpare.build.network import NetworkSettings
from jetpare.build.wheel_index import Target, Wheel

PLAIN = NetworkSettings(ca_bundle=None, variables={}, left_out=())
JSON = "application/vnd.pypi.simple.v1+json"
X86 = Target(machine="x86_64", python="3.11")
NAME = "torch-2.8.0-cp311-cp311-manylinux_2_28_x86_64.whl"
METADATA = b"Metadata-Version: 2.1\nName: torch\nRequires-Dist: filelock\nRequires-Dist: nvidia-cudnn-cu12==9.10.2.21\n\nText\n"
DIGEST = hashlib.sha256(METADATA).hexdigest()
REQUIRES = ("filelock", "nvidia-cudnn-cu12==9.10.2.21")


def wheel(metadata: bytes = METADATA, *, ballast: int = 3_000_000) -> bytes:
    """A wheel that is mostly something else."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("torch/lib/libtorch_cuda.so", random.Random(1).randbytes(ballast))  # noqa: S311 - any bytes
        archive.writestr("torch-2.8.0.dist-info/METADATA", metadata)
        archive.writestr("torch/licenses/other.dist-info/METADATA", b"Requires-Dist: wrong\n")
    return made.getvalue()


WHEEL = wheel()


class Index(ThreadingHTTPServer):
    """Serves pages by path; counts the bytes that it gave of each."""

    pages: dict[str, tuple[str, bytes]]
    ranges = True
    sent: dict[str, int]

    def handle_error(self, *_: object) -> None:
        """Whoever asked has hung up."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Index
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path not in self.server.pages:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        kind, data = self.server.pages[path]
        wanted = self.headers.get("Range") if self.server.ranges else None
        total, part = len(data), data
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            part = data[int(first) : int(last) + 1]
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{total}")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.server.sent[path] = self.server.sent.get(path, 0) + len(part)
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Index(("127.0.0.1", 0), Handler) as made:
        made.pages, made.sent = {f"/files/{NAME}": ("application/zip", WHEEL)}, {}
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def as_json(index: Index, *, metadata: bool, digest: str = DIGEST) -> None:
    entries = [
        {"filename": NAME.replace("2.8.0", "2.7.0"), "url": "../../gone", "hashes": {}},
        {"filename": "torch-2.8.0.tar.gz", "url": "../../gone", "hashes": {}},
        {
            "filename": NAME,
            "url": f"../../files/{NAME}",
            "hashes": {},
            "core-metadata": {"sha256": digest} if metadata else False,
        },
    ]
    content = {"meta": {"api-version": "1.0"}, "name": "torch", "files": entries}
    index.pages["/simple/torch/"] = (JSON, json.dumps(content).encode())
    index.pages[f"/files/{NAME}.metadata"] = ("text/plain", METADATA)


def as_page(index: Index, *, metadata: bool) -> None:
    known = f'data-core-metadata="sha256={DIGEST}"' if metadata else ""
    text = f'<html><a href="/files/{NAME}#sha256=0" {known}>{NAME}</a><a name="x">no file</a></html>'
    index.pages["/simple/torch/"] = ("text/html", text.encode())
    index.pages[f"/files/{NAME}.metadata"] = ("text/plain", METADATA)


def find(*indexes: str, folders: tuple[Path, ...] = (), target: Target = X86) -> Wheel | None:
    return wheel_index.find("torch==2.8.0", target, folders=folders, indexes=indexes, settings=PLAIN)


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("page", [as_json, as_page])
def test_requirements_without_the_wheel(index: Index, page: object, metadata: bool) -> None:
    assert callable(page)
    page(index, metadata=metadata)
    assert find(f"{index.url}/simple") == Wheel(name=NAME, requires=REQUIRES)
    assert index.sent.get(f"/files/{NAME}", 0) < (1 if metadata else len(WHEEL) / 10)


def test_the_first_index_that_has_the_project_counts(index: Index) -> None:
    as_json(index, metadata=True)
    index.pages["/other/torch/"] = ("text/html", b"<html><a href='torch-1.0.tar.gz'>torch-1.0.tar.gz</a></html>")
    assert find(f"{index.url}/none", f"{index.url}/simple") == Wheel(name=NAME, requires=REQUIRES)
    assert find(f"{index.url}/other", f"{index.url}/simple") is None
    assert find(f"{index.url}/none") is None
    assert find() is None


def test_a_folder_comes_before_the_indexes(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / NAME).write_bytes(wheel(b"Requires-Dist: nvidia-cudnn-cu12==9.3.0.75\n\n", ballast=10))
    found = find("http://127.0.0.1:9/never-asked", folders=(tmp_path,))
    assert found == Wheel(name=NAME, requires=("nvidia-cudnn-cu12==9.3.0.75",))


def test_a_server_that_gives_whole_files_only_is_not_asked_for_a_gigabyte(index: Index) -> None:
    as_json(index, metadata=False)
    index.ranges = False
    with pytest.raises(OSError, match="whole files only"):
        find(f"{index.url}/simple")


@pytest.mark.parametrize("content", [b"", b"no zip at all" * 9, wheel()[:-30]])
def test_what_is_no_wheel(index: Index, content: bytes) -> None:
    as_json(index, metadata=False)
    index.pages[f"/files/{NAME}"] = ("application/zip", content)
    with pytest.raises((ValueError, OSError)):
        find(f"{index.url}/simple")


def spoiled(compression: int = zipfile.ZIP_STORED, **place_and_value: tuple[int, int]) -> bytes:
    """A wheel with other bytes in the headers of its METADATA, by place, and in its compressed content."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        archive.writestr("torch-2.8.0.dist-info/METADATA", METADATA * 9)
    data = bytearray(made.getvalue())
    central = data.index(b"PK\1\2")
    for offset, value in place_and_value.values():
        data[offset], data[central + offset + 2] = value, value  # the local header, and the directory's
    if not place_and_value:
        start = len("torch-2.8.0.dist-info/METADATA") + 30
        data[start:central] = b"\xff" * (central - start)
    return bytes(data)


@pytest.mark.parametrize(
    "content",
    [
        spoiled(zipfile.ZIP_DEFLATED),
        spoiled(zipfile.ZIP_LZMA),
        spoiled(zipfile.ZIP_BZIP2),
        spoiled(encrypted=(6, 1)),
        spoiled(method=(8, 99)),
        spoiled(version=(4, 99)),
        b"",
    ],
)
def test_a_damaged_wheel_in_a_folder(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises((ValueError, OSError), match=r"it is not a wheel|Invalid data stream"):
        find(folders=(tmp_path,))


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"files": [{}]}'])
def test_what_is_no_index(index: Index, content: bytes) -> None:
    index.pages["/simple/torch/"] = (JSON, content)
    with pytest.raises((ValueError, KeyError, TypeError)):
        find(f"{index.url}/simple")


def test_no_server() -> None:
    with pytest.raises(requests.ConnectionError):
        find("http://127.0.0.1:9/simple")


@pytest.mark.parametrize(
    ("names", "target", "chosen"),
    [
        ([NAME, NAME.replace("2.8.0", "2.8.0+cu128")], X86, NAME.replace("2.8.0", "2.8.0+cu128")),
        ([NAME], Target(machine="x86_64", python="3.10"), None),
        ([NAME], Target(machine="x86_64", python=None), NAME),
        ([NAME], Target(machine="aarch64", python="3.11"), None),
        (["torch-2.8.0-cp310-cp310-linux_aarch64.whl"], Target(machine="aarch64", python="3.10"), "torch-2.8.0-cp310-cp310-linux_aarch64.whl"),
        (["torch-2.8.0.tar.gz", "torchvision-2.8.0-cp311-cp311-linux_x86_64.whl", "torch-2.9.0-cp311-cp311-linux_x86_64.whl"], X86, None),
    ],
)  # fmt: skip
def test_choosing(names: list[str], target: Target, chosen: str | None) -> None:
    assert wheel_index.choose(names, Requirement("torch==2.8.0"), target) == chosen


def test_the_indexes_of_a_build() -> None:
    def settings(**variables: str) -> NetworkSettings:
        return NetworkSettings(ca_bundle=None, variables=variables, left_out=())

    own = ("https://own.example",)
    assert wheel_index.indexes_of(settings(), own) == [*own, ""]
    named = settings(PIP_INDEX_URL="https://a.example", PIP_EXTRA_INDEX_URL="https://b.example https://c.example")
    assert wheel_index.indexes_of(named, own) == [*own, "https://b.example", "https://c.example", "https://a.example"]


def test_pips_default_is_asked_where_no_other_is_named(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    as_json(index, metadata=True)
    monkeypatch.setattr(wheel_index, "default_index", lambda: f"{index.url}/simple")
    assert find("") == Wheel(name=NAME, requires=REQUIRES)


def test_metadata_that_is_not_what_the_index_says(index: Index) -> None:
    as_json(index, metadata=True, digest="0" * 64)
    with pytest.raises(ValueError, match="digest"):
        find(f"{index.url}/simple")


def test_metadata_that_is_announced_and_missing_is_read_from_the_wheel(index: Index) -> None:
    as_json(index, metadata=True)
    del index.pages[f"/files/{NAME}.metadata"]
    assert find(f"{index.url}/simple") == Wheel(name=NAME, requires=REQUIRES)


def test_an_index_of_another_version(index: Index) -> None:
    content = {"meta": {"api-version": "2.0"}, "name": "torch", "files": []}
    index.pages["/simple/torch/"] = (JSON, json.dumps(content).encode())
    with pytest.raises(ValueError, match=r"2\.0"):
        find(f"{index.url}/simple")

"""Downloads from a server of the test's own on loopback: mirrors, resumption, checksums."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from jetpare import download
from jetpare.errors import DownloadError
from jetpare.network import NetworkSettings

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several pieces
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PLAIN = NetworkSettings(ca_bundle=None, variables={}, left_out=())


class Server(HTTPServer):
    """Serves CONTENT; ``break_after`` cuts the first answer off, ``ranges`` says whether it resumes."""

    break_after: int | None = None
    ranges = True
    asked: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.headers.get("Range"))
        if self.path.startswith("/gone"):
            self.send_error(404)
            return
        body = CONTENT if not self.path.startswith("/other") else b"something else"
        start = 0
        if self.server.ranges and (asked := self.headers.get("Range")):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = self.server.break_after
        self.server.break_after = None
        self.wfile.write(body[start:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    made.asked = []
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def fetch(server: Server, folder: Path, *paths: str, sha256: str = SHA256) -> tuple[Path, bool]:
    urls = [f"http://127.0.0.1:{server.server_port}{path}" for path in paths]
    return download.fetch(urls, sha256=sha256, folder=folder, settings=PLAIN, tell=lambda _done, _total: None)


def test_fetched_once_and_never_again(server: Server, tmp_path: Path) -> None:
    path, fetched = fetch(server, tmp_path / "d", "/a/gdal-1.tar.xz")
    assert (path.name, fetched, path.read_bytes() == CONTENT) == ("gdal-1.tar.xz", True, True)
    assert fetch(server, tmp_path / "d", "/a/gdal-1.tar.xz") == (path, False)
    assert len(server.asked) == 1
    assert [entry.name for entry in (tmp_path / "d").iterdir()] == ["gdal-1.tar.xz"]


def test_the_next_mirror_is_asked(server: Server, tmp_path: Path) -> None:
    assert fetch(server, tmp_path / "d", "/gone/a.tar", "/other/a.tar", "/good/a.tar")[1]


def test_a_transfer_that_broke_off_is_resumed(server: Server, tmp_path: Path) -> None:
    server.break_after = 2_000_000
    path, _ = fetch(server, tmp_path / "d", "/one/a.tar", "/two/a.tar")
    assert path.read_bytes() == CONTENT
    assert server.asked[0] is None
    assert server.asked[1] is not None


def test_what_is_not_whole_never_lies_in_the_folder(server: Server, tmp_path: Path) -> None:
    seen: list[list[Path]] = []
    folder = tmp_path / "d"
    server.break_after = 2_000_000
    for break_after in (2_000_000, None):
        server.break_after = break_after
        try:
            download.fetch(
                [f"http://127.0.0.1:{server.server_port}/a.tar"], sha256=SHA256, folder=folder, settings=PLAIN,
                tell=lambda _done, _total: seen.append(list(folder.iterdir())),
            )  # fmt: skip
        except DownloadError:
            assert list(folder.iterdir()) == []
    assert seen
    assert not any(seen)
    assert [entry.name for entry in folder.iterdir()] == ["a.tar"]


def test_a_server_that_cannot_resume_starts_over(server: Server, tmp_path: Path) -> None:
    server.break_after, server.ranges = 2_000_000, False
    assert fetch(server, tmp_path / "d", "/one/a.tar", "/two/a.tar")[0].read_bytes() == CONTENT


def test_a_damaged_copy_is_fetched_again(server: Server, tmp_path: Path) -> None:
    path, _ = fetch(server, tmp_path / "d", "/a.tar")
    path.write_bytes(b"damaged")
    assert fetch(server, tmp_path / "d", "/a.tar")[1]
    assert path.read_bytes() == CONTENT


def test_all_mirrors_failing_says_what_each_answered(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        fetch(server, tmp_path / "d", "/gone/a.tar", "/other/a.tar")
    text = str(caught.value)
    assert "/gone/a.tar: 404" in text
    assert f"sha256 is {hashlib.sha256(b'something else').hexdigest()}, expected {SHA256}" in text
    assert "Put the file at" in text
    assert not list((tmp_path / "d").iterdir())


def test_proxies_are_those_of_the_settings_not_of_this_process(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    path, _ = fetch(server, tmp_path / "direct", "/a.tar")
    assert path.read_bytes() == CONTENT
    proxied = NetworkSettings(
        ca_bundle=None, variables={"http_proxy": f"http://127.0.0.1:{server.server_port}"}, left_out=()
    )
    path, _ = download.fetch(
        ["http://mirror.invalid/a.tar"], sha256=SHA256, folder=tmp_path / "proxied", settings=proxied,
        tell=lambda _done, _total: None,
    )  # fmt: skip
    assert path.read_bytes() == CONTENT


def test_no_proxy_is_heeded() -> None:
    known = {"https_proxy": "http://p:1", "all_proxy": "socks5://q:2", "no_proxy": "local.example,10.0.0.0/8"}
    assert download.proxies("https://osgeo.example/x", known) == {"https": "http://p:1", "all": "socks5://q:2"}
    assert download.proxies("https://a.local.example/x", known) == {}
    assert download.proxies("https://10.1.2.3/x", known) == {}
    assert download.proxies("https://osgeo.example/x", {}) == {}

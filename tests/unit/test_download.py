"""Downloads from a server of the test's own on loopback: mirrors, resumption, checksums."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jetpare.base.errors import DownloadError, HostError, JetpareError, SpaceError
from jetpare.build import download, network
from jetpare.build.network import NetworkSettings

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several pieces
ETAG = '"1"'
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PLAIN = NetworkSettings(ca_bundle=None, variables={}, left_out=())


class Server(ThreadingHTTPServer):
    """Serves CONTENT with the ``headers``; ``break_after`` cuts each of the next answers off after so many bytes."""

    break_after: list[int]
    faults: list[int]  # the status of each of the next answers
    ranges = True
    headers: dict[str, str]
    asked: list[tuple[str, str | None, str | None]]  # path, Range, If-Range

    def handle_error(self, *_: object) -> None:
        """Whoever asked has hung up."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted, self.headers.get("If-Range")))
        if self.path.startswith("/gone"):
            self.send_error(404)
            return
        if server.faults:
            self.send_error(server.faults.pop(0))
            return
        body = CONTENT if not self.path.startswith("/other") else b"something else"
        start = 0
        if server.ranges and wanted and self.headers.get("If-Range") in server.headers.values():
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(body) or self.path.startswith("/refusing"):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        answer = {"Content-Length": str(len(body) - start), **server.headers}
        lengths = {"words": "many", "digits": "9" * 5000}
        firsts = {"shifted": str(start - 1), "digits": "9" * 5000}
        kind = self.path.split("/")[1]
        if start:
            answer["Content-Range"] = f"bytes {firsts.get(kind, start)}-{len(body) - 1}/{len(body)}"
        elif kind in lengths:
            answer["Content-Length"] = lengths[kind]
        for name, value in answer.items():
            self.send_header(name, value)
        self.end_headers()
        breaks = server.break_after and not self.path.startswith("/good")
        end = start + server.break_after.pop(0) if breaks else None
        self.wfile.write(body[start:end])
        if end is not None and self.path.startswith("/reset"):
            self.wfile.flush()
            time.sleep(0.2)  # until the bytes were read: a reset discards what waits
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "BACKOFF_SECONDS", 0.0)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    made.asked, made.break_after, made.faults, made.headers = [], [], [], {"ETag": ETAG}
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


@pytest.mark.parametrize("kind", ["one", "reset"])
def test_a_transfer_that_broke_off_is_resumed_to_the_byte(server: Server, tmp_path: Path, kind: str) -> None:
    server.break_after = [2_000_123, 7, 1_500_000]
    path, _ = fetch(server, tmp_path / "d", f"/{kind}/a.tar", "/two/a.tar")
    assert path.read_bytes() == CONTENT
    ranges = [None, "bytes=2000123-", "bytes=2000130-", "bytes=3500130-"]
    assert server.asked == [(f"/{kind}/a.tar", each, ETAG if each else None) for each in ranges]
    assert [each.name for each in tmp_path.iterdir()] == ["d"]


def test_a_line_that_breaks_often_brings_all_of_it_as_long_as_it_brings_something(
    server: Server, tmp_path: Path
) -> None:
    server.break_after = [1_200_000] * (network.RETRIES + 1)
    assert fetch(server, tmp_path / "d", "/a.tar")[0].read_bytes() == CONTENT
    assert len(server.asked) == network.RETRIES + 2


def test_a_mirror_that_brings_next_to_nothing_is_given_up(server: Server, tmp_path: Path) -> None:
    server.break_after = [10] * (network.RETRIES + 1)
    assert fetch(server, tmp_path / "d", "/a.tar", "/b.tar")[0].read_bytes() == CONTENT
    assert [each[0] for each in server.asked] == ["/a.tar"] * (network.RETRIES + 1) + ["/b.tar"]


@pytest.mark.parametrize("path", ["/refusing/a.tar", "/shifted/a.tar"])
def test_a_mirror_that_breaks_off_and_cannot_resume_is_given_up(server: Server, tmp_path: Path, path: str) -> None:
    server.break_after = [2_000_000] * 50
    assert fetch(server, tmp_path / "d", path, "/good/a.tar")[0].read_bytes() == CONTENT
    assert [each[0] for each in server.asked] == [path] * (network.RETRIES + 1) + ["/good/a.tar"]


def test_a_mirror_that_brings_more_each_time_may_not_start_over_for_ever(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PIECE", 1000)
    server.break_after = [each * 2000 for each in range(1, 50)]
    assert fetch(server, tmp_path / "d", "/refusing/a.tar", "/good/a.tar")[0].read_bytes() == CONTENT
    assert len(server.asked) == 2 * (network.RETRIES + 1) + 1


def test_a_command_goes_on_where_the_last_one_broke_off(server: Server, tmp_path: Path) -> None:
    server.break_after, server.faults = [2_000_123], []
    seen: list[int] = []

    def stop_the_server(done: int, _: int | None) -> None:
        seen.append(done)
        server.faults = [503] * 20

    url = f"http://127.0.0.1:{server.server_port}/a.tar"
    with pytest.raises(DownloadError, match="503"):
        download.fetch([url], sha256=SHA256, folder=tmp_path / "d", settings=PLAIN, tell=stop_the_server)
    server.faults, server.asked = [], []
    assert fetch(server, tmp_path / "d", "/a.tar")[0].read_bytes() == CONTENT
    assert server.asked == [("/a.tar", f"bytes={seen[-1]}-", ETAG)]
    assert seen[-1] == 2_000_123


def test_no_more_is_asked_for_when_all_of_it_had_come(server: Server, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{server.server_port}/a.tar"
    download._Partial.of(url, tmp_path / "d").path.write_bytes(CONTENT)
    assert fetch(server, tmp_path / "d", "/a.tar")[0].read_bytes() == CONTENT
    assert server.asked == []


def broken(server: Server, folder: Path, path: str, *, size: int, etag: str = ETAG) -> None:
    """What an earlier command left behind: *size* bytes that are not those of CONTENT."""
    partial = download._Partial.of(f"http://127.0.0.1:{server.server_port}{path}", folder)
    partial.begin(etag)
    partial.path.write_bytes(b"x" * size)


@pytest.mark.parametrize(
    ("headers", "etag"), [({"ETag": '"2"'}, ETAG), ({"ETag": 'W/"1"'}, 'W/"1"'), ({}, ""), ({"Last-Modified": "now"}, ETAG)]
)  # fmt: skip
def test_a_file_that_is_another_one_now_is_not_continued(
    server: Server, tmp_path: Path, headers: dict[str, str], etag: str
) -> None:
    server.headers = headers
    broken(server, tmp_path / "d", "/a.tar", size=1000, etag=etag if etag == ETAG else "")
    assert fetch(server, tmp_path / "d", "/a.tar")[0].read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_the_time_of_change_is_a_validator_too(server: Server, tmp_path: Path) -> None:
    changed = "Wed, 01 Jan 2025 00:00:00 GMT"
    server.headers, server.break_after = {"ETag": 'W/"1"', "Last-Modified": changed}, [1000]
    assert fetch(server, tmp_path / "d", "/a.tar")[0].read_bytes() == CONTENT
    assert server.asked[1] == ("/a.tar", "bytes=1000-", changed)


def test_what_came_from_one_mirror_is_not_continued_at_another(server: Server, tmp_path: Path) -> None:
    broken(server, tmp_path / "d", "/gone/a.tar", size=1000)
    assert fetch(server, tmp_path / "d", "/gone/a.tar", "/good/a.tar")[0].read_bytes() == CONTENT
    assert server.asked[-1] == ("/good/a.tar", None, None)


def test_damaged_bytes_of_an_earlier_command_are_downloaded_again(server: Server, tmp_path: Path) -> None:
    broken(server, tmp_path / "d", "/one/a.tar", size=1000)
    assert fetch(server, tmp_path / "d", "/one/a.tar")[0].read_bytes() == CONTENT
    assert server.asked == [("/one/a.tar", "bytes=1000-", ETAG), ("/one/a.tar", None, None)]


def test_a_checksum_that_fails_starts_from_0_once_and_then_at_the_next_mirror(server: Server, tmp_path: Path) -> None:
    broken(server, tmp_path / "d", "/other/a.tar", size=4)
    assert fetch(server, tmp_path / "d", "/other/a.tar", "/two/a.tar")[0].read_bytes() == CONTENT
    assert server.asked == [
        ("/other/a.tar", "bytes=4-", ETAG), ("/other/a.tar", None, None), ("/two/a.tar", None, None),
    ]  # fmt: skip
    assert [each.name for each in tmp_path.iterdir()] == ["d"]


def test_too_many_bytes_start_over(server: Server, tmp_path: Path) -> None:
    broken(server, tmp_path / "d", "/a.tar", size=len(CONTENT) + 5)
    assert fetch(server, tmp_path / "d", "/a.tar")[0].read_bytes() == CONTENT
    assert [each[1] for each in server.asked] == [f"bytes={len(CONTENT) + 5}-", None]


def test_a_range_of_thousands_of_digits_leads_to_the_next_mirror(server: Server, tmp_path: Path) -> None:
    broken(server, tmp_path / "d", "/digits/a.tar", size=1000)
    assert fetch(server, tmp_path / "d", "/digits/a.tar", "/good/a.tar")[0].read_bytes() == CONTENT
    assert [each[0] for each in server.asked] == ["/digits/a.tar"] * 2 + ["/good/a.tar"]


def test_another_range_than_the_one_asked_for_starts_over(server: Server, tmp_path: Path) -> None:
    broken(server, tmp_path / "d", "/shifted/a.tar", size=1000)
    assert fetch(server, tmp_path / "d", "/shifted/a.tar")[0].read_bytes() == CONTENT
    assert [each[1] for each in server.asked] == ["bytes=1000-", None]


@pytest.mark.parametrize(
    ("path", "faults", "said"),
    [
        ("/words/a.tar", [], "its Content-Length is not a size: 'many'"),
        ("/digits/a.tar", [], "its Content-Length is not a size: '999"),
        ("/one/a.tar", [416], "416"),
        ("/one/a.tar", [503] * (network.RETRIES + 1), "503"),
        ("/one/a.tar", [403], "403"),
    ],
)
def test_whatever_is_wrong_with_a_mirror_leads_to_the_next(
    server: Server, tmp_path: Path, path: str, faults: list[int], said: str
) -> None:
    server.faults = list(faults)
    assert fetch(server, tmp_path / "both", path, "/good/a.tar")[0].read_bytes() == CONTENT
    server.faults = list(faults)
    with pytest.raises(DownloadError, match=re.escape(said)):
        fetch(server, tmp_path / "alone", path)


@pytest.mark.parametrize("url", ["https://127.0.0.1:{port}/a.tar", "http://127.0.0.1:1/a.tar"])
def test_a_mirror_that_cannot_be_reached_leads_to_the_next(server: Server, tmp_path: Path, url: str) -> None:
    urls = [url.format(port=server.server_port), f"http://127.0.0.1:{server.server_port}/a.tar"]
    path, _ = download.fetch(urls, sha256=SHA256, folder=tmp_path / "d", settings=PLAIN, tell=lambda *_: None)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "times"), [(503, network.RETRIES), (429, 1), (500, 2)])
def test_a_server_that_is_busy_is_asked_again(server: Server, tmp_path: Path, status: int, times: int) -> None:
    server.faults = [status] * times
    assert fetch(server, tmp_path / "d", "/a.tar")[0].read_bytes() == CONTENT
    assert len(server.asked) == times + 1


def test_other_refusals_are_not_asked_again(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="404"):
        fetch(server, tmp_path / "d", "/gone/a.tar")
    assert len(server.asked) == 1


def test_an_archive_that_its_server_calls_gzip_encoded_is_kept_as_it_was_sent(server: Server, tmp_path: Path) -> None:
    server.headers = {"Content-Encoding": "gzip", "Content-Type": "application/x-tar"}
    assert fetch(server, tmp_path / "d", "/a.tar.gz")[0].read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, SpaceError), (errno.EDQUOT, SpaceError), (errno.EIO, HostError)]
)
def test_a_disk_that_fails_is_not_the_mirrors_fault(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[JetpareError]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    before = download.write
    monkeypatch.setattr(download, "write", fail)
    with pytest.raises(kind, match=r"\.part"):
        fetch(server, tmp_path / "d", "/a.tar", "/b.tar")
    assert len(server.asked) == 1
    monkeypatch.setattr(download, "write", before)
    assert fetch(server, tmp_path / "d", "/a.tar")[0].read_bytes() == CONTENT


def test_what_is_not_whole_never_lies_in_the_folder(server: Server, tmp_path: Path) -> None:
    seen: list[list[Path]] = []
    folder = tmp_path / "d"
    for break_after in ([2_000_000] * 2, []):
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
    server.break_after, server.ranges = [2_000_000], False
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
    assert network.proxies("https://osgeo.example/x", known) == {"https": "http://p:1", "all": "socks5://q:2"}
    assert network.proxies("https://a.local.example/x", known) == {}
    assert network.proxies("https://10.1.2.3/x", known) == {}
    assert network.proxies("https://osgeo.example/x", {}) == {}

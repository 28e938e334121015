"""The host's network settings, on their way into a build."""

from __future__ import annotations

import os
import re
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from jetpare.base.errors import DownloadError
from jetpare.build import doctor, download, network
from jetpare.build.network import NetworkSettings, read_settings, session, write_secrets


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_nothing_set_gives_empty_secrets(tmp_path: Path) -> None:
    found = read_settings({}, tmp_path, tmp_path)
    assert (found.ca_bundle, found.variables, found.left_out) == (None, {}, ())
    write_secrets(found, root=tmp_path, state=Path(".jetpare"))
    assert (tmp_path / ".jetpare/secrets/net").read_text() == ""
    assert (tmp_path / ".jetpare/secrets/ca").read_text() == ""


def test_pips_files_and_the_environment_that_wins(tmp_path: Path) -> None:
    write(
        tmp_path / "pip.conf",
        "[global]\nindex-url = https://a/simple\nextra-index-url =\n  https://b/simple\n  https://c/simple\n",
    )
    found = read_settings({}, tmp_path / "home", tmp_path)
    assert found.variables["UV_DEFAULT_INDEX"] == "https://a/simple"
    assert found.variables["UV_INDEX"] == "https://b/simple https://c/simple"
    write(tmp_path / "home/.config/pip/pip.conf", "[global]\nindex-url = https://user/simple\n")
    assert read_settings({}, tmp_path / "home", tmp_path).variables["PIP_INDEX_URL"] == "https://user/simple"
    environ = {"PIP_INDEX_URL": "https://env/simple"}
    assert read_settings(environ, tmp_path / "home", tmp_path).variables["UV_DEFAULT_INDEX"] == "https://env/simple"


def test_uvs_file_wins_over_pips(tmp_path: Path) -> None:
    write(tmp_path / "pip.conf", "[global]\nindex-url = https://pip/simple\n")
    write(
        tmp_path / "home/.config/uv/uv.toml",
        'find-links = ["https://links"]\n[[index]]\nurl = "https://uv/simple"\ndefault = true\n[[index]]\nurl = "https://uv/more"\n',
    )
    found = read_settings({}, tmp_path / "home", tmp_path).variables
    assert (found["UV_DEFAULT_INDEX"], found["UV_INDEX"], found["UV_FIND_LINKS"]) == (
        "https://uv/simple", "https://uv/more", "https://links",
    )  # fmt: skip


def test_what_lies_on_this_disk_is_left_out_and_named(tmp_path: Path) -> None:
    environ = {"PIP_FIND_LINKS": "/opt/wheels https://links", "PIP_EXTRA_INDEX_URL": "file:///opt/simple"}
    found = read_settings(environ, tmp_path, tmp_path)
    assert found.left_out == ("file:///opt/simple", "/opt/wheels")
    assert found.variables == {"UV_FIND_LINKS": "https://links", "PIP_FIND_LINKS": "https://links"}


def test_named_indexes_are_for_uv_alone_and_a_scheme_has_any_case(tmp_path: Path) -> None:
    environ = {
        "UV_INDEX": "corp=https://me:hunter2@index.corp/simple HTTPS://b/simple",
        "UV_DEFAULT_INDEX": "a=http://a",
    }
    found = read_settings(environ, tmp_path, tmp_path)
    assert found.left_out == ()
    assert found.variables == {
        "UV_DEFAULT_INDEX": "a=http://a", "PIP_INDEX_URL": "http://a", "UV_INDEX": environ["UV_INDEX"],
        "PIP_EXTRA_INDEX_URL": "https://me:hunter2@index.corp/simple HTTPS://b/simple",
    }  # fmt: skip


def test_what_is_left_out_is_named_without_its_password(tmp_path: Path) -> None:
    found = read_settings({"UV_INDEX": "x=ftp://me:hun@ter2@host/simple"}, tmp_path, tmp_path)
    assert found.left_out == ("x=ftp://host/simple",)


def test_proxies_in_both_spellings(tmp_path: Path) -> None:
    found = read_settings({"HTTPS_PROXY": "http://p:1"}, tmp_path, tmp_path).variables
    assert found == {"https_proxy": "http://p:1", "HTTPS_PROXY": "http://p:1"}


def test_secrets_are_for_their_owner_and_quoted_for_a_shell(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("PEM")
    environ = {"PIP_CERT": str(bundle), "HTTP_PROXY": "http://u:p'$(x)@h"}
    write_secrets(read_settings(environ, tmp_path, tmp_path), root=tmp_path, state=Path("s"))
    net = tmp_path / "s/secrets/net"
    assert stat.S_IMODE(net.stat().st_mode) == 0o600
    assert """export http_proxy='http://u:p'"'"'$(x)@h'""" in net.read_text()
    assert (tmp_path / "s/secrets/ca").read_text() == "PEM"


def test_damaged_settings_are_not_our_error(tmp_path: Path) -> None:
    write(tmp_path / "pip.conf", "no section\n\xff")
    write(tmp_path / ".config/uv/uv.toml", "= broken")
    assert read_settings({"SSL_CERT_FILE": "/nowhere"}, tmp_path, tmp_path).variables == {}


def test_pip_reads_no_file_where_it_is_told_so(tmp_path: Path) -> None:
    write(tmp_path / "pip.conf", "[global]\nindex-url = https://a/simple\n")
    assert read_settings({"PIP_CONFIG_FILE": os.devnull}, tmp_path, tmp_path).variables == {}


def test_the_first_certificate_bundle_that_exists_counts(tmp_path: Path) -> None:
    for name in ("ssl.pem", "pip.pem", "conf.pem"):
        write(tmp_path / name, "PEM")
    write(tmp_path / "pip.conf", f"[global]\ncert = {tmp_path}/conf.pem\n")

    def found(**environ: str) -> Path | None:
        return read_settings(environ, tmp_path / "home", tmp_path).ca_bundle

    ours, pips, gone = (str(tmp_path / name) for name in ("ssl.pem", "pip.pem", "gone.pem"))
    assert found() == tmp_path / "conf.pem"
    assert found(PIP_CERT=pips) == tmp_path / "pip.pem"
    assert found(PIP_CERT=pips, SSL_CERT_FILE=ours) == tmp_path / "ssl.pem"
    assert found(PIP_CERT=pips, SSL_CERT_FILE=gone) == tmp_path / "pip.pem"


# --- requests of our own


class Server(ThreadingHTTPServer):
    """Answers with the ``statuses``, then with 200; keeps the headers that it got."""

    statuses: list[int]
    got: list[dict[str, str]]
    redirect = ""
    retry_after = "0"

    def handle_error(self, *_: object) -> None:
        """Whoever asked has hung up."""

    @property
    def port(self) -> int:
        return self.server_port


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.got.append(dict(self.headers))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.send_response(302 if self.server.redirect else status)
        if self.server.redirect:
            self.send_header("Location", self.server.redirect)
        self.send_header("Retry-After", self.server.retry_after)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        made.statuses, made.got = [], []
        if context:
            made.socket = context.wrap_socket(made.socket, server_side=True)
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setattr(network, "BACKOFF_SECONDS", 0.0)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serving() as made:
        yield made


def get(url: str, settings: NetworkSettings | None = None, **options: int) -> requests.Response:
    with session(settings or NetworkSettings(), **options) as made:
        return made.get(url)


@pytest.mark.parametrize(
    ("statuses", "status", "asked"),
    [
        ([503, 502, 500], 200, 4),
        ([429], 200, 2),
        ([503] * 9, 503, network.RETRIES + 1),
        ([404], 404, 1),
        ([403], 403, 1),
        ([408], 408, 1),
    ],
)
def test_what_is_asked_again(server: Server, statuses: list[int], status: int, asked: int) -> None:
    server.statuses = statuses
    assert get(f"http://127.0.0.1:{server.port}/").status_code == status
    assert len(server.got) == asked


def test_waits_grow(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(network, "BACKOFF_SECONDS", 0.5)
    monkeypatch.setattr("time.sleep", waits.append)
    with session(NetworkSettings()) as made, pytest.raises(requests.ConnectionError):
        made.get("http://127.0.0.1:1/")
    assert server.got == []
    assert waits == [1.0, 2.0]  # the first retry is at once


def test_who_asks(server: Server) -> None:
    get(f"http://127.0.0.1:{server.port}/")
    assert server.got[0]["User-Agent"].startswith("jetpare/")


def test_the_login_of_the_url_or_of_netrc(server: Server, tmp_path: Path) -> None:
    get(f"http://me:hunter2@127.0.0.1:{server.port}/")
    get(f"http://127.0.0.1:{server.port}/")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password secret\n")
    get(f"http://127.0.0.1:{server.port}/")
    assert [got.get("Authorization") for got in server.got] == [
        requests.auth._basic_auth_str("me", "hunter2"), None, requests.auth._basic_auth_str("other", "secret"),
    ]  # fmt: skip


def test_each_hop_of_a_redirect_gets_its_own_proxy(server: Server) -> None:
    with serving() as proxy:
        proxy.redirect = f"http://127.0.0.1:{server.port}/"
        settings = NetworkSettings(variables={"http_proxy": f"http://127.0.0.1:{proxy.port}", "no_proxy": "127.0.0.1"})
        assert get("http://mirror.invalid/", settings).status_code == 200
        assert (len(proxy.got), len(server.got)) == (1, 1)


@pytest.mark.parametrize("place", ["/\xff\xfe/x", "http://[::1/x", "http://h:99999999/", "x:///", "http://a..b/", "//"])
def test_a_redirect_to_nowhere_is_a_failed_request(server: Server, place: str) -> None:
    server.redirect = place
    fails(server)


@pytest.mark.parametrize("when", ["9" * 5000, "Mon, 01 Jan 99999999999 00:00:00 GMT", "soon"])
def test_a_time_that_never_comes_is_a_failed_request(server: Server, when: str) -> None:
    server.statuses, server.retry_after = [503] * 9, when
    fails(server)


@pytest.mark.parametrize("proxy", ["http://u:pw@", "http://", "http://[::1", "http://h:port", "x://h", "u:pw/x@h"])
def test_a_proxy_that_is_none_is_a_failed_request(server: Server, proxy: str) -> None:
    fails(server, NetworkSettings(variables={"http_proxy": proxy}))
    assert server.got == []


def fails(server: Server, settings: NetworkSettings = NetworkSettings()) -> None:  # noqa: B008 - it is frozen
    """Assert that a request fails with an error that every caller expects, and is a finding of the doctor."""
    url = f"http://127.0.0.1:{server.port}/"
    with pytest.raises(requests.RequestException):
        get(url, settings)
    found = doctor.check_index(url, settings)
    assert (found.status, "no answer" in found.detail) == ("failed", True)


@pytest.mark.processes
def test_the_certificate_of_pips_settings_counts_for_every_request(tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    argv += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(argv, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    write(tmp_path / "pip.conf", f"[global]\ncert = {cert}\n")
    with serving(context) as server:
        url = f"https://127.0.0.1:{server.port}/"
        assert doctor.check_index(url, read_settings({}, tmp_path / "home", tmp_path)).status == "ok"
        refused = doctor.check_index(url, NetworkSettings())
        assert refused.status == "failed"
        assert "certificate" in refused.detail
        with pytest.raises(requests.exceptions.SSLError) as caught:
            get(url)
        assert "certificate verify failed" in network.reason(caught.value, NetworkSettings(), url).lower()
    assert len(server.got) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (requests.HTTPError("404 Client Error: Not Found for url: http://me:x@h/"), "404 Client Error: Not Found for url: http://h/"),
        (requests.ConnectionError(OSError("aborted", ConnectionResetError(104, "reset by peer"))), "[Errno 104] reset by peer"),
        (requests.Timeout(), "Timeout"),
        (ValueError("one\ntwo"), "one"),
    ],
)  # fmt: skip
def test_the_reason_is_the_innermost_one_without_a_password(error: Exception, said: str) -> None:
    assert network.reason(error, NetworkSettings(), "http://h/") == said


SECRET = "S3cr3tPw"  # noqa: S105


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://u:S3cr3tPw@h/simple", "http://h/simple"),
        ("u:S3cr3tPw@h/simple", "h/simple"),
        ("ftp://u:a/S3cr3tPw@h", "ftp://h"),
        ("x=https://u:a@S3cr3tPw@h/", "x=https://h/"),
        ("//S3cr3tPw@h", "//h"),
        ("u:a//S3cr3tPw@h", "h"),
        ("https://h/simple?token=S3cr3tPw", "https://h/simple"),
        ("https://u:S3cr3tPw@h/simple?token=S3cr3tPw&x", "https://h/simple"),
        ("https://h/simple?token=a@S3cr3tPw", "https://..."),
        ("https://u:a?S3cr3tPw@h/simple", "https://..."),
        ("no answer from 'http://S3cr3tPw@h/x?S3cr3tPw' (twice), why?", "no answer from 'http://h/x (twice), why"),
        ("/opt/wheels", "/opt/wheels"),
        ("", ""),
    ],
)
def test_what_is_shown_has_no_login_and_no_query(text: str, shown: str) -> None:
    assert network.without_login(text) == shown


@pytest.mark.parametrize("url", ["u:S3cr3tPw@host/simple", "ftp://u:a/S3cr3tPw@h", "x=u:S3cr3tPw@h?S3cr3tPw"])
def test_an_index_that_is_left_out_is_shown_without_its_password(tmp_path: Path, url: str) -> None:
    found = read_settings({"PIP_INDEX_URL": url}, tmp_path, tmp_path)
    assert found.left_out
    assert SECRET not in f"{found.left_out}"


@pytest.mark.parametrize(
    "proxy", ["http://u:S3cr3tPw/x@127.0.0.1:9", "u:x/S3cr3tPw@127.0.0.1:9", "http://S3cr3tPw#y@h:9", "http://[S3cr3tPw@h", "x://S3cr3tPw:@h"]
)  # fmt: skip
def test_no_error_shows_the_login_of_a_proxy(tmp_path: Path, proxy: str) -> None:
    settings = read_settings({"http_proxy": proxy}, tmp_path, tmp_path)
    found = doctor.check_index("http://mirror.invalid/simple", settings)
    assert found.status == "failed"
    assert SECRET not in f"{found}"
    with pytest.raises(DownloadError) as caught:
        download.fetch(
            ["http://mirror.invalid/a"], sha256="0", folder=tmp_path / "d", settings=settings, tell=lambda *_: None
        )
    assert SECRET not in f"{caught.value}"


@pytest.mark.parametrize(
    "login", ["user:12/S3cr3tPw@", "S3cr3tPw:12/x@", "u:S3cr3tPw@", "u:S3cr3tPw#@", "u:a\\S3cr3tPw@", "u%40S3cr3tPw:x@"]
)  # fmt: skip
def test_no_error_shows_the_login_or_the_query_of_a_url(server: Server, tmp_path: Path, login: str) -> None:
    server.statuses = [404] * 9
    url = f"http://{login}127.0.0.1:{server.port}/simple?token=S3cr3tPw"
    assert SECRET not in f"{doctor.check_index(url, NetworkSettings())}"
    with pytest.raises(DownloadError) as caught:
        download.fetch([url], sha256="0", folder=tmp_path / "d", settings=NetworkSettings(), tell=lambda *_: None)
    assert SECRET not in f"{caught.value}"


def test_a_reason_has_no_login_of_the_settings_in_any_spelling(tmp_path: Path) -> None:
    settings = read_settings(
        {"PIP_EXTRA_INDEX_URL": "https://a/simple https://me:p%40S3cr3tPw@b/simple", "ALL_PROXY": "tok3n@p:1"},
        tmp_path, tmp_path,
    )  # fmt: skip
    error = ValueError("no 'me:p@S3cr3tPw' or S3cr3tPw at tok3n, only some others")
    said = network.reason(error, settings, "http://h/")
    assert not {"S3cr3tPw", "tok3n"} & set(re.findall(r"\w+", said))
    assert said.endswith(", only some others")

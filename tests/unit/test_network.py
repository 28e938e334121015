"""The host's network settings, on their way into a build."""

from __future__ import annotations

import stat
from pathlib import Path

from jetpare.network import read_settings, write_secrets


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

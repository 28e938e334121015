"""The host's network settings, as files that a build mounts as secrets.

A build runs in containers that know nothing of this host: not its package index, its proxies, nor the certificate of a
proxy that inspects TLS. What pip, uv and the environment say about them is written to two files, which BuildKit
hands to single RUN steps; nothing of it reaches a layer, the image's history or a cache key.
"""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import tomli

from jetpare.bake import SECRETS, secret_file
from jetpare.files import write_atomically

PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
CA_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_REMOTE = re.compile(r"(?:[\w.-]+=)?(?=https?://)", re.IGNORECASE)  # uv lets an index have a name: corp=https://...


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """What of the host's settings reaches a build."""

    ca_bundle: Path | None
    variables: Mapping[str, str]
    left_out: tuple[str, ...]  # what is on this host's disk, which a container cannot see; to be shown, so no passwords


def read_settings(environ: Mapping[str, str], home: Path, etc: Path = Path("/etc")) -> NetworkSettings:
    """Collect pip's, uv's and the environment's settings; the environment wins over files, uv's over pip's."""
    pip = _pip_settings(environ, home, etc)
    uv = _uv_settings(environ, home, etc)
    default = (
        environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL") or uv["default"] or pip.get("index-url", "")
    )
    extra = (
        environ.get("UV_INDEX") or environ.get("UV_EXTRA_INDEX_URL") or uv["extra"] or pip.get("extra-index-url", "")
    )
    links = (environ.get("UV_FIND_LINKS") or uv["links"] or pip.get("find-links", "")).replace(",", " ")
    local = [without_login(word) for word in f"{default} {extra} {links}".split() if _is_local(word)]
    default, extra, links = (" ".join(w for w in text.split() if not _is_local(w)) for text in (default, extra, links))
    variables = {
        "UV_DEFAULT_INDEX": default,
        "UV_INDEX": extra,
        "UV_FIND_LINKS": links.replace(" ", ","),
        "PIP_INDEX_URL": _without_names(default),
        "PIP_EXTRA_INDEX_URL": _without_names(extra),
        "PIP_FIND_LINKS": links,
    }
    for name in PROXIES:
        value = environ.get(name) or environ.get(name.upper()) or ""
        variables |= {name: value, name.upper(): value}
    bundle = next((environ[name] for name in CA_VARIABLES if environ.get(name)), pip.get("cert", ""))
    return NetworkSettings(
        ca_bundle=Path(bundle) if bundle and Path(bundle).is_file() else None,
        variables={name: value for name, value in variables.items() if value},
        left_out=tuple(dict.fromkeys(local)),
    )


def write_secrets(settings: NetworkSettings, *, root: Path, state: Path) -> None:
    """Write the secrets' files, readable by their owner alone. They are always there, and may be empty."""
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in sorted(settings.variables.items())]
    contents = {"ca": settings.ca_bundle.read_bytes() if settings.ca_bundle else b"", "net": "".join(lines).encode()}
    for name in SECRETS:
        path = root / secret_file(state, name)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, contents[name], mode=0o600)


def without_login(url: str) -> str:
    """*url* without the user name and password that it may hold, so that it can be shown."""
    return re.sub(r"//[^/]*@", "//", url)


def _is_local(word: str) -> bool:
    return _REMOTE.match(word) is None


def _without_names(indexes: str) -> str:
    """Pip's indexes have no names."""
    return " ".join(_REMOTE.sub("", word, count=1) for word in indexes.split())


def _pip_settings(environ: Mapping[str, str], home: Path, etc: Path) -> dict[str, str]:
    """Pip's configuration files in its own order of precedence, then its environment variables."""
    files = [
        etc / "pip.conf",
        home / ".pip/pip.conf",
        Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf",
    ]
    if environ.get("PIP_CONFIG_FILE"):
        files.append(Path(environ["PIP_CONFIG_FILE"]))
    parser = configparser.RawConfigParser(strict=False)
    found: dict[str, str] = {}
    for file in files:
        try:
            parser.read(file)
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip itself will say so
    for section in ("global", "install"):
        if parser.has_section(section):
            found |= {key: " ".join(value.split()) for key, value in parser.items(section) if value}
    for key in ("index-url", "extra-index-url", "find-links", "cert"):
        value = environ.get("PIP_" + key.upper().replace("-", "_"))
        if value:
            found[key] = " ".join(value.split())
    return found


def _uv_settings(environ: Mapping[str, str], home: Path, etc: Path) -> dict[str, str]:
    """uv.toml's indexes, from the user's file or the system's."""
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "uv/uv.toml"
    chosen = environ.get("UV_CONFIG_FILE")
    raw = _first_toml([Path(chosen)] if chosen else [user, etc / "uv/uv.toml"])
    indexes = [table for table in _tables(raw.get("index")) if isinstance(table.get("url"), str)]
    defaults = [str(table["url"]) for table in indexes if table.get("default")] or _words(raw.get("index-url"))
    extra = [str(table["url"]) for table in indexes if not table.get("default")] or _words(raw.get("extra-index-url"))
    return {
        "default": " ".join(defaults[:1]),
        "extra": " ".join(extra),
        "links": " ".join(_words(raw.get("find-links"))),
    }


def _first_toml(files: Iterable[Path]) -> dict[str, object]:
    for file in files:
        try:
            return tomli.loads(file.read_text())
        except (OSError, UnicodeDecodeError, tomli.TOMLDecodeError):
            continue  # uv itself will say so
    return {}


def _tables(value: object) -> list[dict[str, object]]:
    return [table for table in value if isinstance(table, dict)] if isinstance(value, list) else []


def _words(value: object) -> list[str]:
    words = value if isinstance(value, list) else [value]
    return [word for word in words if isinstance(word, str) and word]

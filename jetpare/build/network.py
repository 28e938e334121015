"""Read the host's network settings once, and use them for builds and for every HTTP request of our own.

A build runs in containers, which do not know this host's package index, its proxies, or the certificate of a proxy that
inspects TLS. These settings of pip, uv and the environment are written to two files, which BuildKit gives to single RUN
steps; they reach no layer, no image's history and no cache key. `session` makes requests with the same certificates and
proxies, so that a server that answers here also answers in a build.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import tomli

from jetpare import __version__
from jetpare.base.files import write_atomically
from jetpare.project.naming import SECRETS, secret_file

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session
    from urllib3.util import Retry


PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
WITH_LOGINS = (*PROXIES, "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")
CA_VARIABLES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
TIMEOUT_SECONDS = (5.0, 60.0)  # to connect, and between two pieces of an answer
RETRIES = 3
BACKOFF_SECONDS = 0.5  # the waits before the retries are 0, 2 and 4 times as long
LONGEST_WAIT_SECONDS = 30.0  # also where a server asks for more with Retry-After
AS_IT_IS = {"Accept-Encoding": "identity"}  # for files, whose bytes have a checksum or a place
_WORD = re.compile(  # with a URL's start: quotes, the name of an index, the scheme
    r"""(?<!\S)(["'(<\[]*(?:[\w.-]+=)?(?:[a-z][a-z0-9+.-]*:)?//)?(\S+)""", re.IGNORECASE
)
_REMOTE = re.compile(r"(?:[\w.-]+=)?(?=https?://)", re.IGNORECASE)  # uv lets an index have a name: corp=https://...


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """The host's settings that reach a build and our own requests.

    ``ca_bundle``: the first file that CA_VARIABLES or pip's ``cert`` names; None takes the system's certificates.
    """

    ca_bundle: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[
        str, ...
    ] = ()  # what is on this host's disk, which a container cannot see; to be shown, so no passwords


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
    bundles = [environ.get(name, "") for name in CA_VARIABLES] + [pip.get("cert", "")]
    return NetworkSettings(
        ca_bundle=next((Path(name).absolute() for name in bundles if name and Path(name).is_file()), None),
        variables={name: value for name, value in variables.items() if value},
        left_out=tuple(dict.fromkeys(local)),
    )


def write_secrets(settings: NetworkSettings, *, root: Path, state: Path) -> None:
    """Write the files of the secrets, which only their owner can read. Each is always written, and may be empty."""
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in sorted(settings.variables.items())]
    contents = {"ca": settings.ca_bundle.read_bytes() if settings.ca_bundle else b"", "net": "".join(lines).encode()}
    for name in SECRETS:
        path = root / secret_file(state, name)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, contents[name], mode=0o600)


def without_login(text: str) -> str:
    """Return *text* so that it can be shown: without the logins and the queries of URLs, which may be tokens.

    A URL needs no scheme, and a password may have any character but a space: the last @ of a word ends the login.
    """
    return _WORD.sub(_without_secrets, text)


def _without_secrets(word: re.Match[str]) -> str:
    login, _, place = word[2].rpartition("@")
    if "?" in login:  # in a password or before a query: the host cannot be told from either
        place = "..."
    return (word[1] or "") + place.partition("?")[0]


def _logins(texts: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern for the logins of the URLs in *texts*, and for each word of one: a wrong parse splits them."""
    logins = {word[2].rpartition("@")[0] for text in texts for word in _WORD.finditer(text)} - {""}
    logins |= {change(login) for login in logins for change in (unquote, quote)}
    parts = logins | {part for login in logins for part in re.findall(r"\w+", login)}
    longest_first = sorted(map(re.escape, parts), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(longest_first) or '(?!)'})(?!\w)")


# --- requests of our own


def session(settings: NetworkSettings, *, retries: int = RETRIES) -> Session:
    """Return a requests.Session with the certificates and proxies of *settings*. Close it, or use it in a with block.

    A network error and the answers 429 and 5xx are tried again, at most *retries* times, with growing waits; any other
    answer and a certificate that does not fit are not. The last answer is returned, whatever its status. Logins come
    from the URL or from ~/.netrc. Requests time out after TIMEOUT_SECONDS unless they say otherwise. Whatever is wrong
    with a URL, a proxy or the head of an answer raises requests.RequestException.
    """
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.exceptions import HTTPError

    class TolerantSession(requests.Session):
        """Raises nothing but a RequestException, also for an answer or a proxy that the libraries stumble over."""

        def request(self, *args: Any, **options: Any) -> Response:  # noqa: ANN401
            try:
                return super().request(*args, **options)
            except requests.RequestException:
                raise
            except (HTTPError, ValueError, OverflowError, TypeError) as error:
                raise requests.RequestException(error) from error

    class Adapter(HTTPAdapter):
        """Applies the settings to each hop: a redirect may lead to a host that needs no proxy."""

        def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:  # noqa: ANN401
            options["proxies"] = proxies(str(request.url), settings.variables)
            options["timeout"] = options.get("timeout") or TIMEOUT_SECONDS
            return super().send(request, *args, **options)

    made = TolerantSession()
    made.trust_env = False  # the settings are those of the project's environment, not of this process's
    made.verify = str(settings.ca_bundle) if settings.ca_bundle else True
    made.auth = _login
    made.headers["User-Agent"] = f"jetpare/{__version__}"
    for scheme in ("http://", "https://"):
        made.mount(scheme, Adapter(max_retries=_policy(retries)))
    return made


def _policy(retries: int) -> Retry:
    from urllib3.util import Retry

    return Retry(
        total=retries,
        other=0,  # such as a certificate that does not fit
        status_forcelist={429, *range(500, 600)},
        backoff_factor=BACKOFF_SECONDS,
        backoff_max=LONGEST_WAIT_SECONDS,
        retry_after_max=int(LONGEST_WAIT_SECONDS),
        raise_on_status=False,
    )


def _login(request: PreparedRequest) -> PreparedRequest:
    """Add the login that the URL holds, else the one that ~/.netrc has for its host."""
    from requests.auth import HTTPBasicAuth
    from requests.utils import get_auth_from_url, get_netrc_auth

    url = str(request.url)
    login = get_auth_from_url(url)
    if not any(login):
        login = get_netrc_auth(url) or login
    return HTTPBasicAuth(*login)(request) if any(login) else request


def proxies(url: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the proxies for *url* by scheme, from the variables http_proxy, https_proxy, all_proxy and no_proxy."""
    from requests.utils import should_bypass_proxies

    if should_bypass_proxies(url, no_proxy=variables.get("no_proxy", "")):
        return {}
    names = {scheme: f"{scheme}_proxy" for scheme in ("http", "https", "all")}
    return {scheme: variables[name] for scheme, name in names.items() if name in variables}


def reason(error: Exception, settings: NetworkSettings, url: str) -> str:
    """Return the last cause of a failed request in one line, without the layers of requests and urllib3.

    No login of *url* or of *settings* is in it, nor a part of one.
    """
    found: BaseException = error
    while isinstance(below := getattr(found, "reason", None) or (found.args or [None])[-1], BaseException):
        found = below
    text = without_login((str(found).strip() or type(found).__name__).splitlines()[0])
    known = _logins([url, *(settings.variables.get(name, "") for name in WITH_LOGINS)])
    return known.sub("***", text)[:200]


# --- the settings of pip and uv


def _is_local(word: str) -> bool:
    return _REMOTE.match(word) is None


def _without_names(indexes: str) -> str:
    """Remove the names of *indexes*, which uv understands and pip does not."""
    return " ".join(_REMOTE.sub("", word, count=1) for word in indexes.split())


def _pip_settings(environ: Mapping[str, str], home: Path, etc: Path) -> dict[str, str]:
    """Read pip's configuration files in its own order of precedence, then its environment variables."""
    user = [home / ".pip/pip.conf", Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf"]
    chosen = environ.get("PIP_CONFIG_FILE")
    files = [etc / "pip.conf", *user, *([Path(chosen)] if chosen else [])]
    if chosen == os.devnull:  # to pip, this means no file at all
        files = []
    parser = configparser.RawConfigParser(strict=False)
    found: dict[str, str] = {}
    for file in files:
        try:
            parser.read(file)
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip itself will report it
    for section in ("global", "install"):
        if parser.has_section(section):
            found |= {key: " ".join(value.split()) for key, value in parser.items(section) if value}
    for key in ("index-url", "extra-index-url", "find-links", "cert"):
        value = environ.get("PIP_" + key.upper().replace("-", "_"))
        if value:
            found[key] = " ".join(value.split())
    return found


def _uv_settings(environ: Mapping[str, str], home: Path, etc: Path) -> dict[str, str]:
    """Read the indexes of uv.toml, the user's file or else the system's."""
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
            continue  # uv itself will report it
    return {}


def _tables(value: object) -> list[dict[str, object]]:
    return [table for table in value if isinstance(table, dict)] if isinstance(value, list) else []


def _words(value: object) -> list[str]:
    words = value if isinstance(value, list) else [value]
    return [word for word in words if isinstance(word, str) and word]

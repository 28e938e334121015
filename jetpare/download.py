"""Archives by URL and sha256, kept on the host so that no rebuild downloads them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from jetpare.errors import DownloadError
from jetpare.files import digest
from jetpare.network import NetworkSettings

TIMEOUT_SECONDS = (10, 60)  # to connect, and between two pieces
PIECE = 1 << 20


def fetch(
    urls: Sequence[str],
    *,
    sha256: str,
    folder: Path,
    settings: NetworkSettings,
    tell: Callable[[int, int | None], None],
) -> tuple[Path, bool]:
    """Bring the archive into *folder* and return its path, and whether anything was downloaded.

    The mirrors are tried in order. A transfer that broke off is resumed, at another mirror if need be. *tell* gets the
    bytes so far and the total, None where the server does not say. DownloadError names what each mirror answered.
    """
    target = folder / Path(urlsplit(urls[0]).path).name
    if target.is_file() and digest(target) == sha256:
        return target, False
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{folder.name}.part")  # beside the folder: the folder is a build context
    answers = []
    for url in urls:
        try:
            _transfer(url, partial, settings, tell)
        except OSError as error:  # requests' exceptions are OSErrors
            answers.append(f"  {url}: {_short(error)}")
            continue
        found = digest(partial)
        if found == sha256:
            partial.replace(target)
            return target, True
        partial.unlink()
        answers.append(f"  {url}: sha256 is {found}, expected {sha256}")
    raise DownloadError(
        f"{target.name}: no mirror gave it:\n" + "\n".join(answers) + f"\nPut the file at {target} by hand, or correct "
        "the urls and sha256 in build.toml."
    )


def _transfer(url: str, partial: Path, settings: NetworkSettings, tell: Callable[[int, int | None], None]) -> None:
    import requests

    have = partial.stat().st_size if partial.exists() else 0
    with ExitStack() as stack:
        session = stack.enter_context(requests.Session())
        session.trust_env = False  # the settings are those of the project's environment, not of this process's
        session.proxies = proxies(url, settings.variables)
        session.verify = str(settings.ca_bundle) if settings.ca_bundle else True
        session.auth = requests.utils.get_netrc_auth(url)
        headers = {"Range": f"bytes={have}-"} if have else {}
        answer = stack.enter_context(session.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS))
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # it is all there, or too much; the checksum decides
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        done = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length else None
        with partial.open("ab" if resumed else "wb") as file:
            for piece in answer.iter_content(PIECE):
                file.write(piece)
                done += len(piece)
                tell(done, total)


def proxies(url: str, variables: Mapping[str, str]) -> dict[str, str]:
    """The proxies for *url*, by scheme, from the variables http_proxy, https_proxy, all_proxy and no_proxy."""
    from requests.utils import should_bypass_proxies

    if should_bypass_proxies(url, no_proxy=variables.get("no_proxy", "")):
        return {}
    names = {scheme: f"{scheme}_proxy" for scheme in ("http", "https", "all")}
    return {scheme: variables[name] for scheme, name in names.items() if name in variables}


def _short(error: Exception) -> str:
    text = str(getattr(error, "reason", None) or error)
    return text.splitlines()[0][:200] if text else type(error).__name__

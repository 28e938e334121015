"""What a wheel on a package index requires, read without downloading the wheel.

An index serves a wheel's metadata as a file of its own (PEP 658), or else the wheel is a zip archive on a server that
gives parts of files: its directory and one member are some hundred kilobytes of a gigabyte.
"""

from __future__ import annotations

import io
import re
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.parser import BytesParser
from html.parser import HTMLParser
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urldefrag, urljoin

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from jetpare import process
from jetpare.network import NetworkSettings

if TYPE_CHECKING:
    from requests import Response

TIMEOUT_SECONDS = (5, 20)  # to connect, and between two pieces
BUFFER = 1 << 16
JSON = "application/vnd.pypi.simple.v1+json"
PIP_SECONDS = 20.0
# The name is pip's own, and pip is where its value stands.
DEFAULT_INDEX = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"


@dataclass(frozen=True, kw_only=True)
class Target:
    """For what a wheel has to be: a machine as the kernel calls it, and a Python such as 3.11, None for any."""

    machine: str
    python: str | None


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel's file name, and its requirements as its metadata has them."""

    name: str
    requires: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _File:
    name: str
    url: str
    metadata: bool  # whether the metadata is a file of its own, beside it


def find(
    pin: str, target: Target, *, folders: Iterable[Path], indexes: Iterable[str], ca_bundle: Path | None
) -> Wheel | None:
    """The wheel that *pin* (torch==2.8.0) stands for: from *folders*, or the first of *indexes* that has the project.

    An index '' is pip's default. None where that has no such wheel. OSError or ValueError where a server does not
    answer, or answers with something else.
    """
    requirement = Requirement(pin)
    local = {path.name: path for folder in folders for path in folder.rglob("*.whl")}
    chosen = choose(local, requirement, target)
    if chosen:
        with local[chosen].open("rb") as file:
            return Wheel(name=chosen, requires=_requires(_member(file)))
    for index in indexes:
        files = _files(index or default_index(), canonicalize_name(requirement.name), ca_bundle)
        if files:
            chosen = choose(files, requirement, target)
            return Wheel(name=chosen, requires=_requires(_metadata(files[chosen], ca_bundle))) if chosen else None
    return None


def indexes_of(settings: NetworkSettings, profile: Sequence[str]) -> list[str]:
    """The indexes that a build asks, in its order: the profile's, then the host's settings or pip's default, ''."""
    variables = settings.variables
    return [*profile, *variables.get("PIP_EXTRA_INDEX_URL", "").split(), variables.get("PIP_INDEX_URL", "")]


def default_index() -> str:
    """Where pip looks when nothing tells it otherwise."""
    return process.run([sys.executable, "-c", DEFAULT_INDEX], timeout=PIP_SECONDS).strip()


def choose(names: Iterable[str], requirement: Requirement, target: Target) -> str | None:
    """The newest of the wheels called *names* that meets *requirement* and runs on *target*."""
    fitting: list[tuple[Version, str]] = []
    for name in names:
        try:
            project, version, _, tags = parse_wheel_filename(name)
        except InvalidWheelFilename:
            continue  # a source archive, or a wheel of long ago
        runs = any(
            tag.platform.endswith(f"_{target.machine}") and _is_python(tag.interpreter, target.python) for tag in tags
        )
        right = project == canonicalize_name(requirement.name)
        if right and runs and requirement.specifier.contains(version, prereleases=True):
            fitting.append((version, name))
    return max(fitting)[1] if fitting else None


def _is_python(interpreter: str, python: str | None) -> bool:
    return python is None or interpreter in {"py3", "cp" + "".join(python.split(".")[:2])}


def _requires(metadata: bytes) -> tuple[str, ...]:
    return tuple(BytesParser().parsebytes(metadata, headersonly=True).get_all("Requires-Dist") or ())


# --- an index


def _get(url: str, ca_bundle: Path | None, **headers: str) -> Response:
    import requests

    answer = requests.get(url, headers=headers, timeout=TIMEOUT_SECONDS, verify=str(ca_bundle) if ca_bundle else True)
    answer.raise_for_status()
    return answer


def _files(index: str, project: str, ca_bundle: Path | None) -> dict[str, _File]:
    """The files of a project by name; none where the index has no such project."""
    import requests

    try:
        answer = _get(f"{index.rstrip('/')}/{project}/", ca_bundle, Accept=f"{JSON}, text/html;q=0.1")
    except requests.HTTPError as error:
        if error.response.status_code == requests.codes.not_found:
            return {}
        raise
    if answer.headers.get("Content-Type", "").startswith(JSON):
        found = [_of_json(entry) for entry in answer.json()["files"]]
    else:
        page = _Page()
        page.feed(answer.text)
        found = page.files
    return {
        file.name: _File(name=file.name, url=urljoin(answer.url, file.url), metadata=file.metadata) for file in found
    }


def _of_json(entry: Mapping[str, Any]) -> _File:
    metadata = entry.get("core-metadata") or entry.get("dist-info-metadata")
    return _File(name=str(entry["filename"]), url=str(entry["url"]), metadata=bool(metadata))


class _Page(HTMLParser):
    """The links of an index's page (PEP 503), whose text is the file's name."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[_File] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        url = urldefrag(known.get("href") or "").url
        if tag == "a" and url:
            metadata = known.get("data-core-metadata") or known.get("data-dist-info-metadata") or "false"
            name = _file_name(url)
            self.files.append(_File(name=name, url=url, metadata=metadata != "false"))


def _file_name(url: str) -> str:
    from urllib.parse import unquote

    return unquote(url.partition("?")[0].rpartition("/")[2])


def _metadata(file: _File, ca_bundle: Path | None) -> bytes:
    if file.metadata:
        return _get(f"{file.url}.metadata", ca_bundle).content
    return _member(io.BufferedReader(_Remote(file.url, ca_bundle), BUFFER))


def _member(file: IO[bytes]) -> bytes:
    """The metadata in a wheel. ValueError where it is none."""
    try:
        with zipfile.ZipFile(file) as archive:
            name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            return archive.read(name)
    except (zipfile.BadZipFile, StopIteration) as error:
        raise ValueError("it is no wheel") from error


class _Remote(io.RawIOBase):
    """A file on a server, of which only those parts are fetched that are read."""

    def __init__(self, url: str, ca_bundle: Path | None) -> None:
        super().__init__()
        self.url, self.ca_bundle, self.place = url, ca_bundle, 0
        self.length = int(self._part("bytes=0-0").headers["Content-Range"].rpartition("/")[2])

    def _part(self, wanted: str) -> Response:
        import requests

        with requests.get(
            self.url,
            headers={"Range": wanted, "Accept-Encoding": "identity"},
            timeout=TIMEOUT_SECONDS,
            verify=str(self.ca_bundle) if self.ca_bundle else True,
            stream=True,
        ) as answer:
            answer.raise_for_status()
            if answer.status_code != requests.codes.partial_content:
                raise OSError("the server gives whole files only")
            _ = answer.content
            return answer

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.length}[whence]
        self.place = start + offset
        return self.place

    def tell(self) -> int:
        return self.place

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        end = min(self.place + len(buffer), self.length)
        if end <= self.place:
            return 0
        data = self._part(f"bytes={self.place}-{end - 1}").content
        buffer[: len(data)] = data
        self.place += len(data)
        return len(data)

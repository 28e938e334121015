"""Read what a wheel on a package index requires, without downloading the wheel.

An index serves a wheel's metadata as a file of its own (PEP 658), or else the wheel is a zip archive on a server that
gives parts of files: its directory and one member are some hundred kilobytes of a gigabyte.
"""

from __future__ import annotations

import io
import lzma
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.parser import BytesParser
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from jetpare.build import network
from jetpare.build.network import NetworkSettings

if TYPE_CHECKING:
    from pypi_simple import DistributionPackage
    from requests import Response, Session


BUFFER = 1 << 16
RETRIES = 1  # a build asks before it starts, and continues without an answer
# What zipfile raises for a member that is damaged, encrypted (RuntimeError), or compressed in a way that it lacks.
UNREADABLE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, NotImplementedError, OverflowError,
    struct.error,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Target:
    """The machine, as the kernel calls it, and the Python that a wheel must fit: 3.11, or None for any."""

    machine: str
    python: str | None


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel's file name, and its requirements as written in its metadata."""

    name: str
    requires: tuple[str, ...]


def find(
    pin: str, target: Target, *, folders: Iterable[Path], indexes: Iterable[str], settings: NetworkSettings
) -> Wheel | None:
    """Return the wheel that *pin* (torch==2.8.0) selects: from *folders*, or the first of *indexes* with the project.

    An index '' is pip's default. Returns None if there is no such wheel. Raises OSError or ValueError if a server does
    not answer, or sends something else.
    """
    requirement = Requirement(pin)
    local = {path.name: path for folder in folders for path in folder.rglob("*.whl")}
    chosen = choose(local, requirement, target)
    if chosen:
        with local[chosen].open("rb") as file:
            return Wheel(name=chosen, requires=_requires(_member(file)))
    with network.session(settings, retries=RETRIES) as session:
        for index in indexes:
            found = _packages(session, index or default_index(), requirement.name)
            if found:
                chosen = choose(found, requirement, target)
                return Wheel(name=chosen, requires=_requires(_metadata(session, found[chosen]))) if chosen else None
    return None


def indexes_of(settings: NetworkSettings, profile: Sequence[str]) -> list[str]:
    """Return the indexes that a build asks, in its order: the profile's, then the host's or pip's default, ''."""
    variables = settings.variables
    return [*profile, *variables.get("PIP_EXTRA_INDEX_URL", "").split(), variables.get("PIP_INDEX_URL", "")]


def default_index() -> str:
    """Return the index that pip asks when nothing names another one."""
    from pypi_simple import PYPI_SIMPLE_ENDPOINT

    return PYPI_SIMPLE_ENDPOINT


def choose(names: Iterable[str], requirement: Requirement, target: Target) -> str | None:
    """Return the newest of the wheels called *names* that meets *requirement* and runs on *target*."""
    fitting: list[tuple[Version, str]] = []
    for name in names:
        try:
            project, version, _, tags = parse_wheel_filename(name)
        except InvalidWheelFilename:
            continue  # a source archive, or a very old wheel
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


def _packages(session: Session, index: str, project: str) -> dict[str, DistributionPackage]:
    """Return the files of a project by name; empty if the index has no such project."""
    from pypi_simple import (
        ACCEPT_JSON_PREFERRED,
        NoSuchProjectError,
        PyPISimple,
        UnexpectedRepoVersionWarning,
        UnsupportedRepoVersionError,
    )

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnexpectedRepoVersionWarning)  # a newer index is still understood
            page = PyPISimple(index, session=session, accept=ACCEPT_JSON_PREFERRED).get_project_page(project)
    except NoSuchProjectError:
        return {}
    except UnsupportedRepoVersionError as error:
        raise ValueError(str(error)) from error
    return {package.filename: package for package in page.packages}


def _metadata(session: Session, package: DistributionPackage) -> bytes:
    from pypi_simple import NoMetadataError, PyPISimple

    if package.has_metadata:
        with suppress(NoMetadataError):  # the index announces it, and does not have it
            return PyPISimple(session=session).get_package_metadata_bytes(
                package, verify=bool(package.metadata_digests)
            )
    return _member(io.BufferedReader(_Remote(package.url, session), BUFFER))


def _member(file: IO[bytes]) -> bytes:
    """Return the metadata in a wheel. Raises ValueError if *file* is not one."""
    try:
        with zipfile.ZipFile(file) as archive:
            name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            return archive.read(name)
    except StopIteration as error:
        raise ValueError("it is not a wheel: it has no METADATA") from error
    except UNREADABLE as error:
        raise ValueError(f"it is not a wheel that can be read: {error}") from error


class _Remote(io.RawIOBase):
    """A file on a server. Reading fetches only the parts that are read."""

    def __init__(self, url: str, session: Session) -> None:
        super().__init__()
        self.url, self.session, self.place = url, session, 0
        self.length = int(self._part("bytes=0-0").headers["Content-Range"].rpartition("/")[2])

    def _part(self, wanted: str) -> Response:
        import requests

        headers = {"Range": wanted, **network.AS_IT_IS}
        with self.session.get(self.url, headers=headers, stream=True) as answer:
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

"""Download archives by URL and sha256, and keep them on the host so that no rebuild downloads them again."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jetpare.base import files
from jetpare.base.callbacks import TellBytes
from jetpare.base.errors import DownloadError, HostError, SpaceError
from jetpare.build import network
from jetpare.build.network import NetworkSettings

if TYPE_CHECKING:
    from requests import Response


PIECE = 1 << 20
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
STRONG_VALIDATOR = re.compile(r'"[^"]*"')  # RFC 9110: If-Range takes no weak one, such as W/"1"
SIZE = re.compile(r"[0-9]{1,18}")  # fits into 64 bits; int() refuses thousands of digits


class _MirrorError(Exception):
    """A mirror sent something that cannot be used."""


def fetch(
    urls: Sequence[str], *, sha256: str, folder: Path, settings: NetworkSettings, tell: TellBytes
) -> tuple[Path, bool]:
    """Download the archive into *folder*, and return its path and whether anything was downloaded.

    The mirrors are tried in order, the next one after any failure. A transfer that broke off is resumed at the same
    mirror. *tell* gets the bytes so far and the total, None if the server does not announce it. Raises DownloadError
    with the answer of each mirror; SpaceError or HostError if this machine cannot store the file.
    """
    import requests
    import urllib3

    target = folder / Path(urlsplit(urls[0]).path).name
    if target.is_file() and files.digest(target) == sha256:
        return target, False
    answers = []
    with _our_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for url in urls:
        partial = _Partial.of(url, folder)
        try:
            found = _from_mirror(url, partial, sha256=sha256, settings=settings, tell=tell)
        except (_MirrorError, requests.RequestException, urllib3.exceptions.HTTPError) as error:
            answers.append(f"  {network.without_login(url)}: {network.reason(error, settings, url)}")
            continue
        if found == sha256:
            with _our_disk(target):
                partial.path.replace(target)
            for each in folder.parent.glob(f"{folder.name}.*part*"):
                each.unlink(missing_ok=True)
            return target, True
        partial.drop()
        answers.append(f"  {network.without_login(url)}: sha256 is {found}, expected {sha256}")
    raise DownloadError(
        f"{target.name}: no mirror sent it:\n" + "\n".join(answers) + f"\nPut the file at {target} by hand, or correct "
        "its urls and sha256 in build.toml."
    )


@dataclass(frozen=True, kw_only=True)
class _Partial:
    """The bytes received from one URL so far, next to the folder, which is a build context.

    The transfer is resumed only while the server still has the same file: ``note`` stores the validator (ETag or
    Last-Modified) of the bytes.
    """

    path: Path
    note: Path

    @classmethod
    def of(cls, url: str, folder: Path) -> _Partial:
        name = f"{folder.name}.{hashlib.sha256(url.encode()).hexdigest()[:16]}.part"
        return cls(path=folder.with_name(name), note=folder.with_name(f"{name}.json"))

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def validator(self) -> str:
        return str(files.json_object(self.note).get("validator") or "")

    def begin(self, validator: str) -> None:
        """Start again from 0 with a file of this *validator*; with '' it cannot be resumed."""
        self.drop()
        files.write_atomically(self.note, json.dumps({"validator": validator}))

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def _from_mirror(url: str, partial: _Partial, *, sha256: str, settings: NetworkSettings, tell: TellBytes) -> str:
    """Download *url* into *partial* and return the sha256.

    If a resumed file has a wrong sha256, its older bytes may be damaged: it is downloaded once more from 0.
    """
    if partial.size and (found := files.digest(partial.path)) == sha256:
        return found
    resumed = _in_tries(url, partial, settings, tell)
    found = files.digest(partial.path)
    if resumed and found != sha256:
        partial.drop()
        _in_tries(url, partial, settings, tell)
        found = files.digest(partial.path)
    return found


def _in_tries(url: str, partial: _Partial, settings: NetworkSettings, tell: TellBytes) -> bool:
    """Download *url* into *partial*, and return whether older bytes are a part of it.

    A transfer that breaks off is resumed after growing waits, at most RETRIES times until the file is a whole PIECE
    larger than ever before. It starts again from 0 at most RETRIES times.
    """
    import requests
    import urllib3

    tries, restarts, wait, largest = network.RETRIES, network.RETRIES, 0.0, 0
    while True:
        before = partial.size
        try:
            return _transfer(url, partial, settings, tell)
        except requests.HTTPError:
            raise  # the session has retried it already
        except (_MirrorError, requests.RequestException, urllib3.exceptions.HTTPError):
            size = partial.size
            restarted = size < before
            if size >= largest + PIECE:
                tries, wait = network.RETRIES, 0.0
            if size == before or not tries or (restarted and not restarts):
                raise
            tries -= 1
            restarts -= restarted
            largest = max(largest, size)
            time.sleep(wait)
            wait = min(network.LONGEST_WAIT_SECONDS, 2 * wait + network.BACKOFF_SECONDS)


def _transfer(url: str, partial: _Partial, settings: NetworkSettings, tell: TellBytes) -> bool:
    """Request the rest of *url*, or all of it, append it to *partial*, and return whether only the rest came."""
    import requests

    with network.session(settings) as session:
        validator, have = partial.validator, partial.size
        resuming = bool(have and validator)
        headers = {"Range": f"bytes={have}-", "If-Range": validator} if resuming else {}
        with session.get(url, headers=network.AS_IT_IS | headers, stream=True) as answer:
            if resuming and answer.status_code == requests.codes.requested_range_not_satisfiable:
                partial.drop()
                raise _MirrorError(f"it has no bytes from {have} on")
            answer.raise_for_status()
            resumed = bool(answer.status_code == requests.codes.partial_content)
            if resumed and not (resuming and _first_byte(answer) == have):
                partial.drop()
                raise _MirrorError(f"it sent other bytes than {have} to the end")
            rest = _length(answer)
            with _our_disk(partial.path):
                if not resumed:
                    have = 0
                    partial.begin(_validator(answer))
            done = _keep(answer, partial.path, have, None if rest is None else have + rest, tell)
            if rest is not None and done != have + rest:
                raise _MirrorError(f"it sent {done - have} of {rest} bytes")
            return resumed


def _keep(answer: Response, path: Path, done: int, total: int | None, tell: TellBytes) -> int:
    """Append each piece to *path* as soon as it comes, so that a break loses none; return the size."""
    with _our_disk(path):
        file = path.open("ab", buffering=0)
    with file:
        # Not decoded: some servers send a .tar.gz as a tar file in gzip encoding, and the checksum is of the .tar.gz.
        while piece := answer.raw.read1(PIECE, decode_content=False):
            with _our_disk(path):
                write(file, piece)
            done += len(piece)
            tell(done, total)
    return done


def write(file: RawIOBase, piece: bytes) -> None:
    """Write all of *piece*; without a buffer, a single call may write less."""
    rest = memoryview(piece)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def _length(answer: Response) -> int | None:
    """Return the bytes that the server announces, None if it does not. Raises _MirrorError if that is not a size."""
    text = answer.headers.get("Content-Length")
    if text is not None and not SIZE.fullmatch(text):
        raise _MirrorError(f"its Content-Length is not a size: {text[:40]!r}")
    return None if text is None else int(text)


def _first_byte(answer: Response) -> int | None:
    match = re.match(rf"bytes ({SIZE.pattern})-", answer.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _validator(answer: Response) -> str:
    etag = answer.headers.get("ETag", "")
    return etag if STRONG_VALIDATOR.fullmatch(etag) else answer.headers.get("Last-Modified", "")


@contextmanager
def _our_disk(path: Path) -> Iterator[None]:
    """Raise SpaceError or HostError for a failed write, which no other mirror can help."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise SpaceError(
                f"{path}: the disk is full. Free some space (`invoke clean --cache` removes what earlier builds left) "
                "and run the command again: it resumes the download."
            ) from error
        raise HostError(f"{path}: the download cannot be written: {error.strerror or error}.") from error

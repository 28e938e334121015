"""Keep on disk what takes long to work out of an image, by everything that it depends on.

An answer's file is named by the digest of its key, of jetpare's own code and of the Python that runs it. So whoever
keeps an answer has to put into the key whatever else it depends on: inventories and listings by the digest of their
files, and the parts of build.toml that it looks at. What is damaged or missing is made anew.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from jetpare.base import files
from jetpare.image.inventory import decoded, uncollected

FOLDER = "kept"  # in the state folder
KEPT_ANSWERS = 48  # of each name
UNFINISHED_SECONDS = 3600.0  # after which a file that is being written is one that was left behind
COMPRESSION = 3
PACKAGE = Path(__file__).parents[1]

Content = TypeVar("Content")
Answer = TypeVar("Answer")


class Held(Generic[Content]):
    """What a file holds, such as an inventory: known by ``digest``, and decoded when it is first asked for.

    ``digest``: of exactly the bytes that `content` comes from; None where there is no file, so that no answer can be
    kept by it. It becomes None when `content` finds that the file is damaged.
    """

    def __init__(self, digest: str | None, load: Callable[[], Content]) -> None:
        self.digest = digest
        self._load = load

    @classmethod
    def of(cls, content: Content, digest: str | None = None) -> Held[Content]:
        """Hold *content*, which is decoded already."""
        return cls(digest, lambda: content)

    @classmethod
    def of_file(
        cls, path: Path, data: bytes, decode: Callable[[], Content | None], again: Callable[[], Content]
    ) -> Held[Content]:
        """Hold *data*, which was read from *path*, to be decoded by *decode*.

        Where that returns None, the file is removed, so that it is not read again, and the content is that of *again*.
        """

        def load() -> Content:
            found = decode()
            if found is not None:
                return found
            held.digest = None
            with suppress(OSError):  # a folder that is read-only: the file is read, and refused, again
                if path.read_bytes() == data:  # else another process has replaced it
                    path.unlink()
            return again()

        held = cls(hashlib.sha256(data).hexdigest(), load)
        return held

    @cached_property
    def content(self) -> Content:
        """The content, decoded once."""
        return self._load()


class HeldContents(Mapping[str, Content]):
    """The contents of several `Held` by name, each decoded when it is first asked for."""

    def __init__(self, held: Mapping[str, Held[Content]]) -> None:
        self.held = held

    def __getitem__(self, name: str) -> Content:
        return self.held[name].content

    def __contains__(self, name: object) -> bool:
        return name in self.held

    def __iter__(self) -> Iterator[str]:
        return iter(self.held)

    def __len__(self) -> int:
        return len(self.held)


def kept(
    state: Path,
    name: str,
    held: Sequence[Held[Any]],
    key: Mapping[str, Any],
    make: Callable[[], Answer],
    kind: type[Answer],
    *,
    lasts: Callable[[Answer], bool] = lambda _: True,
) -> Answer:
    """Return the answer that *state* has for *held* and *key*; else *make* it, and keep it.

    *held*: what the answer depends on; where one has no digest, before or after the answer is made, nothing is kept.
    *key*: all else that it depends on: plain values, dataclasses or models. *kind*: the answer's type, by which its
    file is checked. *lasts*: whether an answer may be kept. An answer that cannot be written is made again next time.
    """
    digests = [each.digest for each in held]
    if None in digests:
        return make()
    path = state / FOLDER / f"{name}-{_digest(digests, key)}.json.gz"
    with suppress(OSError, EOFError, ValueError, RecursionError, zlib.error):
        return _read(path, kind)
    made = make()
    if lasts(made) and digests == [each.digest for each in held]:  # else a file was found to be damaged
        with suppress(OSError):
            data = json.dumps(msgspec.to_builtins(made), separators=(",", ":"))  # escapes names that are not UTF-8
            files.write_atomically(path, gzip.compress(data.encode(), COMPRESSION, mtime=0))
            trim(path.parent, f"{name}-*.json.gz", KEPT_ANSWERS)
    return made


@uncollected()
def _read(path: Path, kind: type[Answer]) -> Answer:
    found: Answer = decoded(gzip.decompress(path.read_bytes()), kind)
    touch(path)
    return found


def touch(path: Path) -> None:
    """Mark *path* as used now, so that `trim` removes it last."""
    with suppress(OSError):
        os.utime(path)


def trim(folder: Path, pattern: str, most: int) -> None:
    """Remove all but the *most* files of *pattern* that were used last, and temporary files that were left behind.

    A time that is still to come, of a clock that ran ahead, counts as the oldest: else what is new would always go.
    """
    now = time.time() + 1  # as coarse as some file systems are
    used = {each: _used(each) for each in folder.glob(pattern)}
    known = sorted(used, key=lambda each: used[each] if used[each] <= now else 0.0, reverse=True)
    left = [each for each in folder.glob(f"{files.TEMPORARY}*") if time.time() - _used(each) > UNFINISHED_SECONDS]
    for old in known[most:] + left:
        old.unlink(missing_ok=True)


def _used(path: Path) -> float:
    """Return when *path* was written or last used; now where another jetpare has just removed it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _digest(digests: Sequence[str | None], key: Mapping[str, Any]) -> str:
    """Return the digest of all that an answer depends on; the order of a mapping counts, as that of [groups] does."""
    text = json.dumps([code(), digests, msgspec.to_builtins(key, enc_hook=_plain)])
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a key holds
    """Return a model of build.toml as plain values."""
    return value.model_dump(mode="json")


@cache
def code() -> str:
    """Return the digest of what makes the answers: jetpare's modules, the library that reads versions, and Python."""
    import packaging

    made = hashlib.sha256(f"{sys.version}\0{packaging.__version__}\0{msgspec.__version__}".encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        content = path.read_bytes()
        made.update(f"\0{path.relative_to(PACKAGE)}\0{len(content)}\0".encode() + content)
    return made.hexdigest()

"""What each layer of an image holds by itself: its names with their sizes, and what it takes away of those below.

Two sources that agree. The engine's own overlay2 folders, where this process can read them: a walk, a second or less.
The engine's image stream (`docker save`), headers only of interest: a minute for 6 GB, so only where it was asked for.
Paths are absolute, ``/usr/bin/env``; sizes are bytes. What cannot be had is None, with the reason.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import posixpath
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import starmap
from pathlib import Path
from typing import IO, Any, Literal

from msgspec import Struct
from msgspec.structs import astuple

from jetpare.base.errors import EngineError
from jetpare.base.files import write_atomically
from jetpare.engine.containers import CHUNK, members
from jetpare.engine.disk import data_roots
from jetpare.engine.model import Engine
from jetpare.image.inventory import Count, decoded, uncollected
from jetpare.image.kept import Held
from jetpare.image.layers import EntryKind, LayerEntry, LayerListing, Listing
from jetpare.image.read import reader_id

SCHEMA: Literal["jetpare.layers/1"] = "jetpare.layers/1"
WHITEOUT, OPAQUE, AUFS = ".wh.", ".wh..wh..opq", ".wh..wh."  # OCI image-spec, layer.md
OVERLAY_XATTRS = ("trusted.overlay.", "user.overlay.")  # the second: of a rootless engine
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"  # what such streams begin with
JSON_BYTES = 8 << 20  # no manifest or configuration is larger
BytesRead = Callable[[int], None]  # bytes of the stream read so far


class Unreadable(Exception):  # noqa: N818 - the reason why a source gives no listing
    """A source cannot tell what the layers hold."""


def take(
    running: Engine,
    image_id: str,
    *,
    state: Path,
    stream: BytesRead | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Listing:
    """What each layer of the image *image_id* (an id, not a name) holds; from the cache in *state* where it is there.

    The engine's stream is read only where *stream* is given; it is told how many bytes were read so far. *say* hears
    where the listing cannot be kept. Raises
    EngineError when the engine does not answer; everything else that is in the way is the answer's ``reason``.
    """
    cache = _path(state, image_id)
    return load(cache, image_id) or _sourced(running, image_id, cache, state=state, stream=stream, say=say).content


def hold(
    running: Engine,
    image_id: str,
    *,
    state: Path,
    stream: BytesRead | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Held[Listing]:
    """Return what `take` does, not decoded where *state* has it; otherwise the layers are read now."""
    cache = _path(state, image_id)
    with suppress(OSError):
        data = cache.read_bytes()
        if reader_id.wrote(data):
            return Held.of_file(
                cache,
                data,
                lambda: _decoded(data, image_id),
                lambda: take(running, image_id, state=state, stream=stream, say=say),
            )
    return _sourced(running, image_id, cache, state=state, stream=stream, say=say)


def _path(state: Path, image_id: str) -> Path:
    return state / "layers" / f"{image_id.removeprefix('sha256:')}.json.gz"


def _sourced(
    running: Engine,
    image_id: str,
    cache: Path,
    *,
    state: Path,
    stream: BytesRead | None,
    say: Callable[[str], None],
) -> Held[Listing]:
    """Return the listing by the first source that has it."""
    reasons = []
    for source in (_from_disk, _from_engine):
        try:
            found = source(running, image_id, state=state, stream=stream)
        except Unreadable as error:
            reasons.append(str(error))
        else:
            try:
                digest = hashlib.sha256(save(found, cache)).hexdigest()
            except OSError as error:
                digest = None
                say(f"{cache}: not kept ({error.strerror or error})")
            return Held.of(found, digest)
    return unlisted(image_id, "; ".join(reasons))


def unlisted(image_id: str, reason: str) -> Held[Listing]:
    """Return a listing without layers, of which nothing but the *reason* can be told."""
    listing = Listing(image_id=image_id, how=None, layers=None, reason=reason)
    return Held.of(listing, f"no layers: {reason}")


# --- the engine's folders


def _from_disk(running: Engine, image_id: str, *, state: Path, stream: BytesRead | None) -> Listing:  # noqa: ARG001
    from jetpare.engine import image_store

    facts = image_store.inspect_image(running, image_id)
    if facts is None:
        raise Unreadable(f"the engine has no image {image_id}")
    if facts.store != "overlay2":
        raise Unreadable(f"the {facts.store} store keeps no folders of layers that can be walked")
    folders = _folders(facts.layer_ids, data_roots(running, state))
    layers = tuple(
        LayerListing(diff_id=diff_id, entries=walk(folder))
        for diff_id, folder in zip(facts.layer_ids, folders, strict=True)
    )
    return Listing(image_id=image_id, how="overlay2", layers=layers)


def _folders(diff_ids: Sequence[str], roots: Iterable[Path]) -> list[Path]:
    """The folder of each layer below the first of *roots* that has them all.

    The engine's layerdb names them by the chain of digests down to the bottom, so that a folder of another engine, or
    of another image, cannot be taken for one of these.
    """
    for root in roots:
        try:
            return [_folder(root, chain, diff_id) for chain, diff_id in zip(chains(diff_ids), diff_ids, strict=True)]
        except OSError:
            continue  # another machine's, not ours to read, or of a driver that keeps them elsewhere
    raise Unreadable("the engine's data cannot be read by this process")


def _folder(root: Path, chain: str, diff_id: str) -> Path:
    entry = root / "image/overlay2/layerdb/sha256" / chain.removeprefix("sha256:")
    if (entry / "diff").read_text() != diff_id:
        raise FileNotFoundError(entry)
    folder = root / "overlay2" / (entry / "cache-id").read_text().strip() / "diff"
    os.stat(folder)  # noqa: PTH116 - OSError where it is not there
    return folder


def chains(diff_ids: Iterable[str]) -> list[str]:
    """The chain ids of an image's layers from the bottom up (OCI image-spec, config.md, 'Layer ChainID')."""
    made: list[str] = []
    for diff_id in diff_ids:
        made.append(
            f"sha256:{hashlib.sha256(f'{made[-1]} {diff_id}'.encode()).hexdigest()}" if made else diff_id,
        )
    return made


def walk(root: Path) -> tuple[LayerEntry, ...]:
    """The names in one overlay2 folder. Raises Unreadable where the kernel has moved parts of it elsewhere."""
    found: list[tuple[str, EntryKind, int, object]] = []
    waiting = [str(root)]
    while waiting:
        folder = waiting.pop()
        for each in os.scandir(folder):
            path = each.path[len(str(root)) :]
            status = each.stat(follow_symlinks=False)
            found.append((path, _kind(status), status.st_size, (status.st_dev, status.st_ino)))
            if stat.S_ISDIR(status.st_mode):
                waiting.append(each.path)
                if _opaque(each.path):
                    found.append((path, "opaque", 0, None))
    return _entries(found)


def _kind(status: os.stat_result) -> EntryKind:
    """The kind of one name; a character device 0/0 is overlayfs' whiteout (kernel's overlayfs.rst)."""
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        return "whiteout"
    kinds: dict[int, EntryKind] = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link"}
    return kinds.get(stat.S_IFMT(status.st_mode), "other")


def _opaque(folder: str) -> bool:
    names = os.listxattr(folder, follow_symlinks=False)
    if any(prefix + "redirect" in names for prefix in OVERLAY_XATTRS):
        raise Unreadable(f"{folder}: was renamed by overlayfs with redirect_dir, so its content is in another layer")
    values = [os.getxattr(folder, name, follow_symlinks=False) for name in names if name.endswith("overlay.opaque")]
    return b"y" in values


def _entries(found: Iterable[tuple[str, EntryKind, int, object]]) -> tuple[LayerEntry, ...]:
    """(path, kind, size, what the names of one file have in common) as entries, the first name of each file first."""
    first: dict[object, str] = {}
    made = []
    for path, kind, size, inode in sorted(found, key=lambda row: (row[0], row[1])):
        file = kind == "file"
        known = first.setdefault(inode, path) if file else path
        made.append(
            LayerEntry(path=path, kind=kind, size=size if file else 0, hardlink=None if known == path else known)
        )
    return tuple(made)


# --- the engine's stream


def _from_engine(running: Engine, image_id: str, *, state: Path, stream: BytesRead | None) -> Listing:  # noqa: ARG001
    from jetpare.engine import api, image_store

    if stream is None:
        raise Unreadable("the engine's stream of the image was not asked for (--layers)")
    facts = image_store.inspect_image(running, image_id)
    if facts is None:
        raise Unreadable(f"the engine has no image {image_id}")
    with api.client(running) as docker:
        chunks = docker.api.get_image(image_id, chunk_size=CHUNK)
        layers = from_stream(_counted(chunks, stream), diff_ids=facts.layer_ids)
    return Listing(image_id=image_id, how="stream", layers=layers)


def _counted(chunks: Iterable[bytes], progress: BytesRead) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        done += len(chunk)
        progress(done)
        yield chunk


def from_stream(chunks: Iterable[bytes], *, diff_ids: Sequence[str]) -> tuple[LayerListing, ...]:
    """The layers *diff_ids* out of a Docker archive or an OCI layout, plain, gzip or zstd. Raises Unreadable."""
    import zstandard

    listings: dict[str, tuple[LayerEntry, ...]] = {}
    texts: dict[str, bytes] = {}
    links: dict[str, str] = {}  # older engines give a layer that occurs twice as a link
    try:
        for member, content in members(chunks, "it"):
            if member.issym() or member.islnk():
                folder = posixpath.dirname(member.name) if member.issym() else ""
                links[member.name] = posixpath.normpath(posixpath.join(folder, member.linkname))
            elif content is not None and _is_layer(content):
                listings[member.name] = _tar_entries(uncompressed(content))
            elif content is not None and member.size <= JSON_BYTES:
                texts[member.name] = content.read()
    except (EngineError, tarfile.TarError, OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        why = error.__cause__ if isinstance(error, EngineError) else error
        raise Unreadable(f"the engine's stream cannot be read: {why}") from error
    real = [links.get(name, name) for name in _layer_names(texts, diff_ids)]
    if any(name not in listings for name in real):
        raise Unreadable("the engine's stream lacks layers that its manifest names")
    return tuple(LayerListing(diff_id=one, entries=listings[name]) for one, name in zip(diff_ids, real, strict=True))


def starts(content: IO[bytes], magic: bytes) -> bool:
    """Say whether *content*, of `engine.members`, begins with *magic*; nothing of it is lost."""
    return _head(content).startswith(magic)


def _head(content: IO[bytes]) -> bytes:
    head: bytes = content.peek(tarfile.BLOCKSIZE)[: tarfile.BLOCKSIZE]  # type: ignore[attr-defined] # a BufferedReader
    return head


def _is_layer(content: IO[bytes]) -> bool:
    head = _head(content)
    return head.startswith((GZIP, ZSTD)) or head[257:262] == b"ustar" or bool(head and not head.strip(b"\0"))


def uncompressed(content: IO[bytes]) -> Any:  # noqa: ANN401 - anything with read()
    """Return *content* as it is, or unpacked where its first bytes are those of gzip or zstd."""
    import zstandard

    if starts(content, GZIP):
        return gzip.GzipFile(fileobj=content)
    if starts(content, ZSTD):
        return zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True)
    return content


def _tar_entries(stream: Any) -> tuple[LayerEntry, ...]:  # noqa: ANN401
    """The names in one layer's archive; of a name that it holds twice, the last one."""
    rows: dict[tuple[str, bool], tuple[str, EntryKind, int, object]] = {}
    links: dict[str, str] = {}
    with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK) as archive:
        for member in archive:
            archive.members.clear()  # type: ignore[attr-defined]
            path = _absolute(member.name)
            row = _row(path, member)
            if row is None:
                continue
            links.pop(path, None)
            if member.islnk():
                links[path] = _absolute(member.linkname)
            rows[row[0], row[1] == "opaque"] = row
    for path, target in links.items():
        seen = {path}
        while target in links and target not in seen:  # a damaged archive may link in a circle
            seen.add(target)
            target = links[target]  # noqa: PLW2901
        known = rows.get((target, False), (path, "file", 0, path))
        rows[path, False] = (path, "file", known[2], target)
    return _entries(row for row in rows.values() if row[0] != "/")


def _row(path: str, member: tarfile.TarInfo) -> tuple[str, EntryKind, int, object] | None:
    """One header as (path, kind, size, file); None for what stands for nothing (aufs' own files)."""
    folder, name = posixpath.split(path)
    if name == OPAQUE:
        return folder, "opaque", 0, None
    if name.startswith(AUFS):
        return None
    if name.startswith(WHITEOUT):
        return posixpath.join(folder, name[len(WHITEOUT) :]), "whiteout", 0, None
    kind: EntryKind = "dir" if member.isdir() else "link" if member.issym() else "file"
    if not (member.isreg() or member.islnk()) and kind == "file":
        kind = "other"
    return path, kind, member.size if member.isreg() else 0, path


def _absolute(name: str) -> str:
    return posixpath.normpath("/" + name.lstrip("/"))


def _layer_names(texts: Mapping[str, bytes], diff_ids: Sequence[str]) -> list[str]:
    """The members that hold the layers *diff_ids*, by the manifest whose configuration names just these."""
    try:
        for manifest in json.loads(texts["manifest.json"]):
            config = json.loads(texts.get(manifest["Config"], b"{}"))
            if list((config.get("rootfs") or {}).get("diff_ids") or ()) == list(diff_ids):
                return list(manifest["Layers"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"the engine's stream has no manifest that can be read: {error!r}") from error
    raise Unreadable("the engine's stream has no manifest of this image")


# --- the cache


def save(listing: Listing, path: Path) -> bytes:
    """Replace *path* with *listing*, and return its new content."""
    layers = [
        {"diff_id": layer.diff_id, "rows": [astuple(row) for row in layer.entries]} for layer in listing.layers or ()
    ]
    content: dict[str, Any] = {reader_id.KEY: reader_id.reader(), "schema": SCHEMA, "image_id": listing.image_id}
    content |= {"how": listing.how, "layers": layers}
    data = gzip.compress(json.dumps(content, separators=(",", ":")).encode(), 3, mtime=0)
    write_atomically(path, data)
    return data


def load(path: Path, image_id: str) -> Listing | None:
    """Return what `save` wrote for *image_id*; None where it is missing, damaged, or of another form or reader."""
    try:
        return _decoded(path.read_bytes(), image_id)
    except OSError:
        return None


@uncollected()
def _decoded(data: bytes, image_id: str) -> Listing | None:
    try:
        content = decoded(gzip.decompress(data), _KeptListing)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError):
        return None
    if content.image_id != image_id or content.reader != reader_id.reader():
        return None
    layers = tuple(
        LayerListing(diff_id=each.diff_id, entries=tuple(starmap(LayerEntry, each.rows))) for each in content.layers
    )
    return Listing(image_id=image_id, how=content.how, layers=layers)


class _KeptLayer(Struct):
    diff_id: str
    rows: list[tuple[str, EntryKind, Count, str | None]]


class _KeptListing(Struct):
    reader: str
    schema: Literal["jetpare.layers/1"]
    image_id: str
    how: Literal["overlay2", "stream"] | None
    layers: list[_KeptLayer]

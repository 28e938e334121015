"""The compressed size of an image, which is what a pull moves, and where the figure comes from.

Figures that exist are looked up: the containerd store keeps an image's layers compressed, and a registry's manifest
names their sizes. Where neither has one, or another compression is asked for, the layers are compressed to be measured.
Every figure is the sum of the layers, each distinct one once, and of the config; the containerd store's holds the
manifest too (some kilobytes).
"""

from __future__ import annotations

import json
import os
import posixpath
import tarfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from jetpare.base import process
from jetpare.base.callbacks import TellBytes
from jetpare.base.errors import EngineError, ToolError
from jetpare.base.files import json_object, update_json
from jetpare.base.units import size_text
from jetpare.engine import api, containers, disk, image_store
from jetpare.engine.model import Engine, ImageFacts
from jetpare.image.read import layer_reader

Method = Literal["gzip", "zstd"]

GZIP_LEVEL = 6  # what `docker push` and BuildKit use: the default level of Go's gzip
ZSTD_LEVEL = 3  # BuildKit's and zstd's own default
METHODS: Mapping[Method, str] = {"gzip": f"gzip level {GZIP_LEVEL}", "zstd": f"zstd level {ZSTD_LEVEL}"}
MAGIC: Mapping[Method, bytes] = {"gzip": layer_reader.GZIP, "zstd": layer_reader.ZSTD}
PIECE = 1 << 20
WINDOW = 1 << 15  # how far back gzip looks
GZIP_FRAME = 20  # bytes of a gzip stream that are no compressed data: header 10, last block 2, checksum and length 8
FILE_NAME = "pull-sizes.json"
MANIFEST, MANIFESTS = "manifest.json", "manifests"  # in `docker save`; in the file of what was found


@dataclass(frozen=True, kw_only=True)
class PullSize:
    """``bytes`` to pull, None where not measured; ``how`` they were found, or why not, in a sentence without a stop.

    ``layers``: compressed bytes of each layer from the bottom up; None where only the sum is known.
    """

    bytes: int | None
    how: str
    layers: tuple[int, ...] | None = None


def pull_size(
    running: Engine, image: ImageFacts, *, state: Path, compute: Method | None = None, tell: TellBytes = lambda *_: None
) -> PullSize:
    """The compressed size of *image*: what a store or a registry says, or, with *compute*, by that compression.

    With *compute* a registry's figure counts where its layers are compressed so. Else it is computed, from what
    `docker save` gives, which takes minutes for gigabytes; *tell* gets the bytes read so far, and about how many
    there are. What was found is kept in *state*, by layer and by manifest. Where a source cannot be reached, the reason
    stands in ``how``, and nothing is raised; EngineError where the engine does not answer at all.
    """
    kept = _KeptSizes(state / FILE_NAME)
    if compute is None:
        found = [_from_store(running, image)] if image.store == "containerd" else []
        if not any(each.bytes for each in found):
            found.append(_from_registry(running, image, kept))
    else:
        named = _from_registry(running, image, kept, wanted=compute)
        found = [named if named.bytes is not None else _computed(running, image, kept, method=compute, tell=tell)]
    measured = next((each for each in found if each.bytes is not None), None)
    return measured or PullSize(bytes=None, how="; ".join(each.how for each in found))


def not_measured(why: str) -> PullSize:
    """No figure, and the reason."""
    return PullSize(bytes=None, how=why)


# --- figures that exist


def _from_store(running: Engine, image: ImageFacts) -> PullSize:
    size = image_store.content_bytes(running, image)
    if size is None:
        return not_measured("the containerd store does not hold all of the image")
    return PullSize(bytes=size, how="compressed as the engine's containerd store holds it, and pushes it")


def _from_registry(running: Engine, image: ImageFacts, kept: _KeptSizes, *, wanted: Method | None = None) -> PullSize:
    """What the manifest says that the image was pulled, or pushed, with."""
    if not image.repo_digests:
        return not_measured("it is in no registry that this engine knows of")
    reasons = []
    for reference in image.repo_digests:
        name = reference.partition("@")[0]
        try:
            manifest = _manifest(running, image, reference, kept)
            if manifest is None:
                reasons.append(f"{name} has no manifest of this image")
            elif wanted and not all(_is_compressed(layer, wanted) for layer in manifest["layers"]):
                reasons.append(f"{name} has layers that are not compressed with {wanted}")
            else:
                return _by_manifest(manifest, name)
        except ToolError as error:
            reasons.append(f"{name} cannot be asked: {_last_line(str(error))}")
        except (AttributeError, LookupError, TypeError, ValueError):
            reasons.append(f"{name} answers with something that is no manifest")
    return not_measured("; ".join(reasons))


def _by_manifest(manifest: Mapping[str, Any], name: str) -> PullSize:
    blobs = {blob["digest"]: int(blob["size"]) for blob in (manifest["config"], *manifest["layers"])}
    return PullSize(
        bytes=sum(blobs.values()),
        how=f"by the registry's manifest of {name}",
        layers=tuple(int(layer["size"]) for layer in manifest["layers"]),
    )


def _is_compressed(layer: Mapping[str, Any], method: Method) -> bool:
    return str(layer.get("mediaType")).rpartition("+")[2].rpartition(".")[2] == method


def _manifest(running: Engine, image: ImageFacts, reference: str, kept: _KeptSizes) -> Mapping[str, Any] | None:
    """The manifest that *reference* (name@digest) leads to and that is of *image*; None where none is."""
    repository = reference.partition("@")[0]
    top = _fetched(running, reference, kept)
    entries = [
        entry for entry in top.get("manifests") or () if image_store.of_platform(entry.get("platform"), image.platform)
    ]
    several = [_fetched(running, f"{repository}@{entry['digest']}", kept) for entry in entries]
    for manifest in several or [top]:
        config = manifest.get("config") or {}
        # The id of an image is its config's digest, but in the containerd store, which has no other of this platform.
        if "layers" in manifest and (image.store == "containerd" or config.get("digest") == image.id):
            return manifest
    return None


def _fetched(running: Engine, reference: str, kept: _KeptSizes) -> Mapping[str, Any]:
    """A manifest by its digest, as the registry has it; ToolError where the registry does not give it."""
    known = kept.table(MANIFESTS)
    if reference not in known:
        argv = [running.docker, "buildx", "imagetools", "inspect", "--raw", reference]  # with the user's own logins
        said = process.run(argv, env=running.env, timeout=image_store.REGISTRY_SECONDS)
        try:
            found = json.loads(said)
        except ValueError as error:
            raise ToolError(f"the answer is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise ToolError("the answer is no manifest")
        kept.add(MANIFESTS, {reference: found})
        return found
    manifest: Mapping[str, Any] = known[reference]
    return manifest


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1].strip().removesuffix(".")


# --- figures that are made


def _computed(running: Engine, image: ImageFacts, kept: _KeptSizes, *, method: Method, tell: TellBytes) -> PullSize:
    table = METHODS[method]
    known: Mapping[str, int] = kept.table(table)
    if not {image.id, *image.layer_ids} <= known.keys():
        reason = _no_room(running, image, kept.path.parent)
        if reason:
            return not_measured(reason)
        try:
            kept.add(table, _measured(running, image, method=method, known=known, tell=tell))
        except (EngineError, OSError, EOFError, ValueError, KeyError, tarfile.TarError, zlib.error) as error:
            return not_measured(f"the image cannot be read with `docker save`: {_last_line(str(error) or repr(error))}")
        known = kept.table(table)
    blobs = {name: known[name] for name in (image.id, *image.layer_ids)}
    return PullSize(
        bytes=sum(blobs.values()),
        how=f"computed with {table}; a registry's figure differs by its compressor",
        layers=tuple(known[layer] for layer in image.layer_ids),
    )


def _no_room(running: Engine, image: ImageFacts, state: Path) -> str:
    """Why not to ask for `docker save`: the engine writes all layers to its disk before the first byte comes."""
    if image.store == "containerd":
        return ""  # it sends what it has
    free, need = disk.free_bytes(running, api.facts(running), state), image.layers_bytes
    if free is None or need is None or free > need:
        return ""
    return (
        f"`docker save` needs {size_text(need)} at the engine's data root for a while, and {size_text(free)} are free"
    )


def _measured(
    running: Engine, image: ImageFacts, *, method: Method, known: Mapping[str, int], tell: TellBytes
) -> dict[str, int]:
    """Compressed bytes by layer, and the plain bytes of the config by the image's id."""
    total = image_store.content_bytes(running, image) if image.store == "containerd" else image.layers_bytes
    plain: dict[str, int] = {}
    packed: dict[str, int] = {}
    links: dict[str, str] = {}
    content: Mapping[str, Any] = {}
    done = 0
    tell(done, total)
    with closing(containers.saved(running, image.id)) as members:
        for member, file in members:
            if file is None:  # older engines link to a layer that is there already
                links[member.name] = posixpath.normpath(f"{posixpath.dirname(member.name)}/{member.linkname}")
            elif member.name == MANIFEST:
                (content,) = json.load(file)
            elif f"sha256:{posixpath.basename(member.name)}" not in known:
                packed[member.name] = _packed(file, method, size=member.size, tell=_after(done, total, tell))
            plain[member.name] = member.size
            done += member.size
            tell(done, total)
    layers = [links.get(name, name) for name in content["Layers"]]
    if len(layers) != len(image.layer_ids):
        raise ValueError(f"it has {len(layers)} layers there, and {len(image.layer_ids)} in the engine")
    pairs = zip(image.layer_ids, layers, strict=True)
    return {digest: packed[name] for digest, name in pairs if digest not in known} | {
        image.id: plain[content["Config"]]
    }


def _after(before: int, total: int | None, tell: TellBytes) -> Callable[[int], None]:
    return lambda done: tell(before + done, total)


def _packed(file: IO[bytes], method: Method, *, size: int, tell: Callable[[int], None]) -> int:
    """How many bytes *method* makes of *file*; its own *size* where it is compressed so already."""
    if layer_reader.starts(file, MAGIC[method]):
        return size
    return COMPRESSORS[method](_pieces(file, tell))


def _pieces(file: IO[bytes], tell: Callable[[int], None]) -> Iterator[bytes]:
    """The content of *file*, unpacked where it is compressed; never more than a piece of it in memory."""
    import zstandard

    stream = layer_reader.uncompressed(file)
    try:
        while piece := stream.read(PIECE):
            yield piece
            tell(file.tell())
    except zstandard.ZstdError as error:
        raise ValueError(f"a layer is no zstd stream: {error}") from error


def _gzip_bytes(pieces: Iterable[bytes]) -> int:
    """As pigz does it: pieces are compressed side by side, each knowing the end of the one before; 0.1 % is lost."""
    total, window = GZIP_FRAME, b""
    under_way: deque[Future[int]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for piece in pieces:
            under_way.append(pool.submit(_deflated, piece, window))
            window = piece[-WINDOW:]
            if len(under_way) > 2 * (os.cpu_count() or 1):  # what waits is memory
                total += under_way.popleft().result()
        return total + sum(future.result() for future in under_way)


def _deflated(piece: bytes, window: bytes) -> int:
    compressor = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=window)
    return len(compressor.compress(piece)) + len(compressor.flush(zlib.Z_SYNC_FLUSH))


def _zstd_bytes(pieces: Iterable[bytes]) -> int:
    import zstandard

    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=os.cpu_count() or 1).compressobj()
    return sum(len(compressor.compress(piece)) for piece in pieces) + len(compressor.flush())


COMPRESSORS: Mapping[Method, Callable[[Iterable[bytes]], int]] = {"gzip": _gzip_bytes, "zstd": _zstd_bytes}


class _KeptSizes:
    """What was found before, by table: compressed bytes by layer, and manifests, neither of which ever changes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def table(self, name: str) -> dict[str, Any]:
        return _table(json_object(self.path), name)  # a file that is lost, or damaged, is made anew

    def add(self, name: str, entries: Mapping[str, Any]) -> None:
        def added(known: dict[str, Any]) -> dict[str, Any]:
            tables = {each: _table(known, each) for each in sorted({*METHODS.values(), MANIFESTS, name})}
            return {**tables, name: {**tables[name], **entries}}

        update_json(self.path, added)


def _table(tables: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the table *name* of what was kept, without what is damaged: it is found out again."""
    found = tables.get(name)
    if not isinstance(found, dict):
        return {}
    if name == MANIFESTS:
        return {key: value for key, value in found.items() if isinstance(value, dict)}
    return {key: value for key, value in found.items() if type(value) is int and value >= 0}

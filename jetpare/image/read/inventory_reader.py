"""From an image to its Inventory: read inside a container of the image, or from the engine's stream; kept by digest.

The image is not trusted. Its own Python runs `jetpare.image.collector` in a read-only container; what comes back
is checked before it is used. Where the image has no such Python, is of another architecture, or does not
answer as it should, the same is read on the host from what `docker export` gives.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetpare.base import files
from jetpare.base.callbacks import Say
from jetpare.base.errors import EngineError, RecordError
from jetpare.engine import api, containers, image_store
from jetpare.engine.model import Engine
from jetpare.image import inventory
from jetpare.image.inventory import Inventory, LayerInfo, Settings
from jetpare.image.kept import Held, touch, trim
from jetpare.image.read import in_container, reader_id
from jetpare.image.read.answer import NoAnswerError, Tables, check_bytes, teller
from jetpare.image.read.in_container import TOTAL_SECONDS

if TYPE_CHECKING:
    from docker import DockerClient


FOLDER = "inventories"
KEPT_INVENTORIES = 24
STREAM_SECONDS = 1800.0
COMPRESSION = 3


def take(running: Engine, reference: str, *, state: Path, say: Say = lambda _: None) -> Inventory:
    """What is in the image *reference* (a name or an id), from *state* where it was taken before.

    *say* gets a line for each thing that takes long, or that is not as it should be. Raises RecordError for an image
    that is not there, ConfigError for what is no reference, EngineError where neither way could read it.
    """
    with api.client(running, timeout=TOTAL_SECONDS) as docker:
        image = _inspect(docker, reference)
        return _taken(docker, image, state=state, say=say).content


def hold(running: Engine, image_id: str, *, state: Path, say: Say = lambda _: None) -> Held[Inventory]:
    """Return the inventory of the image *image_id* (an id, not a name), not decoded where *state* has it.

    An image that was not read before is read now. Raises what `take` raises.
    """
    path = _path(state, image_id)
    with suppress(OSError):
        data = path.read_bytes()
        if reader_id.wrote(data):
            touch(path)
            return Held.of_file(
                path,
                data,
                lambda: _decoded(path, data, image_id, say),
                lambda: take(running, image_id, state=state, say=say),
            )
    with api.client(running, timeout=TOTAL_SECONDS) as docker:
        return _taken(docker, _inspect(docker, image_id), state=state, say=say)


def _path(state: Path, image_id: str) -> Path:
    return state / FOLDER / f"{image_id.rpartition(':')[2]}.json.gz"


def _taken(docker: DockerClient, image: Mapping[str, Any], *, state: Path, say: Say) -> Held[Inventory]:
    """Return the inventory of *image*, an engine's JSON, from *state* or else read now."""
    path = _path(state, str(image["Id"]))
    found = _load(path, str(image["Id"]), say)
    if found is not None:
        return Held.of(found)
    read, digest = _read(docker, image, state=state, say=say), None
    try:
        digest = hashlib.sha256(_store(path, read)).hexdigest()
    except OSError as error:
        say(f"{path}: not kept ({error.strerror or error}); the image is read again next time")
    return Held.of(read, digest)


def _inspect(docker: DockerClient, reference: str) -> Mapping[str, Any]:
    from docker.errors import ImageNotFound

    try:
        return image_store.inspected(docker, reference)
    except ImageNotFound:
        raise RecordError(
            f"{reference}: the engine at {docker.api.base_url} has no such image. "
            "Build it (`invoke build-all`), pull it, or correct the name."
        ) from None


def _read(docker: DockerClient, image: Mapping[str, Any], *, state: Path, say: Say) -> Inventory:
    calls: Any = docker.api
    name = (image.get("RepoTags") or [image["Id"]])[0]
    how, tables = "container", None
    info = docker.info()
    why = _not_to_be_run(info, image)
    if not why:
        try:
            tables = in_container.from_container(docker, str(image["Id"]), say)
            check_bytes(tables, api.store_of(info), image.get("Size"))
        except NoAnswerError as error:
            why, tables = str(error), None
    if tables is None:
        say(f"{name}: {why}; reading the engine's stream instead")
        how, tables = "stream", from_stream(docker, str(image["Id"]), state=state, say=say)
    return assemble(image, calls.history(image["Id"]), tables, how=how)


def _not_to_be_run(info: Mapping[str, Any], image: Mapping[str, Any]) -> str:
    """Why a container of the image would not show it; empty where it does."""
    volumes = (image.get("Config") or {}).get("Volumes")
    if volumes:
        return f"volumes hide what it has at {', '.join(sorted(volumes))}"
    known = {"x86_64": "amd64", "aarch64": "arm64"}
    here = str(info.get("Architecture") or "")
    ours, theirs = known.get(here, here), str(image.get("Architecture") or "")
    return f"it is for {theirs}, the engine for {ours}" if theirs and ours and theirs != ours else ""


# --- from the engine's stream


def from_stream(docker: DockerClient, image_id: str, *, state: Path, say: Say) -> Tables:
    """The tables from what `docker export` gives of a container that is never started; *state* is for large files.

    Raises EngineError where that is no archive, or has no end.
    """
    from jetpare.image.collector import limits, main, tree

    tell = teller(say)
    faults: list[str] = []
    state.mkdir(parents=True, exist_ok=True)
    with containers.container_of(docker, image_id, ["/never-started"]) as container:
        reader: Any = containers.ChunkReader(
            _within(STREAM_SECONDS, docker.api.export(container, chunk_size=limits.BLOCK))
        )
        try:
            entries, looks = tree.read_tar(reader, lambda done: tell(f"read {done} files"), str(state))
        except (tarfile.TarError, TimeoutError) as error:
            raise EngineError(
                f"{image_id}: what `docker export` gives cannot be read ({error}). "
                "Check the engine's log and its free disk space, and try again."
            ) from error
    tables = {name: json.dumps(rows).encode() for name, rows in main.tables(entries, looks, faults)}
    try:
        return {
            name: inventory.read_rows(name, inventory.decoded(rows, inventory.rows_of(name)))
            for name, rows in tables.items()
        }
    except (ValueError, KeyError) as error:
        raise EngineError(f"{image_id}: what `docker export` gives holds what no image has ({error}).") from error


def _within(seconds: float, chunks: Iterable[bytes]) -> Iterator[bytes]:
    begin = time.monotonic()
    for chunk in chunks:
        if time.monotonic() - begin > seconds:
            raise TimeoutError(f"no end after {seconds:.0f} s")
        yield chunk


def assemble(
    image: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    tables: Mapping[str, list[Any]],
    *,
    how: Any,  # noqa: ANN401
) -> Inventory:
    """An Inventory of the engine's JSON (inspect; history, newest first) and the checked *tables*."""
    parts = (image.get("Os"), image.get("Architecture"), image.get("Variant"))
    return Inventory(
        image_id=str(image["Id"]),
        platform="/".join(str(part) for part in parts if part),
        how=how,
        settings=settings(image.get("Config") or {}),
        layers=layers((image.get("RootFS") or {}).get("Layers") or (), history),
        **_frozen(tables),
    )


def _frozen(tables: Mapping[str, list[Any]]) -> dict[str, Any]:
    return {name: dict(rows) if name in ("interpreters", "texts") else tuple(rows) for name, rows in tables.items()}


def settings(config: Mapping[str, Any]) -> Settings:
    """The engine's Config as Settings; newer engines leave empty fields out."""
    return Settings(
        env=dict(entry.partition("=")[::2] for entry in config.get("Env") or ()),
        entrypoint=tuple(config.get("Entrypoint") or ()),
        cmd=tuple(config.get("Cmd") or ()),
        user=str(config.get("User") or ""),
        workdir=str(config.get("WorkingDir") or ""),
        ports=tuple(sorted(config.get("ExposedPorts") or ())),
        volumes=tuple(sorted(config.get("Volumes") or ())),
        labels=dict(config.get("Labels") or {}),
        healthcheck=tuple((config.get("Healthcheck") or {}).get("Test") or ()),
        stop_signal=str(config.get("StopSignal") or ""),
    )


def layers(layer_ids: Iterable[str], history: Sequence[Mapping[str, Any]]) -> tuple[LayerInfo, ...]:
    """The layers from the bottom up, with what made them where that is certain."""
    ids = tuple(layer_ids)
    entries = image_store.layer_entries(ids, history)
    if entries is None:
        return tuple(LayerInfo(diff_id=one, size=None, instruction=None) for one in ids)
    return tuple(
        LayerInfo(
            diff_id=one,
            size=int(entry.get("Size") or 0),
            instruction=str(entry.get("CreatedBy") or "") or None,
            created=_time(entry.get("Created")),
        )
        for one, entry in zip(ids, entries, strict=True)
    )


def _time(seconds: object) -> str | None:
    if not isinstance(seconds, int) or seconds <= 0:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


# --- kept by digest


def _load(path: Path, image_id: str, say: Say) -> Inventory | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _tell_damaged(path, error, say)
        return None
    touch(path)
    return _decoded(path, data, image_id, say)


def _decoded(path: Path, data: bytes, image_id: str, say: Say) -> Inventory | None:
    """Return the inventory in *data*, the content of *path*; None where it is damaged, or another reader's."""
    try:
        content = gzip.decompress(data)
        if not reader_id.is_ours(content):
            return None
        found = inventory.loads(content)
        if found.image_id != image_id:
            raise ValueError(f"it is of {found.image_id}")  # noqa: TRY301
    except (OSError, ValueError, EOFError, RecursionError, zlib.error) as error:
        _tell_damaged(path, error, say)
        return None
    return found


def _tell_damaged(path: Path, error: Exception, say: Say) -> None:
    say(f"{path}: damaged ({error}); the image is read again")


def _store(path: Path, taken: Inventory) -> bytes:
    """Write *taken* to *path*, and return the file's content."""
    content = json.dumps({reader_id.KEY: reader_id.reader(), **taken.as_dict()}, separators=(",", ":")).encode()
    data = gzip.compress(content, COMPRESSION, mtime=0)
    files.write_atomically(path, data)
    trim(path.parent, "*.json.gz", KEPT_INVENTORIES)
    return data

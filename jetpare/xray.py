"""From an image to its Inventory: read inside a container of the image, or from the engine's stream; kept by digest.

The image is not trusted. Its own Python runs `jetpare.collector` in a container that can only read; what comes back is
data that is checked before it is used. Where the image has no such Python, is of another architecture, or does not
answer as it should, the same is read on the host from what `docker export` gives.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetpare import collector, engine, files, inventory
from jetpare.engine import Engine
from jetpare.errors import EngineError, RecordError
from jetpare.inventory import Inventory, LayerInfo, Settings

if TYPE_CHECKING:
    from docker import DockerClient

Say = Callable[[str], None]
Tables = dict[str, list[Any]]

FOLDER = "inventories"
KEPT_INVENTORIES = 24
UNFINISHED_SECONDS = 3600.0  # after which a file that is being written is one that was left behind
PYTHONS = ("/usr/bin/python3", "python3", "/usr/local/bin/python3")  # the one without a path: on the image's own PATH
FIRST_SECONDS = 30.0  # until the collector says that it runs
SILENCE_SECONDS = 120.0  # between two signs of life
TOTAL_SECONDS = 900.0
STREAM_SECONDS = 1800.0
PLEASANT_SECONDS = 2.0  # between two lines on how far it is
ANSWER_BYTES = 192 << 20  # 26,000 files make 9 MB
LINE_BYTES = 16 << 20
COMPRESSION = 3
BY_FILES = ("overlay2", "fuse-overlayfs", "vfs")  # stores whose sizes of layers are the sums of their files' bytes
SLACK_BYTES = 16 << 20
READ = tuple(name for name in (*inventory.TABLES, *inventory.LISTS) if name != "layers")  # what is read in an image
TABLE_NAME = re.compile(rb'\s*\[\s*"(\w+)"')  # a line of the collector
READER = re.compile(rb'\{\s*"reader"\s*:\s*"(\w+)"')  # a file that was kept

# What the image's Python is started with: it takes the program from stdin into memory, since nothing can be written.
READY = b"ready"
BOOT = """
import os, sys
print("ready", flush=True)
left, program = int(sys.argv[1]), os.memfd_create("jetpare")
while left:
    part = sys.stdin.buffer.read1(min(left, 65536))
    if not part:
        sys.exit("the program did not arrive")
    left -= len(part)
    while part:
        part = part[os.write(program, part):]
sys.path.insert(0, "/proc/self/fd/%d" % program)
import collector
collector.main()
"""


class _NoAnswerError(Exception):
    """A container did not answer as the collector does; why."""


def take(running: Engine, reference: str, *, state: Path, say: Say = lambda _: None) -> Inventory:
    """What is in the image *reference* (a name or an id), from *state* where it was taken before.

    *say* gets a line for each thing that takes long, or that is not as it should be. Raises RecordError for an image
    that is not there, ConfigError for what is no reference, EngineError where neither way could read it.
    """
    with engine.client(running, timeout=TOTAL_SECONDS) as docker:
        image = _inspect(docker, reference)
        path = state / FOLDER / f"{str(image['Id']).rpartition(':')[2]}.json.gz"
        found = _load(path, str(image["Id"]), say)
        if found is None:
            found = _read(docker, image, state=state, say=say)
            try:
                _store(path, found)
            except OSError as error:
                say(f"{path}: not kept ({error.strerror or error}); the image is read again next time")
    return found


def _inspect(docker: DockerClient, reference: str) -> Mapping[str, Any]:
    from docker.errors import ImageNotFound

    try:
        return engine.inspected(docker, reference)
    except ImageNotFound:
        raise RecordError(
            f"{reference}: the engine at {docker.api.base_url} has no such image. "
            "Build it (`invoke build-all`), pull it, or correct the name."
        ) from None


def _read(docker: DockerClient, image: Mapping[str, Any], *, state: Path, say: Say) -> Inventory:
    api: Any = docker.api
    name = (image.get("RepoTags") or [image["Id"]])[0]
    how, tables = "container", None
    info = docker.info()
    why = _not_to_be_run(info, image)
    if not why:
        try:
            tables = _from_container(docker, str(image["Id"]), say)
            check_bytes(tables, engine.store_of(info), image.get("Size"))
        except _NoAnswerError as error:
            why, tables = str(error), None
    if tables is None:
        say(f"{name}: {why}; reading the engine's stream instead")
        how, tables = "stream", from_stream(docker, str(image["Id"]), state=state, say=say)
    return assemble(image, api.history(image["Id"]), tables, how=how)


def _not_to_be_run(info: Mapping[str, Any], image: Mapping[str, Any]) -> str:
    """Why a container of the image would not show it; empty where it does."""
    volumes = (image.get("Config") or {}).get("Volumes")
    if volumes:
        return f"volumes hide what it has at {', '.join(sorted(volumes))}"
    known = {"x86_64": "amd64", "aarch64": "arm64"}
    here = str(info.get("Architecture") or "")
    ours, theirs = known.get(here, here), str(image.get("Architecture") or "")
    return f"it is for {theirs}, the engine for {ours}" if theirs and ours and theirs != ours else ""


# --- inside a container


def _from_container(docker: DockerClient, image_id: str, say: Say) -> Tables:
    """The tables as the image's own Python reads them. Raises _NoAnswerError."""
    why = []
    for python in PYTHONS:
        argv = [python, "-I", "-S", "-B", "-X", "utf8", "-c", BOOT, str(len(program()))]
        try:
            with engine.container_of(docker, image_id, argv, attached=True) as container:
                return _converse(docker, container, say)
        except _NoAnswerError as error:
            why.append(f"{python}: {error}")
            if isinstance(error.__cause__, TimeoutError):
                break  # whatever hangs once would do so again
    raise _NoAnswerError("no Python of its own could read it (" + "; ".join(dict.fromkeys(why)) + ")")


def _converse(docker: DockerClient, container: str, say: Say) -> Tables:
    from docker.errors import APIError

    held = docker.api.attach_socket(container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    socket = getattr(held, "_sock", held)  # docker-py gives a file of it, which knows no time limit
    try:
        try:
            docker.api.start(container)
        except APIError as error:
            words = (error.explanation or str(error)).rpartition(": exec: ")[2]  # the end says what is missing
            raise _NoAnswerError(_short(words)) from error
        lines = _lines(_stdout(_frames(lambda seconds: _receive(docker, container, socket, seconds))))
        if next(lines, b"") != READY:
            raise _NoAnswerError("not what the collector says")
        socket.settimeout(FIRST_SECONDS)
        socket.sendall(program())
        return gather(lines, say)
    except OSError as error:  # a time limit, for the most part
        raise _NoAnswerError(_short(error.strerror or str(error) or type(error).__name__)) from error
    finally:
        held.close()


def _receive(docker: DockerClient, container: str, socket: Any, seconds: float) -> bytes:  # noqa: ANN401 - or of ssl
    """Some bytes within *seconds*, none at the end. While stdin is not read the engine does not tell of the end."""
    deadline, running = time.monotonic() + seconds, True
    socket.settimeout(1)
    while True:
        try:
            data: bytes = socket.recv(1 << 18)
        except TimeoutError:
            if time.monotonic() > deadline:
                raise
            if not running:
                return b""
            running = docker.api.inspect_container(container)["State"]["Running"]
        else:
            return data


def _short(text: str) -> str:
    return " ".join(text.split())[-200:]


def _frames(receive: Callable[[float], bytes]) -> Iterator[tuple[int, bytes]]:
    """(stream, data) as a container without a terminal sends them: headers of 8 bytes, each before its data."""
    buffer, begin, total, seconds = bytearray(), time.monotonic(), 0, FIRST_SECONDS
    while True:
        while len(buffer) >= 8:  # noqa: PLR2004
            stream, size = struct.unpack(">BxxxL", buffer[:8])
            if size > LINE_BYTES:
                raise _NoAnswerError("not an engine's stream")
            if len(buffer) < 8 + size:
                break
            yield stream, bytes(buffer[8 : 8 + size])
            del buffer[: 8 + size]
        part = receive(seconds)
        total += len(part)
        if not part:
            return
        if total > ANSWER_BYTES or time.monotonic() - begin > TOTAL_SECONDS:
            raise _NoAnswerError(f"no end after {total} bytes and {time.monotonic() - begin:.0f} s")
        seconds = SILENCE_SECONDS
        buffer += part


def _stdout(frames: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """What was said on stdout; _NoAnswerError with the last words on stderr where that was all."""
    said, complained = False, b""
    for stream, data in frames:
        if stream == 1:
            said = True
            yield data
        else:
            complained = (complained + data)[-2000:]
    if not said:
        last = complained.decode("utf-8", "replace").strip().split("\n")[-1]
        raise _NoAnswerError(_short(last) or "it said nothing")


def _lines(parts: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for part in parts:
        *whole, rest = (rest + part).split(b"\n") if b"\n" in part else (rest + part,)
        if len(rest) > LINE_BYTES:
            raise _NoAnswerError("a line without an end")
        yield from whole


def gather(lines: Iterable[bytes], say: Say) -> Tables:
    """The tables that the collector's *lines* hold, checked. Raises _NoAnswerError where they are not what it says."""
    tables: Tables = {name: [] for name in READ}
    tell = _teller(say)
    for line in lines:
        try:
            found = TABLE_NAME.match(line)
            name = found[1].decode() if found else ""
            if name == "end":
                inventory.check_names(tables["files"], tables["elfs"] + tables["mentions"])
                return tables
            kind = tuple[int, int] if name == "progress" else inventory.rows_of(name)
            _, rows = inventory.decoded(line, tuple[str, kind])  # type: ignore[valid-type]
            if name == "progress":
                tell(f"read {rows[0]} of {rows[1]} files")
            else:
                tables[name] += inventory.read_rows(name, rows)
        except (ValueError, KeyError, RecursionError) as error:
            raise _NoAnswerError(f"not what the collector says ({_short(repr(error))})") from error
    raise _NoAnswerError("its answer ends too early")


def check_bytes(tables: Tables, store: str, layers_bytes: int | None) -> None:
    """_NoAnswerError where files are said to take more than all layers do, in a store that counts those by files."""
    said = sum(file.bytes for file in tables["files"])
    if store in BY_FILES and layers_bytes is not None and said > layers_bytes * 1.01 + SLACK_BYTES:
        raise _NoAnswerError(f"it tells of {said} bytes in files, its layers have {layers_bytes}")


@cache
def program() -> bytes:
    """The collector and pyelftools as an archive for Python to import; not compressed: not every Python has zlib."""
    import elftools

    made = io.BytesIO()
    root = Path(elftools.__file__).parent
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(zipfile.ZipInfo("collector.py"), Path(collector.__file__).read_bytes())
        for path in sorted(root.rglob("*.py")):
            archive.writestr(zipfile.ZipInfo(str(path.relative_to(root.parent))), path.read_bytes())
    return made.getvalue()


# --- from the engine's stream


def from_stream(docker: DockerClient, image_id: str, *, state: Path, say: Say) -> Tables:
    """The tables from what `docker export` gives of a container that is never started; *state* is for large files.

    Raises EngineError where that is no archive, or has no end.
    """
    tell = _teller(say)
    faults: list[str] = []
    state.mkdir(parents=True, exist_ok=True)
    with engine.container_of(docker, image_id, ["/never-started"]) as container:
        reader: Any = engine.ChunkReader(
            _within(STREAM_SECONDS, docker.api.export(container, chunk_size=collector.BLOCK))
        )
        try:
            entries, looks = collector.read_tar(reader, lambda done: tell(f"read {done} files"), str(state))
        except (tarfile.TarError, TimeoutError) as error:
            raise EngineError(
                f"{image_id}: what `docker export` gives cannot be read ({error}). "
                "Check the engine's log and its free disk space, and try again."
            ) from error
    tables = {name: json.dumps(rows).encode() for name, rows in collector.tables(entries, looks, faults)}
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


def _teller(say: Say) -> Say:
    """*say*, but not more often than is pleasant."""
    told = [time.monotonic()]

    def tell(text: str) -> None:
        if time.monotonic() - told[0] > PLEASANT_SECONDS:
            told[0] = time.monotonic()
            say(text)

    return tell


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
    entries = engine.layer_entries(ids, history)
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


@cache
def reader() -> str:
    """What changes when images are read in another way: what was kept before is then taken again."""
    made = hashlib.sha256(program())
    made.update(Path(__file__).read_bytes())
    return made.hexdigest()[:16]


def _load(path: Path, image_id: str, say: Say) -> Inventory | None:
    try:
        content = gzip.decompress(path.read_bytes())
        made_by = READER.match(content)
        if made_by and made_by[1].decode() != reader():
            return None
        found = inventory.loads(content)
        if found.image_id != image_id:
            raise ValueError(f"it is of {found.image_id}")  # noqa: TRY301
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, RecursionError, zlib.error) as error:
        say(f"{path}: damaged ({error}); the image is read again")
        return None
    with suppress(OSError):
        os.utime(path)  # so that the ones in use are kept longest
    return found


def _store(path: Path, taken: Inventory) -> None:
    data = json.dumps({"reader": reader(), **taken.as_dict()}, separators=(",", ":")).encode()
    files.write_atomically(path, gzip.compress(data, COMPRESSION, mtime=0))
    kept = sorted(path.parent.glob("*.json.gz"), key=_changed, reverse=True)
    left = [
        each for each in path.parent.glob(f"{files.TEMPORARY}*") if time.time() - _changed(each) > UNFINISHED_SECONDS
    ]
    for old in kept[KEPT_INVENTORIES:] + left:
        old.unlink(missing_ok=True)


def _changed(path: Path) -> float:
    """When *path* was written; now where another jetpare has just removed it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()

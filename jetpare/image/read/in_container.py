"""Run the collector inside a container of the image."""

from __future__ import annotations

import io
import struct
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetpare.base.callbacks import Say
from jetpare.engine import containers
from jetpare.image import collector
from jetpare.image.read.answer import NoAnswerError, Tables, gather, shortened

if TYPE_CHECKING:
    from docker import DockerClient

PYTHONS = ("/usr/bin/python3", "python3", "/usr/local/bin/python3")  # the one without a path: on the image's own PATH
FIRST_SECONDS = 30.0  # until the collector says that it runs
SILENCE_SECONDS = 120.0  # between two signs of life
TOTAL_SECONDS = 900.0
ANSWER_BYTES = 192 << 20  # 26,000 files make 9 MB
LINE_BYTES = 16 << 20

# What the image's Python is started with: it takes the program from stdin into memory, since nothing can be written.
READY = b"ready"
COLLECTOR = Path(collector.__file__).parent
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
from jetpare.image.collector import main
main.main()
"""


# --- inside a container


def from_container(docker: DockerClient, image_id: str, say: Say) -> Tables:
    """The tables as the image's own Python reads them. Raises NoAnswerError."""
    why = []
    for python in PYTHONS:
        argv = [python, "-I", "-S", "-B", "-X", "utf8", "-c", BOOT, str(len(program()))]
        try:
            with containers.container_of(docker, image_id, argv, attached=True) as container:
                return _converse(docker, container, say)
        except NoAnswerError as error:
            why.append(f"{python}: {error}")
            if isinstance(error.__cause__, TimeoutError):
                break  # whatever hangs once would do so again
    raise NoAnswerError("no Python of its own could read it (" + "; ".join(dict.fromkeys(why)) + ")")


def _converse(docker: DockerClient, container: str, say: Say) -> Tables:
    from docker.errors import APIError

    held = docker.api.attach_socket(container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    socket = getattr(held, "_sock", held)  # docker-py gives a file of it, which knows no time limit
    try:
        try:
            docker.api.start(container)
        except APIError as error:
            words = (error.explanation or str(error)).rpartition(": exec: ")[2]  # the end says what is missing
            raise NoAnswerError(shortened(words)) from error
        lines = _lines(_stdout(_frames(lambda seconds: _receive(docker, container, socket, seconds))))
        if next(lines, b"") != READY:
            raise NoAnswerError("not what the collector says")
        socket.settimeout(FIRST_SECONDS)
        socket.sendall(program())
        return gather(lines, say)
    except OSError as error:  # a time limit, for the most part
        raise NoAnswerError(shortened(error.strerror or str(error) or type(error).__name__)) from error
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


def _frames(receive: Callable[[float], bytes]) -> Iterator[tuple[int, bytes]]:
    """(stream, data) as a container without a terminal sends them: headers of 8 bytes, each before its data."""
    buffer, begin, total, seconds = bytearray(), time.monotonic(), 0, FIRST_SECONDS
    while True:
        while len(buffer) >= 8:  # noqa: PLR2004
            stream, size = struct.unpack(">BxxxL", buffer[:8])
            if size > LINE_BYTES:
                raise NoAnswerError("not an engine's stream")
            if len(buffer) < 8 + size:
                break
            yield stream, bytes(buffer[8 : 8 + size])
            del buffer[: 8 + size]
        part = receive(seconds)
        total += len(part)
        if not part:
            return
        if total > ANSWER_BYTES or time.monotonic() - begin > TOTAL_SECONDS:
            raise NoAnswerError(f"no end after {total} bytes and {time.monotonic() - begin:.0f} s")
        seconds = SILENCE_SECONDS
        buffer += part


def _stdout(frames: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """What was said on stdout; NoAnswerError with the last words on stderr where that was all."""
    said, complained = False, b""
    for stream, data in frames:
        if stream == 1:
            said = True
            yield data
        else:
            complained = (complained + data)[-2000:]
    if not said:
        last = complained.decode("utf-8", "replace").strip().split("\n")[-1]
        raise NoAnswerError(shortened(last) or "it said nothing")


def _lines(parts: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for part in parts:
        *whole, rest = (rest + part).split(b"\n") if b"\n" in part else (rest + part,)
        if len(rest) > LINE_BYTES:
            raise NoAnswerError("a line without an end")
        yield from whole


@cache
def program() -> bytes:
    """The collector and pyelftools as an archive for Python to import; not compressed: not every Python has zlib."""
    import elftools

    made = io.BytesIO()
    root = Path(elftools.__file__).parent
    with zipfile.ZipFile(made, "w") as archive:
        for name in ("jetpare", "jetpare/image"):  # their own __init__ is not needed there
            archive.writestr(zipfile.ZipInfo(f"{name}/__init__.py"), b"")
        for path in sorted(COLLECTOR.glob("*.py")):
            archive.writestr(zipfile.ZipInfo(f"jetpare/image/collector/{path.name}"), path.read_bytes())
        for path in sorted(root.rglob("*.py")):
            archive.writestr(zipfile.ZipInfo(str(path.relative_to(root.parent))), path.read_bytes())
    return made.getvalue()

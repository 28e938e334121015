"""Run short-lived containers, and remove those that outlived their command."""

from __future__ import annotations

import os
import re
import secrets
import sys
import tarfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from jetpare.base import process
from jetpare.base.errors import EngineError
from jetpare.engine import api
from jetpare.engine.model import Engine

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from docker import DockerClient
    from docker.types import HostConfig

CONTAINER_MEMORY = 512 << 20  # page cache counts, and can be dropped
CONTAINER_PROCESSES = 64
CHUNK = 1 << 20
FIND_SECONDS = 120
FIND_BEGINS = b"begin"
LOG_LIMITS = {"max-size": "64m", "max-file": "1"}  # of an image's own program; 60,000 files make 6 MB
SAVE_SECONDS = 3600.0  # an engine writes the whole image to its disk before it sends the first byte

# The label on our short-lived containers, and what their names begin with.
OWNER = "jetpare.owner"
PASSING = ("/jetpare-measure-", "/jetpare-verify-")

# What an engine mounts into a running container, or puts into every one.
ENGINE_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/.dockerenv")


@dataclass
class ChunkReader:
    """A file for tarfile to read, made of the chunks that docker-py yields."""

    chunks: Iterator[bytes]
    rest: bytes = field(default=b"")

    def read(self, size: int) -> bytes:
        """Return *size* bytes, fewer only at the end."""
        parts, have = [self.rest], len(self.rest)
        while have < size:
            chunk = next(self.chunks, b"")
            if not chunk:
                break
            parts.append(chunk)
            have += len(chunk)
        data = b"".join(parts)
        self.rest = data[size:]
        return data[:size]


def merged_bytes(engine: Engine, image_id: str) -> int:
    """Measure the image's merged file system in bytes: every regular file once, hard links not counted again.

    Uses the image's own GNU find if it has one that runs (0.4 s for 300 MB), else the stream of `docker export`
    (2.2 s), which works for any image and platform. Neither counts the files that an engine puts into every container,
    such as /etc/hosts. The container has no network and writes nothing, and is removed even on Ctrl-C.
    """
    with api.client(engine) as docker:
        sizes = _sizes_by_find(docker, image_id)
        return _sum_of_export(docker, image_id) if sizes is None else sizes


def process_name(pid: int) -> str:
    """Return a process identity that is unique across reboots and PID namespaces. Raises OSError if it has ended."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino} {pid} {started}"


def owner_label() -> dict[str, str]:
    """Return the label that marks a container as this process's; empty where there is no /proc."""
    with suppress(OSError):
        return {OWNER: process_name(os.getpid())}
    return {}


def is_orphan(owner: str) -> bool:
    """Return whether the process *owner* has ended; False if that is unknown, as for a process of another machine."""
    with suppress(OSError, ValueError):
        boot, namespace, number, _ = owner.split()
        if process_name(os.getpid()).split()[:2] != [boot, namespace]:
            return False
        try:
            os.kill(int(number), 0)  # signal 0 only asks whether the process exists, whoever owns it
            return process_name(int(number)) != owner
        except ProcessLookupError:
            return True
    return False


def remove_orphans(docker: DockerClient) -> None:
    """Remove the containers of `container_of` and verify whose process was killed or lost its engine."""
    from docker.errors import APIError

    for each in docker.api.containers(all=True, filters={"label": OWNER}):
        ours = any(name.startswith(PASSING) for name in each.get("Names") or ())  # an image may bring the label too
        if ours and is_orphan(str((each.get("Labels") or {}).get(OWNER))):
            with suppress(APIError):  # another command is removing it
                docker.api.remove_container(each["Id"], force=True, v=True)


@contextmanager
def container_of(docker: DockerClient, image_id: str, argv: Sequence[str], *, attached: bool = False) -> Iterator[str]:
    """Create a container that will run *argv* as root, and yield its name; it is removed at the end, whatever happens.

    It is not started yet. It can read every file and do nothing else. *attached*: its stdin is open, and its output
    goes to whoever attaches to it; else the output is kept as the container's log.
    """
    from docker.errors import NotFound

    # The name is chosen before the engine creates it: a Ctrl-C before the engine's answer leaves nothing behind.
    name = f"jetpare-measure-{secrets.token_hex(6)}"
    remove_orphans(docker)
    try:
        docker.api.create_container(
            image_id,
            entrypoint=argv[0],
            command=list(argv[1:]),
            user="0",
            name=name,
            labels=owner_label(),
            host_config=_isolation(docker, attached=attached),
            stdin_open=attached,
            working_dir="/",  # the engine would create the image's own if it is missing
            healthcheck={"test": ["NONE"]},
            # NVIDIA's runtime, the default on a Jetson, would mount the host's libraries into the image's folders.
            environment={"NVIDIA_VISIBLE_DEVICES": "void"},
        )
        yield name
    finally:
        with suppress(NotFound):
            docker.api.remove_container(name, force=True, v=True)


def _isolation(docker: DockerClient, *, attached: bool) -> HostConfig:
    """Return the host settings of a container that can read its own files and do nothing else."""
    from docker.types import LogConfig

    return docker.api.create_host_config(
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        cap_add=["DAC_OVERRIDE"],  # to read every file; DAC_READ_SEARCH would open the host's files by their handles
        security_opt=["no-new-privileges"],
        mem_limit=CONTAINER_MEMORY,
        memswap_limit=CONTAINER_MEMORY,
        pids_limit=CONTAINER_PROCESSES,
        log_config=LogConfig(type="none") if attached else LogConfig(type="json-file", config=LOG_LIMITS),
    )


def _sizes_by_find(docker: DockerClient, image_id: str) -> int | None:
    import requests
    from docker.errors import APIError

    mounted = [word for path in ENGINE_FILES for word in ("!", "-path", path)]
    begin = ["(", "-path", "/", "-printf", f"{FIND_BEGINS.decode()}\n", ")"]  # `find` comes to "/" first
    argv = ["find", "/", "-xdev", *begin, "-o", "(", "-type", "f", *mounted, "-printf", "%D:%i %s\n", ")"]
    with container_of(docker, image_id, argv) as container:
        try:
            docker.api.start(container)
            if docker.api.wait(container, timeout=FIND_SECONDS).get("StatusCode") != 0:
                return None
        except (APIError, requests.exceptions.RequestException):
            return None  # there is no such program, or it is for another processor, or it does not end
        said = docker.api.logs(container, stdout=True, stderr=False)
    return sum_of_find(said)


def sum_of_find(said: bytes) -> int | None:
    """Add up lines "INODE SIZE", each inode once; return None if the image's find printed anything else.

    Also return None if the first line is missing: the output was so long that the engine dropped its beginning.
    """
    first, *lines = said.splitlines() or [b""]
    sizes: dict[bytes, int] = {}
    for line in lines:
        match = re.fullmatch(rb"(\d+:\d+) (\d{1,19})", line)
        if match is None:
            return None
        sizes[match[1]] = int(match[2])
    return sum(sizes.values()) if first == FIND_BEGINS else None


def _sum_of_export(docker: DockerClient, image_id: str) -> int:
    with container_of(docker, image_id, ["/never-started"]) as container:
        found = members(docker.api.export(container, chunk_size=CHUNK), f"{image_id}: what `docker export` gives")
        return sum(
            member.size for member, content in found if content is not None and f"/{member.name}" not in ENGINE_FILES
        )


def saved(engine: Engine, image_id: str) -> Generator[tuple[tarfile.TarInfo, IO[bytes] | None], None, None]:
    """Yield the members of an image's `docker save` archive, as `members` does. Close it if you stop early."""
    with api.client(engine, timeout=SAVE_SECONDS) as docker:
        chunks = docker.api.get_image(image_id, chunk_size=CHUNK)
        yield from members(chunks, f"{image_id}: what `docker save` gives")


def members(chunks: Iterable[bytes], what: str) -> Generator[tuple[tarfile.TarInfo, IO[bytes] | None], None, None]:
    """Yield the members of an archive that an engine sends as they come, each with its content if it is a file.

    Read each content before asking for the next member. Raises EngineError, naming *what*, if it is not an archive or
    ends too early; if a content ends too early, reading it raises tarfile's own error.
    """
    reader = ChunkReader(iter(chunks))
    try:
        with tarfile.open(fileobj=reader, mode="r|", bufsize=CHUNK) as archive:  # type: ignore[call-overload]
            for member in archive:
                archive.members.clear()  # tarfile keeps every member otherwise
                yield member, archive.extractfile(member) if member.isreg() else None
    except tarfile.TarError as error:
        raise EngineError(
            f"{what} is not a whole archive ({error}). Check the engine's log and its free disk space, and try again."
        ) from error


def run_shell(engine: Engine, image: str, argv: Sequence[str]) -> int:
    """Run *argv* in a new container of *image* on this terminal, remove it, and return the exit status of *argv*."""
    return process.interactive(shell_command(engine, image, argv), env=engine.env)


def shell_command(engine: Engine, image: str, argv: Sequence[str]) -> list[str]:
    """Return the command that runs *argv* in a new container of *image* on this terminal, and removes it."""
    terminal = ["--tty"] if sys.stdin.isatty() else []  # docker refuses one where there is none, as in a script
    return [engine.docker, "run", "--rm", "--interactive", *terminal, image, *argv]

"""Reach a Docker engine, and read what it says about itself and its images.

Everything here asks the engine for JSON (docker-py, or ``--format json`` of its CLI); nothing matches English text.
Newer engines leave empty fields out of their answers, so every field is read with ``.get()``.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sys
import tarfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from packaging.version import InvalidVersion, Version

from jetpare import process
from jetpare.errors import ConfigError, EngineError, ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from docker import DockerClient
    from docker.tls import TLSConfig

DEFAULT_HOST = "unix:///var/run/docker.sock"
ANSWER_SECONDS = 10.0  # how long an engine may take to answer before it counts as not there
CALL_SECONDS = 120.0
REGISTRY_SECONDS = 15.0
CONTAINER_MEMORY = 512 << 20  # for whatever runs in an image to look at it; page cache counts, and can be dropped
CONTAINER_PROCESSES = 64
CHUNK = 1 << 20
FIND_SECONDS = 120
FIND_BEGINS = b"begin"
LOG_LIMITS = {"max-size": "64m", "max-file": "1"}  # of what an image's own program says; 60,000 files make 6 MB
SAVE_SECONDS = 3600.0  # an engine writes all of an image to its disk before it sends the first byte of it
MANIFESTS_API = Version("1.47")  # from then on an engine lists an image's manifests with their sizes

# Instructions that never make a layer: how a history entry of size 0 is told from an empty layer.
NO_LAYER = frozenset(
    {"ARG", "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "SHELL"}
    | {"STOPSIGNAL", "USER", "VOLUME"}
)

# The label on our short-lived containers, and what their names begin with.
OWNER = "jetpare.owner"
PASSING = ("/jetpare-measure-", "/jetpare-verify-")

# Every RUN of our Dockerfiles mounts its script there, and BuildKit describes a cache record by its command.
OUR_COMMANDS = "/run/jetpare/"

# What tells the Docker CLI which engine to use, and how.
ADDRESS_VARIABLES = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS", "DOCKER_TLS_VERIFY")

# What an engine mounts into a running container, or puts into every one.
ENGINE_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/.dockerenv")


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """The address of an engine. ``tls`` is None for a connection without TLS.

    ``variables`` make the Docker CLI use the same address, whatever context is chosen meanwhile.
    """

    host: str
    tls: TLSConfig | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


def connect(engine: Engine) -> DockerClient:
    """Return a new docker-py client for *engine*, which has ANSWER_SECONDS to say which API version it speaks."""
    from docker import DockerClient

    return DockerClient(base_url=engine.host, tls=engine.tls or False, timeout=int(ANSWER_SECONDS))


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One engine, opened once per command: its address, the CLI that talks to it, and one docker-py client.

    Run the CLI as ``docker`` with ``env``, which names the address, so that a `docker context use` elsewhere changes
    nothing. Call the API through ``client()``. ``overrides`` is what ``env`` has beyond, or other than, the caller's
    environment, so that a printed command works when pasted. ``private``: made by ``invoke engine-up``. ``connector``
    makes the docker-py client at its first use; tests put a fake there. Close the engine at the end, or use it as a
    context manager.
    """

    docker: str
    env: Mapping[str, str]
    overrides: Mapping[str, str]
    private: bool
    host: str = DEFAULT_HOST
    tls: TLSConfig | None = field(default=None, compare=False, repr=False)
    connector: Callable[[Engine], DockerClient] = field(default=connect, compare=False, repr=False)

    @cached_property
    def connection(self) -> DockerClient:
        """The docker-py client. Raises what docker-py raises; `client` turns that into an EngineError."""
        return self.connector(self)

    def close(self) -> None:
        """Close the client, if it was ever used; a later use opens a new one."""
        connection = self.__dict__.pop("connection", None)
        if connection is not None:
            connection.close()

    def __enter__(self) -> Engine:  # noqa: PYI034 - typing.Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """An engine's answers about itself. ``buildx`` is None where the CLI has no such plugin."""

    host: str
    version: Version | None
    version_text: str
    api_version: str
    storage_driver: str
    store: str
    data_root: Path
    os: str
    arch: str
    cpus: int
    memory_bytes: int
    kernel: str
    buildx: Version | None

    @property
    def platform(self) -> str:
        """The platform as Docker writes it, such as linux/arm64."""
        return f"{self.os}/{self.arch}"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer: the digest of its uncompressed content, and its size in bytes as the engine counts it."""

    diff_id: str
    size: int


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """One image, as its engine sees it. Sizes in bytes; None means not measured.

    ``layers_bytes``: the uncompressed layers' sum. With the overlay2 store, the files' sizes; with the containerd
    store, the disk blocks that the unpacked layers take, which is a few percent more. ``engine_bytes``: what the engine
    calls the image's size; its meaning depends on ``store``. ``layers`` is None where history and layers cannot be
    paired with certainty; ``layer_ids`` is always there.
    """

    reference: str
    id: str
    created: str | None
    platform: str
    labels: Mapping[str, str]
    env: Mapping[str, str]
    repo_digests: tuple[str, ...]
    store: str
    layer_ids: tuple[str, ...]
    layers: tuple[Layer, ...] | None
    layers_bytes: int | None
    engine_bytes: int | None

    @property
    def layer_count(self) -> int:
        """Return the number of layers, empty ones included."""
        return len(self.layer_ids)

    @property
    def layers_exact(self) -> bool:
        """Return whether layer sizes are those of the files; the containerd store gives disk blocks, 5 % more."""
        return self.store != "containerd"


# --- reaching an engine


def find(*, state: Path, environ: Mapping[str, str]) -> Engine:
    """Open the engine that DOCKER_HOST or the docker context names, if it answers; else the private one in *state*.

    Raises EngineError when none answers. An engine that DOCKER_HOST or DOCKER_CONTEXT names explicitly has to answer:
    another one is never used in its place.
    """
    from jetpare import private_engine

    named = next((name for name in ("DOCKER_HOST", "DOCKER_CONTEXT") if environ.get(name)), None)
    private = private_engine.engine(state=state, environ=environ)
    if named is None and _nothing_to_ask(environ):
        trouble = f"{DEFAULT_HOST}: there is no such socket"
    else:
        candidate = with_tools(at=endpoint(environ), state=state, environ=environ)
        trouble = not_answering(candidate)
        if not trouble:
            return candidate
        candidate.close()
    if named is not None:
        raise EngineError(
            f"{named}={environ[named]}: the engine does not answer ({trouble}). "
            f"Start it, correct {named}, or unset it to let another engine be found."
        )
    if private is not None and not not_answering(private):
        return private
    raise EngineError(
        f"No Docker engine answers ({trouble}). Start Docker, point DOCKER_HOST or a docker context at an engine, "
        "or run `invoke engine-up`, which makes a private one (Linux with apt, as root)."
    )


def endpoint(environ: Mapping[str, str]) -> Endpoint:
    """Return the address that the environment, or else the current docker context, names.

    Raises EngineError if that is unclear, not an address, or an ssh:// address, which is not supported yet.
    """
    from docker.errors import TLSParameterError
    from docker.utils import kwargs_from_env

    try:
        if environ.get("DOCKER_HOST"):
            found = kwargs_from_env(environment=dict(environ))
            return Endpoint(host=_usable(found["base_url"]), tls=found.get("tls"))
        docker = shutil.which("docker", path=environ.get("PATH"))
        if docker is None:
            return Endpoint(host=DEFAULT_HOST, variables={"DOCKER_HOST": DEFAULT_HOST})
        try:
            context = json.loads(process.run([docker, "context", "inspect"], env=environ, timeout=ANSWER_SECONDS))[0]
        except ToolError as error:
            raise EngineError(f"The docker context cannot be read: {error}") from error
        return _of_context(context)
    except TLSParameterError as error:
        raise EngineError(f"The engine's TLS files cannot be used: {error}") from error


def _of_context(context: Mapping[str, Any]) -> Endpoint:
    """Return the address in what `docker context inspect` prints of one context."""
    from docker.tls import TLSConfig

    target = context.get("Endpoints", {}).get("docker", {})
    host = _usable(target.get("Host") or DEFAULT_HOST)
    if not (context.get("TLSMaterial") or {}).get("docker"):
        return Endpoint(host=host, variables={"DOCKER_HOST": host})
    folder = Path(context["Storage"]["TLSPath"]) / "docker"
    unverified = bool(target.get("SkipTLSVerify", False))
    tls = TLSConfig(
        client_cert=(str(folder / "cert.pem"), str(folder / "key.pem")),
        ca_cert=str(folder / "ca.pem"),
        verify=not unverified,
    )
    switch = "DOCKER_TLS" if unverified else "DOCKER_TLS_VERIFY"
    return Endpoint(host=host, tls=tls, variables={"DOCKER_HOST": host, "DOCKER_CERT_PATH": str(folder), switch: "1"})


def _usable(host: str) -> str:
    """Return *host* if docker-py can use it as an address. Raises EngineError."""
    try:
        parts = urlsplit(host)
        _ = parts.port  # ValueError where it is no number or too large
    except ValueError as error:
        raise EngineError(
            f"{host}: not the address of an engine ({error}). Correct DOCKER_HOST or the context."
        ) from error
    if parts.scheme == "ssh":
        machine = parts.netloc if parts.port is None else parts.netloc.rpartition(":")[0]
        raise EngineError(
            f"{host}: ssh:// engines are not supported yet; run the build on that machine, or forward its socket: "
            f"`ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock {machine}` "
            "and set DOCKER_HOST=unix:///tmp/docker.sock"
        )
    return host


def _nothing_to_ask(environ: Mapping[str, str]) -> bool:
    """Return whether there is neither a Docker CLI, and so no context, nor the default socket."""
    no_cli = shutil.which("docker", path=environ.get("PATH")) is None
    return no_cli and not Path(DEFAULT_HOST.removeprefix("unix://")).exists()


def with_tools(*, at: Endpoint, state: Path, environ: Mapping[str, str]) -> Engine:
    """Return the engine *at* an address with a CLI that has buildx: the host's own, else the private root's."""
    from jetpare import private_engine

    docker = shutil.which("docker", path=environ.get("PATH"))
    spare = private_engine.tools(state=state)
    overrides = dict(at.variables)
    if docker is None and spare is None:
        raise ToolError("docker: not found. Install the Docker CLI with its buildx plugin, or run `invoke engine-up`.")
    if spare is not None and (docker is None or not has_buildx(docker, environ)):
        docker = docker or str(spare.docker)
        overrides["DOCKER_CONFIG"] = str(private_engine.cli_config(state=state, environ=environ))
    env = pinned(environ) if at.variables else environ
    return Engine(
        docker=str(docker), env={**env, **overrides}, overrides=overrides, private=False, host=at.host, tls=at.tls
    )


def pinned(environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* without what would make the Docker CLI use another address, or TLS meant for another one."""
    return {key: value for key, value in environ.items() if key not in ADDRESS_VARIABLES}


def has_buildx(docker: str, environ: Mapping[str, str]) -> bool:
    """Return whether *docker* has the buildx plugin."""
    return buildx_version(docker, environ) is not None


def buildx_version(docker: str, environ: Mapping[str, str]) -> Version | None:
    """Return the version of the buildx plugin; None when there is no plugin or it does not say."""
    try:
        words = process.run([docker, "buildx", "version"], env=environ, timeout=ANSWER_SECONDS).split()
    except ToolError:
        return None
    return parse_version(words[1]) if len(words) > 1 else None


def parse_version(text: str) -> Version | None:
    """Parse a version as engines and distributions write it (26.1.5+dfsg1, 24.0.7-0ubuntu2); None if it is none."""
    try:
        return Version(text)
    except InvalidVersion:
        match = re.match(r"v?\d+(\.\d+)*", text)
        return Version(match[0]) if match else None


def not_answering(engine: Engine, *, timeout: float = ANSWER_SECONDS) -> str:
    """Return why *engine* does not answer within *timeout* seconds; '' when it does."""
    try:
        with client(engine, timeout=timeout) as docker:
            docker.ping()
    except EngineError as error:
        return str(error)
    return ""


@contextmanager
def client(engine: Engine, *, timeout: float = CALL_SECONDS) -> Iterator[DockerClient]:
    """Give the docker-py client of *engine*; whatever goes wrong with the engine in the block becomes an EngineError.

    *timeout* is in seconds and counts for each answer in the block.
    """
    import requests
    from docker.errors import APIError, DockerException

    try:
        docker = engine.connection
        before, docker.api.timeout = docker.api.timeout, timeout  # type: ignore[assignment] # the stubs want an int
        try:
            yield docker
        finally:
            docker.api.timeout = before
    except APIError as error:
        raise EngineError(f"{engine.host}: {error.explanation or error}") from error
    except (DockerException, requests.exceptions.RequestException) as error:
        raise EngineError(f"{engine.host}: {_innermost(error)}") from error


def _innermost(error: BaseException) -> str:
    """Return the operating system's own message at the bottom of a chain of wrapped errors."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror.lower()
        seen = seen.__cause__ or seen.__context__
    return str(error)


# --- what it says


def facts(engine: Engine) -> EngineFacts:
    """Ask *engine* about itself. Raises EngineError when it does not answer."""
    with client(engine) as docker:
        info, version = docker.info(), docker.version()
    text = str(info.get("ServerVersion") or version.get("Version") or "")
    return EngineFacts(
        host=engine.host,
        version=parse_version(text),
        version_text=text,
        api_version=str(version.get("ApiVersion") or ""),
        storage_driver=str(info.get("Driver") or ""),
        store=store_of(info),
        data_root=Path(str(info.get("DockerRootDir") or "")),
        os=str(version.get("Os") or info.get("OSType") or ""),
        arch=str(version.get("Arch") or info.get("Architecture") or ""),
        cpus=int(info.get("NCPU") or 0),
        memory_bytes=int(info.get("MemTotal") or 0),
        kernel=str(info.get("KernelVersion") or ""),
        buildx=buildx_version(engine.docker, engine.env),
    )


def runtimes(engine: Engine) -> tuple[str, ...]:
    """Return the names of the container runtimes that *engine* has, such as runc and nvidia."""
    with client(engine) as docker:
        return tuple(sorted(docker.info().get("Runtimes") or {}))


def store_of(info: Mapping[str, Any]) -> str:
    """Return which image store an engine uses, from /info: "containerd", or the storage driver, such as "overlay2"."""
    status = info.get("DriverStatus") or []
    if ["driver-type", "io.containerd.snapshotter.v1"] in [list(pair) for pair in status]:
        return "containerd"
    return str(info.get("Driver") or "")


def inspect_image(engine: Engine, reference: str) -> ImageFacts | None:
    """Inspect the image *reference* (a name or an id) in *engine*; None when it has no such image.

    Raises ConfigError where *reference* is neither.
    """
    from docker.errors import ImageNotFound

    with client(engine) as docker:
        api: Any = docker.api  # its stubs lack this call
        try:
            image = inspected(docker, reference)
            history = api.history(image["Id"])
        except ImageNotFound:
            return None
        return image_facts(reference, image, history, store=store_of(docker.info()))


def inspected(docker: DockerClient, reference: str) -> Mapping[str, Any]:
    """Return the engine's JSON of the image *reference*. Raises ConfigError, or docker's ImageNotFound."""
    from jetpare.config import IMAGE_REFERENCE

    # It becomes a part of the address that is asked for, where '..' would lead to something else than an image.
    if not IMAGE_REFERENCE.fullmatch(re.sub(r"@sha256:[0-9a-f]{64}$", "", reference)):
        raise ConfigError(
            f"{reference!r} is not a valid image reference; expected [HOST[:PORT]/]PATH[:TAG][@DIGEST] with the path "
            "in lower case, or an image's id. `docker images` lists them."
        )
    api: Any = docker.api  # its stubs lack this call
    image: Mapping[str, Any] = api.inspect_image(reference)
    return image


def image_facts(
    reference: str, image: Mapping[str, Any], history: Sequence[Mapping[str, Any]], *, store: str
) -> ImageFacts:
    """Convert the engine's JSON (inspect; history, newest first) to ImageFacts."""
    config = image.get("Config") or {}
    layer_ids = tuple((image.get("RootFS") or {}).get("Layers") or ())
    layers = pair_layers(layer_ids, history)
    size = image.get("Size")
    created = str(image.get("Created") or "")
    parts = (image.get("Os"), image.get("Architecture"), image.get("Variant"))
    return ImageFacts(
        reference=reference,
        id=str(image.get("Id")),
        created=None if created.startswith("0001-") or not created else created,
        platform="/".join(str(part) for part in parts if part),
        labels=dict(config.get("Labels") or {}),
        env=dict(entry.partition("=")[::2] for entry in config.get("Env") or ()),
        repo_digests=tuple(image.get("RepoDigests") or ()),
        store=store,
        layer_ids=layer_ids,
        layers=layers,
        layers_bytes=_layers_bytes(store, size, layers, history),
        engine_bytes=None if size is None else int(size),
    )


def _layers_bytes(
    store: str, size: int | None, layers: tuple[Layer, ...] | None, history: Sequence[Mapping[str, Any]]
) -> int | None:
    if store != "containerd":
        return size  # there .Size is this sum, and also counts layers that no history entry stands for
    if layers is not None:
        return sum(layer.size for layer in layers)
    total = sum(int(entry.get("Size") or 0) for entry in history)
    return total or None


def pair_layers(layer_ids: Sequence[str], history: Sequence[Mapping[str, Any]]) -> tuple[Layer, ...] | None:
    """Each layer with its size, oldest first; None where it is not certain which size belongs to which layer.

    *history* is newest first and does not say which of its entries made a layer. An entry with a size did.
    One without may be an empty layer (WORKDIR, an empty COPY) or none at all (ENV): its instruction tells, and the
    counts must agree.
    """
    entries = layer_entries(layer_ids, history)
    if entries is None:
        return None
    sizes = (int(entry.get("Size") or 0) for entry in entries)
    return tuple(Layer(diff_id=one, size=size) for one, size in zip(layer_ids, sizes, strict=True))


def layer_entries(
    layer_ids: Sequence[str], history: Sequence[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], ...] | None:
    """Return the entry of *history* that made each layer, oldest first; None if uncertain: see `pair_layers`."""
    oldest_first = tuple(reversed(history))
    candidates = (
        tuple(entry for entry in oldest_first if entry.get("Size")),
        tuple(entry for entry in oldest_first if entry.get("Size") or _may_be_layer(entry)),
        oldest_first,
    )
    return next((entries for entries in candidates if len(entries) == len(layer_ids)), None)


def _may_be_layer(entry: Mapping[str, Any]) -> bool:
    """Return whether a history entry is of an instruction that can make a layer; a shell command can."""
    text = str(entry.get("CreatedBy") or "")
    _, marker, rest = text.partition("#(nop)")  # how the classic builder writes those that run nothing
    words = (rest if marker else text).split()
    return words[:2] != ["WORKDIR", "/"] and (not words or words[0] not in NO_LAYER)


def registry_trouble(engine: Engine, reference: str, *, timeout: float = REGISTRY_SECONDS) -> str:
    """Return why the engine cannot get *reference* from its registry within *timeout* seconds; '' when it can."""
    try:
        with client(engine, timeout=timeout) as docker:
            api: Any = docker.api  # its stubs lack this call
            api.inspect_distribution(reference)
    except EngineError as error:
        return str(error).removeprefix(f"{engine.host}: ")
    return ""


# --- doing something


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

    By the image's own GNU find where it has one that runs (measured: 0.4 s for 300 MB), else from the stream that
    `docker export` gives (2.2 s), which works for any image and platform. Neither counts the files that an engine puts
    into every container, such as /etc/hosts. No network, nothing written; the container is removed also when this is
    interrupted.
    """
    with client(engine) as docker:
        sizes = _sizes_by_find(docker, image_id)
        return _sum_of_export(docker, image_id) if sizes is None else sizes


def process_name(pid: int) -> str:
    """Return a process identity that is unique across reboots and PID namespaces. Raises OSError if it has ended."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino} {pid} {started}"


def owner_label() -> dict[str, str]:
    """Return the label that marks a container as this process's; none where there is no /proc."""
    with suppress(OSError):
        return {OWNER: process_name(os.getpid())}
    return {}


def is_orphan(owner: str) -> bool:
    """Return whether the process *owner* has ended; False where that is unknown, as of another machine's."""
    with suppress(OSError, ValueError):
        boot, namespace, number, _ = owner.split()
        if process_name(os.getpid()).split()[:2] != [boot, namespace]:
            return False
        try:
            os.kill(int(number), 0)  # says of others' processes too that they are there
            return process_name(int(number)) != owner
        except ProcessLookupError:
            return True
    return False


def remove_orphans(docker: DockerClient) -> None:
    """Remove the containers of `container_of` and verify whose process was killed or lost its engine."""
    from docker.errors import APIError

    for each in docker.api.containers(all=True, filters={"label": OWNER}):
        ours = any(name.startswith(PASSING) for name in each.get("Names") or ())  # a label may be an image's
        if ours and is_orphan(str((each.get("Labels") or {}).get(OWNER))):
            with suppress(APIError):  # another one removes it
                docker.api.remove_container(each["Id"], force=True, v=True)


@contextmanager
def container_of(docker: DockerClient, image_id: str, argv: Sequence[str], *, attached: bool = False) -> Iterator[str]:
    """Make a container that will run *argv* as root, and give its id; it is removed at the end, whatever happens.

    It is not started yet. It can read every file and do nothing else. *attached*: its stdin is open, and its output
    goes to whoever attaches to it; else it is kept as the container's log.
    """
    from docker.errors import NotFound
    from docker.types import LogConfig

    # The name is ours before the engine makes it: a Ctrl-C between its work and its answer leaves nothing behind.
    name = f"jetpare-measure-{secrets.token_hex(6)}"
    settings = docker.api.create_host_config(
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        cap_add=["DAC_OVERRIDE"],  # files of others too; DAC_READ_SEARCH would open the host's files by their handles
        security_opt=["no-new-privileges"],
        mem_limit=CONTAINER_MEMORY,
        memswap_limit=CONTAINER_MEMORY,
        pids_limit=CONTAINER_PROCESSES,
        log_config=LogConfig(type="none") if attached else LogConfig(type="json-file", config=LOG_LIMITS),
    )
    remove_orphans(docker)
    try:
        docker.api.create_container(
            image_id,
            entrypoint=argv[0],
            command=list(argv[1:]),
            user="0",
            name=name,
            labels=owner_label(),
            host_config=settings,
            stdin_open=attached,
            working_dir="/",  # the image's own would be made where it is missing
            healthcheck={"test": ["NONE"]},
            # NVIDIA's runtime, the default one on a Jetson, would mount the host's libraries into the image's folders.
            environment={"NVIDIA_VISIBLE_DEVICES": "void"},
        )
        yield name
    finally:
        with suppress(NotFound):
            docker.api.remove_container(name, force=True, v=True)


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
            return None  # no such program, or not for this processor, or it never ends
        said = docker.api.logs(container, stdout=True, stderr=False)
    return _sum_of_find(said)


def _sum_of_find(said: bytes) -> int | None:
    """Add up lines "INODE SIZE", each inode once; None where an image's find says anything else.

    None too where the first line is missing: it said so much that the engine dropped the beginning of its log.
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
    """Yield what `docker save` gives of an image, as `members` does. Close it if it is not read to its end."""
    with client(engine, timeout=SAVE_SECONDS) as docker:
        chunks = docker.api.get_image(image_id, chunk_size=CHUNK)
        yield from members(chunks, f"{image_id}: what `docker save` gives")


def members(chunks: Iterable[bytes], what: str) -> Generator[tuple[tarfile.TarInfo, IO[bytes] | None], None, None]:
    """Yield the members of an archive that an engine sends as they come, each with its content if it is a file.

    A content has to be read before the next member is asked for. Raises EngineError, of *what*, where that is no
    archive or ends too early; where a content does, reading it raises tarfile's own error.
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


def content_bytes(engine: Engine, image: ImageFacts) -> int | None:
    """Return the bytes that the containerd store holds of *image* to push it: manifest, config, compressed layers.

    None where a part of it is not there. Before API 1.47 the engine's .Size was just this (moby's
    daemon/containerd/image.go); later it came to count what is unpacked too (moby pull request 53426).
    """
    with client(engine) as docker:
        api: Any = docker.api  # its stubs lack these
        if Version(api.api_version) < MANIFESTS_API:
            return image.engine_bytes
        answer = api.get(f"{api.base_url}/v{api.api_version}/images/json", params={"manifests": "true"})
        answer.raise_for_status()
        return content_of(answer.json(), image)


def content_of(listed: Sequence[Mapping[str, Any]], image: ImageFacts) -> int | None:
    """Return the same from the engine's list of images with their manifests."""
    for entry in listed:
        for manifest in entry.get("Manifests") or () if entry.get("Id") == image.id else ():
            platform = (manifest.get("ImageData") or {}).get("Platform")
            if manifest.get("Kind") == "image" and manifest.get("Available") and of_platform(platform, image.platform):
                return int(manifest["Size"]["Content"])
    return None


def of_platform(entry: Mapping[str, Any] | None, platform: str) -> bool:
    """Return whether a manifest's platform is *platform*, such as linux/arm64/v8; a variant may be left out."""
    wanted = platform.split("/")
    have = [str((entry or {}).get(key) or "") for key in ("os", "architecture", "variant")]
    return have[:2] == wanted[:2] and (len(wanted) < len(have) or have[2] in ("", wanted[2]))


def held_bytes(engine: Engine, references: Iterable[str]) -> int:
    """Return the bytes on the engine's disk that a build of the images *references* does not have to write again.

    That is the layers of those that are there, each once, and the build cache of our own commands. BuildKit does not
    say which profile a cache record is for, so the cache of all of them counts; nothing of other projects does.
    """
    layers: dict[str, int] = {}
    unpaired = 0
    for reference in references:
        image = inspect_image(engine, reference)
        if image is None:
            continue
        if image.layers is None:
            unpaired = max(unpaired, image.layers_bytes or 0)  # they may share their layers, so only the largest counts
        else:
            layers |= {layer.diff_id: layer.size for layer in image.layers}
    with client(engine) as docker:
        records = docker.df().get("BuildCache") or ()
    cache = sum(int(each.get("Size") or 0) for each in records if is_our_cache(each) and not each.get("Shared"))
    return sum(layers.values()) + unpaired + cache


def is_our_cache(record: Mapping[str, Any]) -> bool:
    """Return whether a build cache record is that of one of our commands: each of them mounts its script there."""
    return OUR_COMMANDS in str(record.get("Description") or "")


def tag_image(engine: Engine, image_id: str, reference: str) -> None:
    """Give the image *image_id* the name *reference*, and take it from whichever image had it."""
    repository, _, tag = reference.rpartition(":") if ":" in reference.rpartition("/")[2] else (reference, "", "latest")
    with client(engine) as docker:
        docker.api.tag(image_id, repository, tag)


def remove_image(engine: Engine, reference: str) -> bool:
    """Remove the name *reference*, and the image with its last name. Returns False when there was none."""
    from docker.errors import ImageNotFound

    with client(engine) as docker:
        try:
            docker.api.remove_image(reference)
        except ImageNotFound:
            return False
    return True


def run_shell(engine: Engine, image: str, argv: Sequence[str]) -> int:
    """Run *argv* in a new container of *image* on this terminal, remove it, and return the exit status of *argv*."""
    terminal = ["--tty"] if sys.stdin.isatty() else []  # docker refuses one where there is none, as in a script
    command = [engine.docker, "run", "--rm", "--interactive", *terminal, image, *argv]
    return process.interactive(command, env=engine.env)

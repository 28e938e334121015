"""Connect to an engine and ask it about itself."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from packaging.version import InvalidVersion, Version

from jetpare.base import process
from jetpare.base.errors import EngineError, ToolError
from jetpare.engine.model import ANSWER_SECONDS, DEFAULT_HOST, Endpoint, Engine, EngineFacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from docker import DockerClient

CALL_SECONDS = 120.0

# The variables by which the Docker CLI chooses its engine.
ADDRESS_VARIABLES = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS", "DOCKER_TLS_VERIFY")


class ContextTarget(Struct):
    """The address of an engine in a context."""

    Host: str = ""
    SkipTLSVerify: bool = False


class ContextFiles(Struct):
    """Where a context's files are."""

    TLSPath: str = ""


class DockerContext(Struct):
    """One context, as `docker context inspect` prints it."""

    Endpoints: dict[str, ContextTarget | None] = {}
    TLSMaterial: dict[str, Any] | None = None
    Storage: ContextFiles = msgspec.field(default_factory=ContextFiles)


def endpoint(environ: Mapping[str, str]) -> Endpoint:
    """Return the address that the environment, or else the current docker context, names.

    Raises EngineError if the context cannot be read, or names something other than an address, or ssh://, which is not
    supported yet.
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
            said = process.run([docker, "context", "inspect"], env=environ, timeout=ANSWER_SECONDS)
            (context,) = msgspec.json.decode(said, type=tuple[DockerContext])
        except (ToolError, msgspec.DecodeError, RecursionError) as error:
            why = str(error) if isinstance(error, ToolError) else f"`docker context inspect` is not valid ({error})."
            raise EngineError(
                f"The docker context cannot be read: {why} To choose one: `docker context use`."
            ) from error
        return _of_context(context)
    except TLSParameterError as error:
        raise EngineError(
            f"The engine's TLS files cannot be used: {error} Correct DOCKER_CERT_PATH, or unset DOCKER_TLS_VERIFY."
        ) from error


def _of_context(context: DockerContext) -> Endpoint:
    """Return the address of one context."""
    from docker.tls import TLSConfig

    target = context.Endpoints.get("docker") or ContextTarget()
    host = _usable(target.Host or DEFAULT_HOST)
    if not (context.TLSMaterial or {}).get("docker"):
        return Endpoint(host=host, variables={"DOCKER_HOST": host})
    if not context.Storage.TLSPath:
        raise EngineError(
            "The docker context has TLS files, but does not say where they are. To choose another one: "
            "`docker context use`."
        )
    folder = Path(context.Storage.TLSPath) / "docker"
    unverified = target.SkipTLSVerify
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
        _ = parts.port  # ValueError if it is not a number, or too large
    except ValueError as error:
        raise EngineError(
            f"{host} is not a valid address of an engine ({error}); expected such as unix:///var/run/docker.sock or "
            "tcp://HOST:PORT. Correct DOCKER_HOST or the context."
        ) from error
    if parts.scheme == "ssh":
        machine = parts.netloc if parts.port is None else parts.netloc.rpartition(":")[0]
        raise EngineError(
            f"{host}: ssh:// engines are not supported yet; run the build on that machine, or forward its socket: "
            f"`ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock {machine}` "
            "and set DOCKER_HOST=unix:///tmp/docker.sock"
        )
    return host


def pinned(environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* without the variables that make the Docker CLI use another address, or another one's TLS."""
    return {key: value for key, value in environ.items() if key not in ADDRESS_VARIABLES}


def has_buildx(docker: str, environ: Mapping[str, str]) -> bool:
    """Return whether *docker* has the buildx plugin."""
    return buildx_version(docker, environ) is not None


def buildx_version(docker: str, environ: Mapping[str, str]) -> Version | None:
    """Return the version of the buildx plugin; None if there is no plugin or it reports none."""
    try:
        words = process.run([docker, "buildx", "version"], env=environ, timeout=ANSWER_SECONDS).split()
    except ToolError:
        return None
    return parse_version(words[1]) if len(words) > 1 else None


def parse_version(text: str) -> Version | None:
    """Parse a version of an engine or a distribution (26.1.5+dfsg1, 24.0.7-0ubuntu2); return None if it is not one."""
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
    """Yield the docker-py client of *engine*; every failure of the engine in the block becomes an EngineError.

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


# --- facts


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


OLDEST_ENGINE, OLDEST_BUILDX = Version("23"), Version("0.13")

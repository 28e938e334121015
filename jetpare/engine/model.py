"""An engine and its images, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from docker import DockerClient
    from docker.tls import TLSConfig


DEFAULT_HOST = "unix:///var/run/docker.sock"
ANSWER_SECONDS = 10.0  # how long an engine may take to answer before it counts as not there


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """The address of an engine. ``tls`` is None for a connection without TLS.

    ``variables`` make the Docker CLI use the same address, even if another context is chosen meanwhile.
    """

    host: str
    tls: TLSConfig | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


def connect(engine: Engine) -> DockerClient:
    """Return a new docker-py client for *engine*, which has ANSWER_SECONDS to report its API version."""
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
class LayerFacts:
    """One layer: the digest of its uncompressed content, and its size in bytes as the engine counts it."""

    diff_id: str
    size: int


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """One image, as its engine reports it. Sizes in bytes; None means not measured.

    ``layers_bytes``: the sum of the uncompressed layers. With the overlay2 store, the sizes of the files; with the
    containerd store, the disk blocks of the unpacked layers, which is a few percent more. ``engine_bytes``: the image's
    size as the engine reports it; its meaning depends on ``store``. ``layers`` is None if history and layers cannot be
    paired with certainty; ``layer_ids`` is always known.
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
    layers: tuple[LayerFacts, ...] | None
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

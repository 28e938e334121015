"""Name the folders and find the programs of the project's private engine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jetpare.base.errors import EngineError
from jetpare.engine import api
from jetpare.engine.model import Engine


@dataclass(frozen=True, kw_only=True)
class EngineFolders:
    """The folders of one project's private engine.

    ``mark`` is on the command line of each of its processes, so that they can be found.
    """

    home: Path
    mark: str

    @classmethod
    def of(cls, state: Path) -> EngineFolders:
        """Return the folders that belong to the state folder *state*."""
        home = state.resolve() / "engine"
        return cls(home=home, mark="jetpare-" + hashlib.sha256(os.fsencode(home)).hexdigest()[:8])

    @property
    def rootfs(self) -> Path:
        """The engine's root: a small system with dockerd in it."""
        return self.home / "rootfs"

    @property
    def data(self) -> Path:
        """The engine's images."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """The log of dockerd."""
        return self.home / "dockerd.log"

    @property
    def run(self) -> Path:
        """The engine's socket and run-time files; gone after a reboot."""
        return Path("/run") / self.mark

    @property
    def socket(self) -> Path:
        """The socket on which the engine answers."""
        return self.run / "docker.sock"

    @property
    def bridge(self) -> str:
        """The engine's network interface (at most 15 characters)."""
        return self.mark.replace("jetpare", "jp")


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The Docker CLI and the buildx plugin of the private root."""

    docker: Path
    buildx: Path


# --- using the engine


def tools(*, state: Path) -> Tools | None:
    """Return the CLI and the plugin in the private root; None if there is no such root."""
    root = EngineFolders.of(state).rootfs
    found = Tools(docker=root / "usr/bin/docker", buildx=root / "usr/libexec/docker/cli-plugins/docker-buildx")
    return found if found.docker.exists() and found.buildx.exists() else None


def engine(*, state: Path, environ: Mapping[str, str]) -> Engine | None:
    """Return the private engine of *state*; None if it has no socket. It may still not answer."""
    folders, found = EngineFolders.of(state), tools(state=state)
    if found is None or not folders.socket.exists():
        return None
    overrides = {
        "DOCKER_HOST": f"unix://{folders.socket}",
        "DOCKER_CONFIG": str(cli_config(state=state, environ=environ)),
    }
    return Engine(
        docker=str(found.docker),
        env={**api.pinned(environ), **overrides},
        overrides=overrides,
        private=True,
        host=overrides["DOCKER_HOST"],
    )


def cli_config(*, state: Path, environ: Mapping[str, str]) -> Path:
    """Return a DOCKER_CONFIG folder with the private root's buildx and links to the user's own logins and contexts."""
    folders, found = EngineFolders.of(state), tools(state=state)
    if found is None:
        raise EngineError(f"{folders.rootfs}: there is no private engine. To make one: `invoke engine-up`.")
    own = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME") or "/root") / ".docker")
    config = folders.home / "config"
    _link(config / "cli-plugins" / "docker-buildx", found.buildx)
    if own.resolve() == config:
        return config
    for entry in own.iterdir() if own.is_dir() else ():
        if entry.name not in ("cli-plugins", "buildx"):
            _link(config / entry.name, entry)
    for entry in config.iterdir():
        if entry.is_symlink() and not entry.exists():
            entry.unlink()  # the user has logged out since then
    return config


def _link(link: Path, target: Path) -> None:
    target = target.absolute()
    if link.is_symlink() and link.readlink() == target:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.symlink_to(target)
    temporary.replace(link)

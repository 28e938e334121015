"""A project: its folder, its build.toml, and what of the environment it was opened with."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jetpare.base import process
from jetpare.base.errors import ToolError
from jetpare.board.host import LocalHost
from jetpare.config import schema, values
from jetpare.config.load import load_config
from jetpare.config.schema import Config
from jetpare.project.plan import Plan, Platforms, make_plan, with_cudnn
from jetpare.records.ledger import Ledger

STATE = Path(".jetpare")
MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, kw_only=True)
class Project:
    """Where everything is read and written; ``state`` is relative to ``root``."""

    root: Path
    config: Config
    config_digest: str
    environ: Mapping[str, str]
    state: Path = STATE

    @property
    def state_path(self) -> Path:
        """The state folder, absolute."""
        return self.root / self.state

    @cached_property
    def ledger(self) -> Ledger:
        """The run records of this project, each read once."""
        return Ledger(self.state_path)

    @property
    def home(self) -> Path:
        """The user's home folder, where pip and uv keep their settings."""
        return Path(self.environ.get("HOME") or "/")

    @property
    def sysroot(self) -> Path:
        """Where /sys, /proc and a Jetson's own programs are looked for; JETPARE_SYSROOT puts a test's board there."""
        return Path(self.environ.get("JETPARE_SYSROOT") or "/")

    @property
    def host(self) -> LocalHost:
        """The machine that we run on."""
        return LocalHost(root=self.sysroot, environ=self.environ)

    def plan(
        self,
        *,
        profile: str | None,
        architecture: str,
        platform: str | None = None,
        images: tuple[str, ...] = (),
        only: str | None = None,
    ) -> Plan:
        """The plan for a profile (None: the default one of *architecture*) and images (none named: all).

        *architecture* is the engine's; *platform* stands in the place of the profile's own.
        """
        name, settings = self.config.pick_profile(profile, architecture=architecture, platform=platform)
        return make_plan(
            profile=(name, settings),
            platforms=Platforms(
                target=schema.resolve_platform(settings, architecture=architecture),
                host=f"linux/{architecture}",
                cross=self.config.cross_builds(settings, architecture=architecture),
            ),
            images=with_cudnn(
                self.config.pick_images((only.split("/")[0],) if only else images),
                self.config.cudnn_of(settings).source,
            ),
            only=only,
        )


def open_project(root: Path, environ: Mapping[str, str]) -> Project:
    """Read build.toml in *root*. Raises ConfigError."""
    path = root / values.FILE_NAME
    config = load_config(path)
    return Project(
        root=root.resolve(),
        config=config,
        config_digest=f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
        environ=environ,
    )


def host_architecture() -> str:
    """The machine's architecture in Docker's words: amd64, arm64, or what the kernel calls it."""
    machine = platform.machine().lower()
    return MACHINES.get(machine, machine)


def source_revision(root: Path, environ: Mapping[str, str]) -> str | None:
    """The git commit of *root*, with '-dirty' where the tree differs from it; None outside a repository."""
    git = ["git", "-C", str(root)]
    try:
        commit = process.run([*git, "rev-parse", "HEAD"], env=environ).strip()
        changed = process.run([*git, "status", "--porcelain"], env=environ).strip()
    except ToolError:
        return None
    return f"{commit}-dirty" if changed else commit

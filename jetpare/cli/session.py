"""Open what a task needs: the project, the engine, and the two consoles.

Results go to stdout and can be piped; the narration goes to stderr. Modules are imported where they are used, so that
`invoke --list` answers at once.
"""

from __future__ import annotations

import io
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from jetpare.base.text import plain_lines

if TYPE_CHECKING:
    from rich.console import Console

    from jetpare.engine.model import Engine
    from jetpare.project.plan import Plan
    from jetpare.project.project import Project


@dataclass(frozen=True, kw_only=True)
class Session:
    """One command: the project's folder, the environment, and the profile and the platform that were asked for.

    The project, the engine and the consoles are opened when they are first used. Use it as a context manager, which
    closes the engine.
    """

    root: Path
    environ: Mapping[str, str]
    profile: str | None = None
    platform: str | None = None  # in place of the profile's own

    def __enter__(self) -> Session:  # noqa: PYI034 - typing.Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        """Close the engine, if it was opened."""
        if "engine" in self.__dict__:
            self.engine.close()

    @cached_property
    def project(self) -> Project:
        """The project of build.toml. Raises ConfigError. Says what an interrupted or damaged run has left."""
        from jetpare.project.project import open_project

        opened = open_project(self.root, self.environ)
        for line in (*pending_power(opened), *damaged_records(opened)):
            self.say(line)
        return opened

    @cached_property
    def engine(self) -> Engine:
        """The engine that answers, found once and used by the whole command. Raises EngineError if none does."""
        from jetpare.engine import discovery

        return discovery.find(state=self.project.state_path, environ=self.environ)

    @cached_property
    def architecture(self) -> str:
        """The engine's architecture, asked for once. Raises EngineError if no engine answers."""
        from jetpare.engine import api

        return api.facts(self.engine).arch

    @cached_property
    def out(self) -> Console:
        """The console for results."""
        from rich.console import Console

        from jetpare.views.terminal import FILE_WIDTH

        # A file or a pipe has no width of its own; tables there are not squeezed into 80 columns.
        return Console(highlight=False, width=None if is_terminal(sys.stdout) else FILE_WIDTH)

    @cached_property
    def err(self) -> Console:
        """The console for narration."""
        from rich.console import Console

        return Console(stderr=True, highlight=False, soft_wrap=not is_terminal(sys.stderr))

    def say(self, line: str) -> None:
        """Print one line of narration."""
        self.err.print(plain_lines(line), markup=False)

    def echo(self, line: str) -> None:
        """Print a command that starts now as it is, without line breaks of our own, so that it can be pasted."""
        self.err.print(plain_lines(line), markup=False, soft_wrap=True)

    def plan_of(self, *, images: tuple[str, ...] = (), only: str | None = None, architecture: str) -> Plan:
        """Return the plan of this session's profile on *architecture*."""
        return self.project.plan(
            profile=self.profile, architecture=architecture, platform=self.platform, images=images, only=only
        )

    def engine_plan(self, *, images: tuple[str, ...] = (), only: str | None = None) -> Plan:
        """Return the plan on the engine's architecture; faults of build.toml are raised before the engine is asked."""
        self.plan_of(images=images, only=only, architecture=host_architecture())
        return self.plan_of(images=images, only=only, architecture=self.architecture)

    def profile_flag(self) -> str:
        """Return ' --profile NAME' if a profile was given."""
        return f" --profile {shlex.quote(self.profile)}" if self.profile else ""


def pending_power(project: Project) -> list[str]:
    """Say what an interrupted run has not put back on the board; the next build, or `power --restore`, does it."""
    from jetpare.board import power

    pending = power.pending(state=project.state_path, host=project.host)
    return [] if pending is None or pending.live else [str(pending)]


def damaged_records(project: Project) -> list[str]:
    """Name the records that no figure comes from, because they cannot be read."""
    folders = [folder.relative_to(project.root) for record, folder in project.ledger.records() if record is None]
    return [
        f"{folder / 'run.json'} is damaged or of another version, and is left out. To remove it: rm -r {folder}"
        for folder in folders
    ]


def engine_architecture(session: Session) -> str:
    """Return the engine's architecture, or this machine's if no engine answers."""
    from jetpare.base.errors import JetpareError

    try:
        return session.architecture
    except JetpareError:
        return host_architecture()


def host_architecture() -> str:
    """Return this machine's architecture in Docker's words."""
    from jetpare.project import project

    return project.host_architecture()


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether *stream* is a terminal. From now on it escapes what its encoding cannot show."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream is not None and stream.isatty()

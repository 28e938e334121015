"""What each task does: open the project, find the engine, make one call, show one result.

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
    """One command: where the project is, the environment, and the profile that was asked for."""

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

    # --- parts, made when they are first needed

    @cached_property
    def project(self) -> Project:
        """build.toml, read and validated."""
        from jetpare.project.project import open_project

        opened = open_project(self.root, self.environ)
        self.tell_pending(opened)
        self.tell_damaged(opened)
        return opened

    def tell_pending(self, project: Project) -> None:
        """Say what an interrupted run has not put back on the board; the next build, or `power --restore`, does it."""
        from jetpare.board import power

        pending = power.pending(state=project.state_path, host=project.host)
        if pending is not None and not pending.live:
            self.say(str(pending))

    def tell_damaged(self, project: Project) -> None:
        """Name the records that no figure comes from, because they cannot be read."""
        for record, folder in project.ledger.records():
            if record is None:
                path = (folder / "run.json").relative_to(project.root)
                self.say(f"{path} is damaged or of another version, and is left out. To remove it: rm -r {path.parent}")

    @cached_property
    def engine(self) -> Engine:
        """The engine that answers, found once and used by the whole command. Raises EngineError where none does."""
        from jetpare.engine import discovery

        return discovery.find(state=self.project.state_path, environ=self.environ)

    @cached_property
    def architecture(self) -> str:
        """The engine's architecture; this machine's where none answers."""
        from jetpare.base.errors import JetpareError
        from jetpare.engine import api

        try:
            return api.facts(self.engine).arch
        except JetpareError:
            return host_architecture()

    @cached_property
    def out(self) -> Console:
        """Where results go."""
        from rich.console import Console

        from jetpare.views.terminal import FILE_WIDTH

        # A file or a pipe has no width of its own; tables there are not squeezed into 80 columns.
        return Console(highlight=False, width=None if is_terminal(sys.stdout) else FILE_WIDTH)

    @cached_property
    def err(self) -> Console:
        """Where narration goes."""
        from rich.console import Console

        return Console(stderr=True, highlight=False, soft_wrap=not is_terminal(sys.stderr))

    def say(self, line: str) -> None:
        """One line of narration."""
        self.err.print(plain_lines(line), markup=False)

    def echo(self, line: str) -> None:
        """Print a command that starts now as it is, without line breaks of our own, so that it can be pasted."""
        self.err.print(plain_lines(line), markup=False, soft_wrap=True)

    def plan_of(self, *, images: tuple[str, ...] = (), only: str | None = None, architecture: str) -> Plan:
        """The plan of this session's profile on *architecture*."""
        return self.project.plan(
            profile=self.profile, architecture=architecture, platform=self.platform, images=images, only=only
        )

    def engine_plan(self, *, images: tuple[str, ...] = (), only: str | None = None) -> Plan:
        """The plan on the engine's own architecture; the faults of build.toml are told before an engine is sought."""
        from jetpare.engine import api

        self.plan_of(images=images, only=only, architecture=host_architecture())
        return self.plan_of(images=images, only=only, architecture=api.facts(self.engine).arch)

    # --- looking

    # --- the engine, and cleaning up

    def profile_flag(self) -> str:
        """' --profile NAME' where one was given."""
        return f" --profile {shlex.quote(self.profile)}" if self.profile else ""


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person watches; what cannot be shown in the stream's encoding is escaped from now on."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream is not None and stream.isatty()


def host_architecture() -> str:
    """Return this machine's architecture in Docker's words."""
    from jetpare.project.project import host_architecture

    return host_architecture()

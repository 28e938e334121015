"""Watch this host while it builds: its power mode and its sensors.

Where the engine is on another machine, nothing here is measured: that machine's mode and sensors would be the ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jetpare.board import host, power
from jetpare.board.nvpmodel import Present
from jetpare.board.power import PowerSession
from jetpare.board.sensors import Sampler
from jetpare.build.request import Request
from jetpare.engine import disk
from jetpare.engine.model import Engine, EngineFacts
from jetpare.project.project import Project
from jetpare.records import ledger
from jetpare.records.samples import SAMPLES_FILE, StageTelemetry


@dataclass(frozen=True, kw_only=True)
class HostWatch:
    """The power mode that a run holds, and the sampler of its sensors. None: not on this host."""

    held: PowerSession | None = None
    sampler: Sampler | None = None

    def present(self) -> Present | None:
        """Return the power mode now; None where it cannot be measured."""
        return self.held.present() if self.held else None

    def take_sample(self) -> None:
        """Take a sample now, so that even a short stage has one at its start."""
        if self.sampler is not None:
            self.sampler.take()

    def measured(self, started: float | None, finished: float | None) -> StageTelemetry | None:
        """Summarize what the sensors said between two times, in seconds since the epoch."""
        if self.sampler is None or started is None or finished is None:
            return None
        return self.sampler.stage(started, finished)

    def marks(self, before: Present | None, after: Present | None, seen: StageTelemetry | None) -> tuple[str, ...]:
        """Return the reasons why a stage's time does not count for the power mode that the run names.

        *before* and *after* are the modes at the stage's start and end, *seen* what the sensors said in between.
        """
        found = power.stage_marks(
            before=before,
            after=after,
            promise=self.held.promise if self.held else None,
            cpu_khz={core: figure.mean for core, figure in seen.cpu_khz.items()} if seen and seen.cpu_khz else None,
            gpu_hz=seen.gpu_hz.mean if seen and seen.gpu_hz else None,
            emc_hz=seen.emc_hz.mean if seen and seen.emc_hz else None,
        )
        heat = (f"throttled by heat: {', '.join(seen.tripped)}",) if seen and seen.tripped else ()
        return (*found, *heat)


def power_session(
    project: Project, running: Engine, request: Request, *, say: Callable[[str], None]
) -> AbstractContextManager[PowerSession | None]:
    """Return a context manager that holds the power mode of *request*, or else of build.toml."""
    if not disk.is_local(running):
        return nullcontext()
    settings = project.config.power
    policy = power.Policy(
        wanted=request.power or settings.mode, lock_clocks=settings.lock_clocks, strict=settings.strict
    )
    return power.session(state=project.state_path, host=project.host, policy=policy, say=say)


@contextmanager
def sampling(
    project: Project, running: Engine, facts: EngineFacts, *, folder: Path, say: Callable[[str], None]
) -> Iterator[Sampler | None]:
    """Sample the sensors while the block runs, into a file in *folder*. Say at the end where samples are missing."""
    if not disk.is_local(running):
        yield None
        return
    root = disk.data_folder(running, facts, project.state_path)
    sampler = Sampler(root=project.sysroot, disk=root, file=folder / SAMPLES_FILE)
    try:
        with sampler:
            yield sampler
    finally:
        if sampler.fault:
            say(f"Not all samples were kept: {sampler.fault}.")


def host_facts(project: Project, held: PowerSession | None) -> dict[str, Any]:
    """Return the facts of this host that decide how long a build takes, the power mode included."""
    found = ledger.host_facts() | {"model": host.host_facts(project.host).model}
    facts = held.facts if held else None
    return found | {"power_mode": facts.mode if facts else None, "power": facts.as_dict() if facts else None}

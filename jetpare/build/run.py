"""Hand what a whole run shares to each of its parts."""

from __future__ import annotations

from dataclasses import dataclass

from jetpare.build.cudnn import CudnnFit
from jetpare.build.journal import Journal
from jetpare.build.network import NetworkSettings
from jetpare.build.request import Request
from jetpare.build.watch import HostWatch
from jetpare.engine.model import Engine
from jetpare.events.progress import Progress
from jetpare.project.plan import Plan
from jetpare.project.project import Project


@dataclass(frozen=True, kw_only=True)
class BuildRun:
    """One run: what to build and where, and who records, watches and shows it. It decides nothing."""

    project: Project
    plan: Plan
    engine: Engine
    request: Request
    settings: NetworkSettings  # of this host, for builds and downloads
    journal: Journal
    watch: HostWatch
    progress: Progress
    fit: CudnnFit | None = None  # what the cuDNN that is collected has to be; None where none is

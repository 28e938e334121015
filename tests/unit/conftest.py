"""A miniature project with an engine and a bake that are not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.version import Version

from jetpare.build import buildx, pipeline
from jetpare.build.request import Request
from jetpare.engine import api
from jetpare.engine.model import Engine
from jetpare.project.plan import Plan
from jetpare.project.project import Project, open_project
from jetpare.records.ledger import Ledger, Record
from tests.fakes import FakeBake, FakeDocker, Silent, digest, opened

DEBIAN = "jetpare-mini/debian:bookworm-amd64"


@dataclass(kw_only=True)
class Workshop:
    """A project, and the engine that it is built in. ``build`` runs the pipeline as `invoke build-all` does."""

    project: Project
    docker: FakeDocker
    bake: FakeBake
    engine: Engine
    view: Silent

    def plan(self, *images: str, only: str | None = None) -> Plan:
        """Return the plan of the miniature's profile."""
        return self.project.plan(profile="mini", architecture="amd64", images=images, only=only)

    def build(self, plan: Plan, request: Request | None = None) -> Record:
        """Build *plan*."""
        return pipeline.build(self.project, plan, self.engine, request or Request(task="build-all"), self.view)

    def newest(self) -> Record:
        """Return the newest record on disk."""
        return next(record for record, _ in Ledger(self.project.state_path).records() if record)


def no_buildx_to_ask(patch: pytest.MonkeyPatch) -> None:
    """Let every engine have a buildx, and no project be in a git repository: asking would start processes."""
    patch.setattr(api, "buildx_version", lambda *_: Version("0.13.1"))
    patch.setattr("jetpare.project.project.source_revision", lambda *_: None)


def make_workshop(root: Path, environ: Mapping[str, str], patch: pytest.MonkeyPatch) -> Workshop:
    """Open the project in *root* on a new engine that has the Debian base."""
    no_buildx_to_ask(patch)
    docker = FakeDocker()
    docker.add(digest("debian"), DEBIAN, "somebody/debian:12")
    made = FakeBake(docker)
    patch.setattr(buildx, "run", made)
    project = open_project(root, environ)
    workshop = Workshop(project=project, docker=docker, bake=made, engine=opened(docker), view=Silent())
    made.passing(workshop.plan())
    return workshop


@pytest.fixture
def workshop(mini: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return make_workshop(mini, {"HOME": str(mini / "home")}, monkeypatch)

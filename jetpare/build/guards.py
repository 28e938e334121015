"""Refuse a build that cannot succeed, and an image that is not what was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jetpare.base import probe_report
from jetpare.base.errors import SpaceError, ToolError
from jetpare.base.units import GB
from jetpare.base.versions import DIFFERS, ImageCheck, version_rows
from jetpare.build import doctor, ownership
from jetpare.engine import disk
from jetpare.engine.model import Engine, EngineFacts
from jetpare.project.plan import Plan
from jetpare.project.project import Project


def check_engine(project: Project, plan: Plan, engine_: Engine, facts: EngineFacts) -> None:
    """Raise ToolError where the engine cannot build *plan*: buildx or the emulation of its processor is missing."""
    check_tools(facts)
    check_emulation(plan, engine_, facts, project.sysroot)


def check_tools(facts: EngineFacts) -> None:
    """Raise ToolError where buildx is missing or too old: bake itself would only speak of an unknown flag."""
    found = doctor.check_buildx(facts)
    if found.status == "failed":
        raise ToolError(f"buildx: {found.detail}. {found.advice}")


def check_emulation(plan: Plan, engine_: Engine, facts: EngineFacts, sysroot: Path) -> None:
    """Raise ToolError where programs of the target cannot be run: a stage would only fail with 'exec format error'."""
    local = disk.is_local(engine_)
    found = doctor.check_platform(facts.platform, plan.platform, sysroot, local=local, cross=plan.cross)
    if found.status == "failed":
        raise ToolError(f"{found.detail}. {found.advice}")


def check_space(project: Project, plan: Plan, engine_: Engine, facts: EngineFacts) -> None:
    """Raise SpaceError where the engine's disk cannot hold what the profile needs beyond what is there of it."""
    need, held = int(plan.profile.disk_gb * GB), ownership.references(project, plan)
    found = doctor.check_room(engine_, facts, need, state=project.state_path, held=held)
    if found.status == "failed":
        raise SpaceError(
            f"The disk with the engine's data root is too small for profile '{plan.profile_name}': {found.detail}. "
            f"{found.advice}"
        )


def version_faults(measured: Mapping[str, str | None], expected: Mapping[str, str]) -> list[str]:
    """A line for every version that is not the expected one; what could not be measured is no fault here."""
    rows = version_rows(measured, expected)
    return [f"{row.component} is {row.measured}, expected {row.expected}" for row in rows if row.status == DIFFERS]


def check_faults(checks: Sequence[ImageCheck]) -> list[str]:
    """A line for every check that failed, and one where there is no report at all: silence is no success."""
    if not checks:
        return [f"its checks left no report that can be read ({probe_report.PLACE})"]
    return [f"{check.name}: {check.detail}" for check in checks if check.status == "failed"]

"""Does the cuDNN that goes into an image fit the PyTorch that goes there too? Asked before anything long starts.

PyTorch accepts a cuDNN of the major version that it was compiled against, and of no older minor one; else it raises
when it is used, at the end of a build. What it was compiled against is known without installing it where build.toml
says so (expect, cudnn_compiled) or where its wheel requires a cuDNN; wheels for Jetson require none.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from jetpare.base import files
from jetpare.base.errors import ConfigError, JetpareError
from jetpare.base.versions import version_matches
from jetpare.build import network, wheel_index
from jetpare.build.wheel_index import Target, Wheel
from jetpare.config.schema import Profile
from jetpare.config.values import MULTIARCH, architecture_of
from jetpare.image.version_sources import fits
from jetpare.project.plan import CUDNN, Plan
from jetpare.project.project import Project

KEPT = "wheels.json"  # what wheels require, by where it was looked for: a wheel of a version never changes
REAL_NAME = re.compile(r".*/libcudnn\.so\.(\d+\.[\d.]*\d)")


@dataclass(frozen=True, kw_only=True)
class CudnnRequirement:
    """The version that PyTorch was made for, or later of the same major one, and who says so."""

    version: str
    said: str


def faults(have: str, *, where: str, need: CudnnRequirement | None, expected: str | None) -> list[str]:
    """What is wrong with version *have*, which comes from *where*: a line each."""
    found = []
    if expected and not version_matches(have, expected):
        found.append(f"{where}: cuDNN is {have}, and {expected} is expected")
    if need and not fits(have, made_for=need.version):
        wanted = ".".join(str(part) for part in Version(need.version).release[:2])
        found.append(
            f"{where}: cuDNN is {have}, and {wanted} or later of the same major version is needed: {need.said}"
        )
    return found


def collected_version(manifest: Path) -> str | None:
    """The cuDNN that stage cudnn collected, by its manifest; None where that tells of none."""
    try:
        with manifest.open(newline="") as file:
            rows = [row for row in csv.DictReader(file, delimiter="\t") if row.get("type") == "file"]
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    found = (REAL_NAME.fullmatch(row.get("path") or "") for row in rows)
    return next((match[1] for match in found if match), None)


def required(wheel: Wheel, *, machine: str) -> CudnnRequirement | None:
    """The cuDNN that a wheel of PyTorch requires on *machine*; None where it requires none."""
    for text in wheel.requires:
        requirement = Requirement(text)
        here = requirement.marker is None or requirement.marker.evaluate(
            {"extra": "", "platform_machine": machine, "platform_system": "Linux", "sys_platform": "linux"}
        )
        pins = [each.version for each in requirement.specifier if each.operator in {"==", ">=", "~="}]
        if here and pins and requirement.name.startswith("nvidia-cudnn-"):
            said = f"{wheel.name} requires {requirement.name}{requirement.specifier}"
            return CudnnRequirement(version=str(Version(pins[0].removesuffix(".*"))), said=said)
    return None


# --- asked at the start of a build, and again when the stage is built


@dataclass(frozen=True, kw_only=True)
class CudnnFit:
    """What the cuDNN of a build has to be; ``unknown``: why what PyTorch needs is not known, empty where it is."""

    need: CudnnRequirement | None
    expected: str | None
    advice: str
    unknown: str = ""

    def raise_for(self, have: str, *, where: str) -> None:
        """ConfigError where *have* does not do."""
        found = faults(have, where=where, need=self.need, expected=self.expected)
        if found:
            raise ConfigError("\n".join([*found, self.advice]))


def check(project: Project, plan: Plan) -> CudnnFit | None:
    """What the build of *plan* needs, checked against what build.toml names; None where it has no part in this.

    Raises ConfigError where it does not fit. Network trouble is no error: it stands in ``unknown``.
    """
    names = {node.name for node in plan.nodes}
    if not plan.wants_cuda or not {CUDNN, "python"} & names:
        return None
    expect, place = plan.profile.expect, _place(project, plan)
    need, unknown = _need(project, plan)
    made = CudnnFit(
        need=need,
        expected=expect.get("cudnn"),
        unknown=unknown,
        advice="Name another version, or another source, in [cudnn] of build.toml. If PyTorch was compiled against an "
        f"older cuDNN than its wheel requires, say so: {place} cudnn_compiled.",
    )
    source = project.config.cudnn_of(plan.profile)
    named = source.version if CUDNN in names else None
    if named:
        made.raise_for(named, where=f"[cudnn] source '{source.source}'")
    elif expect.get("cudnn"):
        made.raise_for(expect["cudnn"], where=place)
    return made


def _place(project: Project, plan: Plan) -> str:
    """Where build.toml says which versions are expected."""
    return f"[{project.config.table_of(plan.profile_name)}.expect]"


def _need(project: Project, plan: Plan) -> tuple[CudnnRequirement | None, str]:
    """What PyTorch needs, or why that is not known."""
    said = plan.profile.expect.get("cudnn_compiled")
    if said:
        return CudnnRequirement(version=said, said=f"{_place(project, plan)} cudnn_compiled is {said}"), ""
    pin = next((text for text in project.config.python.requirements if Requirement(text).name == "torch"), None)
    if pin is None:
        return None, "[python] requirements names no torch"
    machine = MULTIARCH.get(architecture_of(plan.platform), "").partition("-")[0]
    target = Target(machine=machine, python=plan.profile.expect.get("python"))
    try:
        wheel = _wheel(project, plan.profile, pin, target)
        need = required(wheel, machine=machine) if wheel else None
    except (OSError, ValueError, LookupError, TypeError, JetpareError) as error:
        return None, f"the wheel of {pin} could not be asked: {type(error).__name__}"
    if wheel is None:
        return None, f"no index has a wheel of {pin} for {machine}"
    return need, "" if need else f"{wheel.name} does not say which cuDNN it was compiled against"


def _wheel(project: Project, profile: Profile, pin: str, target: Target) -> Wheel | None:
    """The wheel that a build would install, from what is kept or from the indexes."""
    settings = network.read_settings(project.environ, project.home)
    folders = [project.root / folder for folder in project.config.python.wheels]
    indexes = wheel_index.indexes_of(settings, profile.indexes)
    key = " ".join((pin, target.machine, target.python or "", *map(network.without_login, indexes)))
    kept = files.json_object(project.state_path / KEPT)
    if key in kept and not folders:
        return Wheel(name=kept[key][0], requires=tuple(kept[key][1:]))
    found = wheel_index.find(pin, target, folders=folders, indexes=indexes, settings=settings)
    if found and not folders:
        new = {key: [found.name, *found.requires]}
        files.update_json(project.state_path / KEPT, lambda known: known | new)
    return found

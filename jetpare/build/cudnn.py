"""Check that the cuDNN of an image fits its PyTorch, before anything long starts.

PyTorch accepts a cuDNN of the major version that it was compiled against, and of the same or a newer minor one; else it
raises when it is first used, at the end of a build. The version that it was compiled against is known beforehand if
build.toml says so (expect, cudnn_compiled) or if its wheel requires a cuDNN; wheels for Jetson require none.
"""

from __future__ import annotations

import csv
import hashlib
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

KEPT = "wheels.json"  # the requirements of wheels, by pin and hashed indexes: a wheel of a version never changes
HASHED = re.compile(r".* [0-9a-f]{64}")  # a key of KEPT
REAL_NAME = re.compile(r".*/libcudnn\.so\.(\d+\.[\d.]*\d)")


@dataclass(frozen=True, kw_only=True)
class CudnnRequirement:
    """The oldest cuDNN that PyTorch accepts (or a later one of the same major version), and the source of that fact."""

    version: str
    said: str


def faults(have: str, *, where: str, need: CudnnRequirement | None, expected: str | None) -> list[str]:
    """Return what is wrong with version *have*, which comes from *where*, one line for each fault."""
    found = []
    if expected and not version_matches(have, expected):
        found.append(f"{where}: cuDNN is {have}; expected {expected}")
    if need and not fits(have, made_for=need.version):
        wanted = ".".join(str(part) for part in Version(need.version).release[:2])
        found.append(
            f"{where}: cuDNN is {have}, and {wanted} or later of the same major version is needed: {need.said}"
        )
    return found


def collected_version(manifest: Path) -> str | None:
    """Return the version of cuDNN in the manifest of stage cudnn; None if it lists none."""
    try:
        with manifest.open(newline="") as file:
            rows = [row for row in csv.DictReader(file, delimiter="\t") if row.get("type") == "file"]
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    found = (REAL_NAME.fullmatch(row.get("path") or "") for row in rows)
    return next((match[1] for match in found if match), None)


def required(wheel: Wheel, *, machine: str) -> CudnnRequirement | None:
    """Return the cuDNN that a wheel of PyTorch requires on *machine*; None if it requires none."""
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


# --- checked at the start of a build, and again when the stage is built


@dataclass(frozen=True, kw_only=True)
class CudnnFit:
    """The requirements for the cuDNN of a build. ``unknown``: why PyTorch's is not known; empty if it is."""

    need: CudnnRequirement | None
    expected: str | None
    advice: str
    unknown: str = ""

    def raise_for(self, have: str, *, where: str) -> None:
        """Raise ConfigError if *have* does not meet the requirements."""
        found = faults(have, where=where, need=self.need, expected=self.expected)
        if found:
            raise ConfigError("\n".join([*found, self.advice]))


def check(project: Project, plan: Plan) -> CudnnFit | None:
    """Return the requirements of *plan*, checked against build.toml; None if it has no stage with cuDNN or PyTorch.

    Raises ConfigError if build.toml does not meet them. Network trouble is not an error: it is in ``unknown``.
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
    """Return the table of build.toml with the expected versions."""
    return f"[{project.config.table_of(plan.profile_name)}.expect]"


def _need(project: Project, plan: Plan) -> tuple[CudnnRequirement | None, str]:
    """Return PyTorch's requirement, or why it is not known."""
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
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError, JetpareError) as error:
        return None, f"the wheel of {pin} could not be read: {type(error).__name__}"
    if wheel is None:
        return None, f"no index has a wheel of {pin} for {machine}"
    return need, "" if need else f"{wheel.name} does not say which cuDNN it was compiled against"


def _wheel(project: Project, profile: Profile, pin: str, target: Target) -> Wheel | None:
    """Return the wheel that a build would install, from KEPT or from the indexes."""
    settings = network.read_settings(project.environ, project.home)
    folders = [project.root / folder for folder in project.config.python.wheels]
    indexes = wheel_index.indexes_of(settings, profile.indexes)
    asked = hashlib.sha256("\n".join(map(network.without_login, indexes)).encode()).hexdigest()
    key = " ".join((pin, target.machine, target.python or "", asked))
    kept = files.json_object(project.state_path / KEPT).get(key)
    if isinstance(kept, list) and kept and all(isinstance(each, str) for each in kept) and not folders:
        return Wheel(name=kept[0], requires=tuple(kept[1:]))
    found = wheel_index.find(pin, target, folders=folders, indexes=indexes, settings=settings)
    if found and not folders:
        new = {key: [found.name, *found.requires]}
        # Earlier versions had the indexes themselves in the key, with the tokens in their queries.
        files.update_json(
            project.state_path / KEPT, lambda known: {key: known[key] for key in known if HASHED.fullmatch(key)} | new
        )
    return found

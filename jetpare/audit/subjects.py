"""From the engine, the run records and build.toml to the Subjects of an audit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jetpare.audit.subject import Subject
from jetpare.base.errors import RecordError
from jetpare.config.values import CUDA_TARGET, MULTIARCH, architecture_of
from jetpare.engine import image_store
from jetpare.engine.model import Engine, ImageFacts
from jetpare.image.inventory import Inventory
from jetpare.image.read import inventory_reader
from jetpare.project import naming
from jetpare.project.plan import Plan
from jetpare.project.project import Project
from jetpare.records import budget
from jetpare.records.ledger import ImageRecord

PROBE = "/usr/share/jetpare/checks.json"
COLLECTED = "cudnn"  # the stage that [collect] is for
PRUNED = "slim"  # the stage that leaves out what [[prune]] names


def subjects(
    project: Project,
    plan: Plan,
    running: Engine,
    names: Sequence[str],
    *,
    known: Iterable[Inventory] = (),
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[Subject], tuple[str, ...]]:
    """The images to audit, and those of build.toml among them that are not built.

    *known*: inventories that the caller has, which are not loaded again.
    Raises RecordError for a reference that the engine does not have.
    """
    built = [
        image for record in project.ledger.readable() if record.profile == plan.profile_name for image in record.images
    ]
    baseline_name = project.config.project.baseline
    baseline = _facts(project, plan, running, baseline_name)

    taken = {each.image_id: each for each in known}

    def take(image_id: str) -> Inventory:
        if image_id not in taken:
            taken[image_id] = inventory_reader.take(running, image_id, state=project.state_path, say=say)
        return taken[image_id]

    found: list[Subject] = []
    missing: list[str] = []
    for name in names or tuple(plan.images):
        facts = _facts(project, plan, running, name)
        if facts is None and name not in project.config.images:
            raise RecordError(f"there is no image {name!r}, neither in build.toml nor in the engine. `docker images`.")
        if facts is None:
            missing.append(name)
            continue
        other = baseline if baseline is not None and baseline.id != facts.id else None
        found.append(
            Subject(
                name=name,
                reference=facts.reference,
                inventory=take(facts.id),
                rules=project.config.audit,
                baseline=None if other is None else take(other.id),
                baseline_name=baseline_name,
                layers_bytes=facts.layers_bytes if facts.layers_exact else None,
                **_known(project, plan, name, next((row for row in built if row.id == facts.id), None)),
            )
        )
    return [_measured(each) for each in found], tuple(missing)


def _facts(project: Project, plan: Plan, running: Engine, name: str) -> ImageFacts | None:
    own = name in project.config.images
    return image_store.inspect_image(
        running, naming.image_tag(project.config, name, plan.profile_name) if own else name
    )


def _known(project: Project, plan: Plan, name: str, row: ImageRecord | None) -> dict[str, Any]:
    """What build.toml and the run records say of an image; what the profile says counts for any image."""
    config, profile = project.config, plan.profile
    known: dict[str, Any] = {"cuda": plan.wants_cuda, "gpu_arch": profile.gpu_arch, "provided": config.python.provided}
    known["requested"] = ("python3", *config.runtime.packages)
    if row is not None:
        known |= {"versions": row.versions, "checks": row.checks}
    if name not in config.images:
        return known
    known["expected"] = dict(profile.expect)
    known["budget"] = budget.allowed_bytes(profile.budget, name)
    if PRUNED in config.images[name].stages:
        known["pruned"] = tuple(fill(pattern, plan.platform) for rule in config.prune for pattern in rule.paths)
    if COLLECTED in config.images[name].stages:
        known["collect"] = tuple(fill(pattern, plan.platform) for pattern in config.collect.required)
    return known


def fill(pattern: str, platform: str) -> str:
    """A pattern of [collect] with its placeholders filled in for a platform."""
    architecture = architecture_of(platform)
    multiarch, cuda = MULTIARCH.get(architecture, "*"), CUDA_TARGET.get(architecture, "*")
    return pattern.replace("{multiarch}", multiarch).replace("{cuda_target}", cuda)


def _measured(subject: Subject) -> Subject:
    """*subject* with what the probe wrote into the image, where no run record has it."""
    if subject.versions or PROBE not in subject.inventory.texts:
        return subject
    try:
        report: Mapping[str, Any] = json.loads(subject.inventory.texts[PROBE])
        versions, checks = dict(report["versions"]), tuple(report["checks"])
    except (ValueError, KeyError, TypeError, RecursionError):  # a file of that name that is no report of ours
        return subject
    ours = all(isinstance(each, (str, type(None))) for each in versions.values())
    ours = ours and all(isinstance(each, dict) for each in checks)
    return replace(subject, versions=versions, checks=checks) if ours else subject

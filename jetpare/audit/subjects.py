"""Gather the images of an audit from the engine, the run records and build.toml."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from types import MappingProxyType
from typing import Any

from jetpare.audit.subject import Subject
from jetpare.base import probe_report
from jetpare.base.errors import RecordError
from jetpare.config.schema import AuditSettings
from jetpare.config.values import filled
from jetpare.engine import image_store
from jetpare.engine.model import Engine, ImageFacts
from jetpare.image.inventory import Inventory
from jetpare.image.kept import Held
from jetpare.image.read import inventory_reader
from jetpare.image.version_sources import check
from jetpare.project import naming
from jetpare.project.plan import CUDNN, Plan
from jetpare.project.project import Project
from jetpare.records import budget
from jetpare.records.ledger import ImageRecord

LOOKED_AT = ("host_libraries", "allow", "least_mb")  # of [audit], by the checks


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An image to audit: a Subject whose inventories are loaded when it is first asked for.

    ``known``: the Subject's other fields.
    """

    image_id: str
    inventory: Held[Inventory]
    baseline: Held[Inventory] | None
    known: Mapping[str, Any]

    @cached_property
    def subject(self) -> Subject:
        """The Subject, with what the probe wrote into the image where no run record has it."""
        baseline = self.baseline.content if self.baseline else None
        return _measured(Subject(inventory=self.inventory.content, baseline=baseline, **self.known))

    @property
    def held(self) -> tuple[Held[Any], ...]:
        """What the Subject is made of; an answer without a baseline is another one."""
        return (self.inventory, self.baseline or Held.of(None, "no baseline"))


def candidates(
    project: Project,
    plan: Plan,
    running: Engine,
    names: Sequence[str],
    *,
    known: Mapping[str, ImageFacts | None] = MappingProxyType({}),
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[Candidate], tuple[str, ...]]:
    """Return the images to audit, and those of build.toml among them that are not built.

    *known*: by reference, what the engine said of images already. Raises RecordError for a reference that the engine
    does not have.
    """

    def facts_of(name: str) -> ImageFacts | None:
        own = name in project.config.images
        reference = naming.image_tag(project.config, name, plan.profile_name) if own else name
        return known[reference] if reference in known else image_store.inspect_image(running, reference)

    asked = [(name, facts_of(name)) for name in names or tuple(plan.images)]
    unknown = next((name for name, facts in asked if facts is None and name not in project.config.images), None)
    if unknown is not None:
        raise RecordError(f"there is no image {unknown!r}, neither in build.toml nor in the engine. `docker images`.")
    baseline = facts_of(project.config.project.baseline)
    hold = cache(partial(inventory_reader.hold, running, state=project.state_path, say=say))
    rows = _rows(project, plan)
    found = [
        Candidate(
            image_id=facts.id,
            inventory=hold(facts.id),
            baseline=None if baseline is None or baseline.id == facts.id else hold(baseline.id),
            known=_known(project, plan, name, facts, rows.get(facts.id)),
        )
        for name, facts in asked
        if facts is not None
    ]
    return found, tuple(name for name, facts in asked if facts is None)


def _rows(project: Project, plan: Plan) -> dict[str | None, ImageRecord]:
    """Return what the newest run of *plan*'s profile says of each image, by the image's id."""
    records = [record for record in project.ledger.readable() if record.profile == plan.profile_name]
    return {image.id: image for record in reversed(records) for image in reversed(record.images)}


def _known(project: Project, plan: Plan, name: str, facts: ImageFacts, row: ImageRecord | None) -> dict[str, Any]:
    """Return what the engine, build.toml and the run records say of an image.

    What the profile says counts for any image. The rules come without the waivers, which are for the findings.
    """
    config, profile = project.config, plan.profile
    known: dict[str, Any] = {"name": name, "reference": facts.reference, "baseline_name": config.project.baseline}
    known["rules"] = AuditSettings(**{key: getattr(config.audit, key) for key in LOOKED_AT})
    known["layers_bytes"] = facts.layers_bytes if facts.layers_exact else None
    known |= {"cuda": plan.wants_cuda, "gpu_arch": profile.gpu_arch, "provided": config.python.provided}
    known["requested"] = ("python3", *config.runtime.packages)
    if row is not None:
        known |= {"versions": row.versions, "checks": tuple(map(check, row.checks))}
    if name not in config.images:
        return known
    known["expected"] = dict(profile.expect)
    known["budget"] = budget.allowed_bytes(profile.budget, name)
    fill = partial(filled, platform=plan.platform, unknown="*")
    if naming.NEW_ROOT in config.images[name].stages:
        known["pruned"] = tuple(fill(pattern) for rule in config.prune for pattern in rule.paths)
    if CUDNN in config.images[name].stages:
        known["collect"] = tuple(map(fill, config.collect.required))
    return known


def _measured(subject: Subject) -> Subject:
    """Return *subject* with what the probe wrote into the image, where no run record has it."""
    report = None if subject.versions else probe_report.parsed(subject.inventory.texts.get(probe_report.PLACE, ""))
    return replace(subject, versions=report.versions, checks=report.checks) if report else subject

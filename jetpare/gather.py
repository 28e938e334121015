"""From the engine and the run records to the figures that are compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from jetpare import bake, budget, engine, ledger
from jetpare.compare import BUILT, NOT_BUILT, Comparison, ImageFigures, compare, version_rows
from jetpare.engine import Engine, ImageFacts
from jetpare.ledger import ImageRecord, Ledger, Record, StageRecord
from jetpare.plan import Plan
from jetpare.project import Project


def comparison(project: Project, plan: Plan, running: Engine) -> Comparison:
    """Every image of *plan*'s profile, as the engine has it now."""
    records = [record for record, _ in Ledger(project.state_path).records() if record is not None]
    records = [record for record in records if record.profile == plan.profile_name]
    facts = engine.facts(running)
    return compare(
        [_figures(project, plan, running, name, records) for name in plan.images],
        baseline=project.config.project.baseline,
        profile=plan.profile_name,
        description=plan.profile.description,
        engine={"version": facts.version_text, "store": facts.store, "platform": facts.platform},
    )


def _figures(project: Project, plan: Plan, running: Engine, name: str, records: list[Record]) -> ImageFigures:
    reference = bake.image_tag(project.config, name, plan.profile_name)
    table = plan.images[name]
    allowed = budget.allowed_bytes(plan.profile.budget, name)
    facts = engine.inspect_image(running, reference)
    if facts is None:
        failures = tuple(_failures(name, records, since=None))
        return ImageFigures(name=name, reference=reference, status=NOT_BUILT, budget=allowed, notes=failures)
    built = _built_by(facts.id, records)
    row = next((image for image in built.images if image.id == facts.id), None) if built else None
    stages = _built_stages(name, plan, built, records)
    notes = [*_failures(name, records, since=built)]
    if not facts.layers_exact:
        notes.append(
            f"the {facts.store} store counts uncompressed layers in disk blocks, some percent above their bytes"
        )
    if built is None:
        notes.append("no run record of this project tells how it was built, so its checks and times are not measured")
    return ImageFigures(
        name=name,
        reference=reference,
        status=BUILT,
        id=facts.id,
        created=facts.created,
        profile=facts.labels.get("jetpare.profile"),
        platform=facts.platform,
        base=facts.labels.get("org.opencontainers.image.base.name") or table.base,
        revision=facts.labels.get("org.opencontainers.image.revision"),
        layers=facts.layer_count,
        sizes={"layers": facts.layers_bytes, "merged": _merged_bytes(running, row, facts)},
        layer_sizes=None if facts.layers is None else tuple((layer.diff_id, layer.size) for layer in facts.layers),
        versions=version_rows(row.versions if row else {}, dict(plan.profile.expect)),
        checks=row.checks if row else (),
        budget=allowed,
        build_seconds=sum(stage.seconds or 0.0 for stage in stages) if stages else None,
        build_warm=tuple(stage.label.split("/")[1] for stage in stages if stage.cache == "warm"),
        build_overlaps=any(stage.overlaps for stage in stages),
        notes=tuple(notes),
    )


def _built_by(image_id: str, records: list[Record]) -> Record | None:
    """The oldest run that made this very image: later ones only found it in the cache."""
    return next((run for run in reversed(records) if any(image.id == image_id for image in run.images)), None)


def _built_stages(name: str, plan: Plan, built: Record | None, records: list[Record]) -> tuple[StageRecord, ...]:
    """The stages that are in the image, each from the run that made it; none where one of them is not known.

    That is the newest run, up to the one that made the image, with the same inputs, that did not find it in the cache.
    """
    found: dict[str, StageRecord] = {}
    for run in records:  # newest first
        for stage in run.stages if built and run.id <= built.id else ():
            known = built.stage(stage.label) if built else None
            made = stage.status == ledger.OK and stage.cache != "cached" and known and stage.inputs == known.inputs
            if made and stage.label.startswith(f"{name}/"):
                found.setdefault(stage.label, stage)
    return tuple(found.values()) if len(found) == len(plan.images[name].stages) else ()


def _failures(name: str, records: list[Record], *, since: Record | None) -> Iterator[str]:
    """Whether the newest run that was to build this image ended otherwise than well."""
    for run in records:
        if since is not None and run.id == since.id:
            return
        if any(stage.label.startswith(f"{name}/") for stage in run.stages):
            if run.status != ledger.SUCCEEDED and not any(image.name == name and image.id for image in run.images):
                age = "; what is shown is from an earlier one" if since else ""
                yield f"run {run.id} {run.status} before it was finished{age}"
            return


def _merged_bytes(running: Engine, row: ImageRecord | None, facts: ImageFacts) -> int | None:
    """The merged file system's size, from the record where there is one: an id never changes its content."""
    return row.merged_bytes if row and row.merged_bytes is not None else engine.merged_bytes(running, facts.id)


def built_stages(project: Project, *, profile: str, labels: Iterable[str]) -> dict[str, StageRecord | None]:
    """Each stage as the newest run left it that did not find it in the cache; None where none did."""
    kept = Ledger(project.state_path)
    return {
        label: next(
            (
                row
                for _, row in kept.runs_of(profile=profile, label=label)
                if row.status == ledger.OK and row.cache != "cached"
            ),
            None,
        )
        for label in labels
    }


def log_file(project: Project, label: str, profile: str) -> Path | None:
    """The log of the newest run in which the node really ran; else of the newest one that found it in the cache."""
    kept = Ledger(project.state_path)
    logs = [
        (row.cache == "cached", kept.path(run.id) / row.log)
        for run, row in kept.runs_of(profile=profile, label=label)
        if row.log
    ]
    there = [(cached, path) for cached, path in logs if path.is_file()]
    return min(there, key=lambda each: each[0])[1] if there else None  # the first, so the newest, of each kind

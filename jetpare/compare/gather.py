"""From the engine, the run records and what is in the images to a Comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from jetpare import __version__
from jetpare.audit import audit, verify
from jetpare.base.errors import ConfigError, JetpareError, RecordError
from jetpare.base.units import size_text
from jetpare.base.versions import NOT_MEASURED, ImageCheck, version_rows
from jetpare.compare.comparison import BUILT, MAX_LAYERS, NOT_BUILT, Comparison, ImageFigures, LayerFigures, StageTime
from jetpare.compare.contents import ImageContents, contents, with_contents
from jetpare.compare.differences import ContentDifferences, complete, differences
from jetpare.compare.pull_size import Method, PullSize, pull_size
from jetpare.engine import api, containers, image_store
from jetpare.engine.model import Engine, ImageFacts
from jetpare.image.inventory import Inventory
from jetpare.image.kept import Held, HeldContents, kept
from jetpare.image.layers import Listing
from jetpare.image.read import inventory_reader, layer_reader
from jetpare.image.version_sources import check
from jetpare.project import naming
from jetpare.project.plan import Plan
from jetpare.project.project import Project
from jetpare.records import budget, ledger
from jetpare.records.ledger import ImageRecord, Record, StageRecord, order

STAND_IN = "(stand-in)"  # what the name of a base that jetpare made ends with
CAVEAT = "A rehearsal: the base system and the GPU are not real; sizes, stages, links and failures are."
ON_THE_CPU = "Every check ran on the CPU: nothing here says that the GPU works. `invoke verify` on a GPU would."


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One image to compare: its name here, where the engine has it, and what build.toml says of it."""

    name: str
    reference: str
    description: str = ""
    base: str | None = None
    budget: int | None = None
    expected: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """A comparison, and the inventories of its images by name, as far as there are any.

    ``owners``: by image name, as `Attribution.owners`. Both are loaded when they are first looked into.
    """

    comparison: Comparison
    inventories: Mapping[str, Inventory]
    owners: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Looking:
    """How images are looked into. ``compress``: how to work out a compressed size that nothing tells."""

    say: Callable[[str], None] = lambda _: None
    compress: Method | None = None


# --- what is compared


def of_profile(project: Project, plan: Plan) -> tuple[Wanted, ...]:
    """The images of *plan*'s profile, the baseline first."""
    expected = dict(plan.profile.expect)
    return tuple(
        Wanted(
            name=name,
            reference=naming.image_tag(project.config, name, plan.profile_name),
            description=table.description,
            base=plan.profile.contexts[table.base].image or f"{table.base} {STAND_IN}",
            budget=budget.allowed_bytes(plan.profile.budget, name),
            expected=expected,
        )
        for name, table in sorted(plan.images.items(), key=lambda each: each[0] != project.config.project.baseline)
    )


def of_references(project: Project, references: Sequence[str], plan: Callable[[], Plan]) -> tuple[Wanted, ...]:
    """Images that were named one by one, the first of them the baseline: names of build.toml, or any the engine has.

    *plan* is asked for only where a name of build.toml is among them. Raises ConfigError.
    """
    if len(references) < 2:  # noqa: PLR2004
        raise ConfigError(f"{references[0]} is one image only: name two or more to compare, the baseline first.")
    twice = next((each for each in references if references.count(each) > 1), None)
    if twice:
        raise ConfigError(f"{twice} is named twice: name two or more different images.")
    known = {}
    if any(each in project.config.images for each in references):
        known = {wanted.name: wanted for wanted in of_profile(project, plan())}
    return tuple(known.get(each) or Wanted(name=each, reference=each) for each in references)


# --- putting it together


def comparison(
    project: Project,
    running: Engine,
    wanted: Sequence[Wanted],
    *,
    plan: Plan | None = None,
    looking: Looking | None = None,
) -> Gathered:
    """Return the images side by side, the first one the baseline; *plan* where they are those of a profile.

    Without *looking* nothing is said of what is in them. Raises RecordError for an image that is not there, unless it
    is one that a plan would build.
    """
    records = list(project.ledger.readable())
    records = [record for record in records if plan is None or record.profile == plan.profile_name]
    images: list[ImageFigures] = []
    inventories: dict[str, Held[Inventory]] = {}
    pairs = _found(running, wanted, plan)
    for each, found in pairs:
        figures = _figures(each, found, records)
        if found is not None and looking is not None:
            figures, held = look_into(project, running, figures, found, looking)
            inventories |= {each.name: held} if held else {}
        images.append(_with_verification(project, figures))
    findings = None
    if plan is not None and looking is not None:
        findings = _findings(project, plan, running, pairs, looking)
    loaded = HeldContents(inventories)
    whole = complete(
        _outline(running, images, records, baseline=wanted[0].name, plan=plan, findings=findings),
        loaded,
        min_saving_percent=project.config.verdict.min_saving_percent,
        compare=lambda ordered, _: _differences(project.state_path, ordered, inventories),
    )
    return Gathered(comparison=whole, inventories=loaded, owners=HeldContents(_owners(project, inventories)))


def _found(running: Engine, wanted: Sequence[Wanted], plan: Plan | None) -> Sequence[tuple[Wanted, ImageFacts | None]]:
    """Return what the engine says of each image. Raises RecordError for one that no plan would build."""
    pairs = [(each, image_store.inspect_image(running, each.reference)) for each in wanted]
    missing = next((each for each, found in pairs if found is None), None)
    if missing is not None and plan is None:
        raise RecordError(
            f"{missing.reference}: the engine at {running.host} has no such image. `docker pull` gets one from a "
            "registry, `invoke build-all` builds those of build.toml."
        )
    return pairs


def _outline(
    running: Engine,
    images: Sequence[ImageFigures],
    records: Sequence[Record],
    *,
    baseline: str,
    plan: Plan | None,
    findings: tuple[Mapping[str, Any], ...] | None,
) -> Comparison:
    """Return the comparison of *images* without what follows from them."""
    facts = api.facts(running)
    return Comparison(
        generated=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        tool={"name": "jetpare", "version": __version__},
        profile=plan.profile_name if plan else None,
        description=plan.profile.description if plan else "",
        baseline=baseline,
        engine={"version": facts.version_text, "store": facts.store, "platform": facts.platform},
        host=_host(images, records),
        caveat=CAVEAT if any((image.base or "").endswith(STAND_IN) for image in images) else None,
        images=tuple(images),
        findings=findings,
        notes=(ON_THE_CPU,) if any(image.checks for image in images) and not any(map(_saw_a_gpu, images)) else (),
    )


def _differences(
    state: Path, images: Sequence[ImageFigures], inventories: Mapping[str, Held[Inventory]]
) -> ContentDifferences:
    """Return `differences` of the images, kept by all that it looks at."""
    return kept(
        state,
        "differences",
        list(inventories.values()),
        {"inventories": list(inventories), "images": [(image.name, image.components) for image in images]},
        lambda: differences(images, HeldContents(inventories)),
        ContentDifferences,
    )


def _owners(project: Project, inventories: Mapping[str, Held[Inventory]]) -> dict[str, Held[Mapping[str, str]]]:
    def load(held: Held[Inventory]) -> Mapping[str, str]:
        from jetpare.image import ask

        return ask.owned(held, project.config.groups, state=project.state_path).owners

    return {name: Held(None, partial(load, held)) for name, held in inventories.items()}


def _findings(
    project: Project,
    plan: Plan,
    running: Engine,
    pairs: Sequence[tuple[Wanted, ImageFacts | None]],
    looking: Looking,
) -> tuple[Mapping[str, Any], ...] | None:
    """Return what the audit finds in the images of *pairs*, those of *plan*; None where it could not be done."""
    names = [each.name for each, _ in pairs]
    known = {each.reference: found for each, found in pairs}
    try:
        found = audit.run(project, plan, running, images=names, known=known, say=looking.say)
    except (JetpareError, OSError) as error:
        looking.say(f"The images were not audited: {error}")
        return None
    return tuple(found.as_dict()["findings"])


def _saw_a_gpu(image: ImageFigures) -> bool:
    return any(row.component == "gpu" and row.measured for row in image.versions)


def _with_verification(project: Project, figures: ImageFigures) -> ImageFigures:
    """*figures* with what `invoke verify` showed of this image: what could not be measured while it was built.

    Its own outcome stands beside the checks, once it was run.
    """
    found = verify.load(project.state_path, figures.id) if figures.id else None
    if found is None:
        return figures
    found = verify.accept(found, project.config.verify.accept)
    rows = {row.name: row for row in found.rows}
    checks = [
        replace(each, status=rows[each.name].status, detail=rows[each.name].detail)
        if each.status == NOT_MEASURED and each.name in rows
        else each
        for each in figures.checks
    ]
    failed = [row.name for row in found.rows if row.status == verify.FAILED]
    said = f"failed: {', '.join(failed)}" if failed else f"{found.count(verify.OK)} ok"
    where = found.versions.get("gpu") or "the CPU only"
    seconds = sum(row.seconds for row in found.rows)
    checks.append(
        ImageCheck(name="verify", status="failed" if failed else "ok", detail=f"{said}, on {where}", seconds=seconds)
    )
    versions = tuple(
        row if row.measured is not None else replace(row, measured=found.versions.get(row.component))
        for row in figures.versions
    )
    return replace(figures, checks=tuple(checks), versions=versions)


def look_into(
    project: Project, running: Engine, figures: ImageFigures, facts: ImageFacts, looking: Looking
) -> tuple[ImageFigures, Held[Inventory] | None]:
    """Return *figures* with all that takes a look into the image, and its inventory.

    Anything that fails becomes a note; the rest is still returned.
    """
    figures = _with_pull_size(project, running, figures, facts, looking)
    state = project.state_path
    try:
        inventory = inventory_reader.hold(running, facts.id, state=state, say=looking.say)
        listing = _listing(project, running, facts, looking)
        found = kept(
            state,
            "contents",
            [inventory, listing],
            {"groups": project.config.groups},
            lambda: _contents(project, inventory, listing),
            ImageContents,
        )
    except (JetpareError, OSError) as error:
        said = (*figures.notes, f"what is in it was not measured: {error}")
        return replace(figures, sizes={**figures.sizes, **_merged(running, figures)}, notes=said), None
    return with_contents(figures, found), inventory


def _contents(project: Project, inventory: Held[Inventory], listing: Held[Listing]) -> ImageContents:
    from jetpare.image import ask  # which a comparison of images that are known does not need

    owned = ask.owned(inventory, project.config.groups, state=project.state_path)
    return contents(inventory.content, listing.content, owned)


def _listing(project: Project, running: Engine, facts: ImageFacts, looking: Looking) -> Held[Listing]:
    """Return what each layer holds; without layers, and with the reason, where that fails."""
    try:
        return layer_reader.hold(running, facts.id, state=project.state_path, say=looking.say)
    except (JetpareError, OSError) as error:
        return layer_reader.unlisted(facts.id, str(error))


def _merged(running: Engine, figures: ImageFigures) -> Mapping[str, int | None]:
    """The merged size by a simpler way; nothing where that fails too."""
    known = figures.sizes.get("merged")
    with suppress(JetpareError):
        return {"merged": containers.merged_bytes(running, str(figures.id)) if known is None else known}
    return {"merged": None}


def _with_pull_size(
    project: Project, running: Engine, figures: ImageFigures, facts: ImageFacts, looking: Looking
) -> ImageFigures:
    def tell(done: int, total: int | None) -> None:
        of = f" of about {size_text(total)}" if total else ""
        looking.say(f"{figures.name}: {size_text(done)}{of} compressed")

    try:
        found = pull_size(running, facts, state=project.state_path, compute=looking.compress, tell=tell)
    except (JetpareError, OSError) as error:
        found = PullSize(bytes=None, how=str(error))
    return replace(figures, sizes={**figures.sizes, "pull": found.bytes}, pull_how=found.how)


def _host(images: Sequence[ImageFigures], records: Sequence[Record]) -> Mapping[str, Any] | None:
    """Where the first image of which a record tells was built."""
    ids = [image.id for image in images if image.id]
    built = next((run for one in ids if (run := _built_by(one, records))), None)
    keys = ("model", "machine", "cores", "memory_bytes", "kernel", "power_mode")
    return {key: built.host.get(key) for key in keys} if built else None


def _figures(wanted: Wanted, facts: ImageFacts | None, records: list[Record]) -> ImageFigures:
    """What engine and records tell of one image."""
    named = ImageFigures(
        name=wanted.name,
        reference=wanted.reference,
        status=NOT_BUILT,
        description=wanted.description,
        base=wanted.base,
        budget=wanted.budget,
    )
    if facts is None:
        return replace(named, notes=tuple(_failures(wanted.name, records, since=None)))
    built = _built_by(facts.id, records)
    row = next((image for image in built.images if image.id == facts.id), None) if built else None
    return replace(
        named,
        status=BUILT,
        id=facts.id,
        created=facts.created,
        profile=facts.labels.get("jetpare.profile"),
        platform=facts.platform,
        base=facts.labels.get("org.opencontainers.image.base.name") or wanted.base,
        base_digest=row.base_digest if row else facts.labels.get("org.opencontainers.image.base.digest"),
        revision=facts.labels.get("org.opencontainers.image.revision"),
        layers=_layers(facts),
        layers_left=MAX_LAYERS - facts.layer_count,
        sizes={"layers": facts.layers_bytes, "merged": row.merged_bytes if row else None},
        versions=version_rows(row.versions if row else {}, wanted.expected or (row.expected if row else {})),
        checks=tuple(map(check, row.checks)) if row else (),
        stages=_stages(row, built, records) if row and built else (),
        notes=tuple(_notes(wanted, facts, built, records)),
    )


def _layers(facts: ImageFacts) -> tuple[LayerFigures, ...]:
    sizes = [layer.size for layer in facts.layers] if facts.layers is not None else [None] * facts.layer_count
    return tuple(
        LayerFigures(index=number, diff_id=one, size=size)
        for number, (one, size) in enumerate(zip(facts.layer_ids, sizes, strict=True), start=1)
    )


def _notes(wanted: Wanted, facts: ImageFacts, built: Record | None, records: list[Record]) -> Iterator[str]:
    yield from _failures(wanted.name, records, since=built)
    if not facts.layers_exact:
        yield f"the {facts.store} store counts uncompressed layers in disk blocks, some percent above their bytes"
    if built is None:
        yield "no run record of this project tells how it was built, so its times are not measured"


def _built_by(image_id: str, records: Sequence[Record]) -> Record | None:
    """The oldest run that made this very image: later ones only found it in the cache."""
    return next((run for run in reversed(records) if any(image.id == image_id for image in run.images)), None)


def _stages(row: ImageRecord, built: Record, records: Sequence[Record]) -> tuple[StageTime, ...]:
    """The stages that are in the image, each from the run that made it; without a time where that is not known.

    That is the newest run, up to the one that made the image, with the same inputs, that did not find it in the cache.
    """
    return tuple(
        _made(known, [run for run in records if order(run.id) <= order(built.id) and run.profile == built.profile])
        for known in built.stages
        if known.label.startswith(f"{row.name}/")
    )


def _made(known: StageRecord, runs: Sequence[Record]) -> StageTime:
    for run in runs:  # newest first
        stage = run.stage(known.label)
        if stage and stage.status == ledger.OK and stage.cache != "cached" and stage.inputs == known.inputs:
            return StageTime(
                label=stage.label,
                seconds=stage.seconds,
                cache=stage.cache,
                power_mode=run.host.get("power_mode"),
                overlaps=stage.overlaps,
                marks=stage.marks,
                run=run.id,
            )
    return StageTime(label=known.label)


def _failures(name: str, records: Sequence[Record], *, since: Record | None) -> Iterator[str]:
    """Whether the newest run that was to build this image ended otherwise than well."""
    for run in records:
        if since is not None and run.id == since.id:
            return
        if any(stage.label.startswith(f"{name}/") for stage in run.stages):
            if run.status != ledger.SUCCEEDED and not any(image.name == name and image.id for image in run.images):
                age = "; what is shown is from an earlier one" if since else ""
                yield f"run {run.id} {run.status} before it was finished{age}"
            return

"""Check a finished image, give it its tag, and measure it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from jetpare.base import probe_report
from jetpare.base.errors import BuildError, CheckError, EngineError, JetpareError
from jetpare.build import ownership
from jetpare.build.call import BakeCall
from jetpare.build.guards import check_faults, version_faults
from jetpare.build.run import BuildRun
from jetpare.config.values import IMAGE_REFERENCE
from jetpare.engine import containers, image_store
from jetpare.engine.model import Engine
from jetpare.events.steps import Timeline
from jetpare.project import naming
from jetpare.project.plan import Node
from jetpare.records import ledger
from jetpare.records.ledger import ImageRecord

SIZES = ("layers", "layers_bytes", "merged_bytes")


def finish_image(run: BuildRun, node: Node, call: BakeCall) -> None:
    """Check the image that *call* built for *node*, record it, and tag and measure it if it passes.

    Raises CheckError where it does not pass, BuildError where buildx did not say which image it built.
    """
    image, wrong = _checked(run, node, _image_id(run, node, call), call.timeline)
    others = run.journal.record.images
    if wrong:
        run.journal.has_failed = True
        run.journal.put(images=(*others, image))
        raise CheckError(_check_message(run, image, wrong))
    before = replace_tag(run.engine, str(image.id), image.reference, state=run.project.state_path)
    if before:
        run.progress.note(f"No record here knows the image that was {image.reference} until now; it stays as {before}.")
    run.journal.put(images=(*others, image))  # before it is measured, which may fail: the image is good all the same
    try:
        sizes = _measure(run, str(image.id))
    except (JetpareError, OSError) as error:
        run.progress.note(f"The sizes of {image.reference} were not measured: {error}")
        return
    run.journal.put(images=(*others, image.model_copy(update=sizes)))


def _image_id(run: BuildRun, node: Node, call: BakeCall) -> str:
    """Return the id of the image that *call* exported for *node*. Raises BuildError where buildx did not say it."""
    said = call.metadata.get(node.target)
    found = said if isinstance(said, dict) else {}
    image_id = next((str(found[key]) for key in ownership.ID_KEYS if found.get(key)), "")
    if not image_id:
        raise BuildError(
            f"{node.label} was built but not tagged, because buildx did not say which image came out (it writes that "
            f"to {(run.journal.folder / 'events').relative_to(run.project.root)}). Build it again; what did not "
            "change comes from the cache."
        )
    return image_id


def _checked(run: BuildRun, node: Node, image_id: str, timeline: Timeline) -> tuple[ImageRecord, list[str]]:
    """Return the record of the image, with what its own checks say, and a line for each thing that is wrong."""
    report = probe_report.load(run.journal.folder / "reports" / node.target / "checks.json")
    versions, checks = (report.versions, report.checks) if report else ({}, ())
    expected = dict(run.plan.profile.expect)
    wrong = version_faults(versions, expected) + check_faults(checks)
    base = run.plan.images[node.group].base
    image = ImageRecord(
        name=node.group,
        reference=naming.image_tag(run.project.config, node.group, run.plan.profile_name),
        id=image_id,
        status=ledger.FAILED if wrong else ledger.OK,
        reason="; ".join(wrong),
        base=run.plan.profile.contexts[base].image or f"{base} (stand-in)",
        base_digest=_base_digest(run, base, timeline),
        versions=versions,
        expected=expected,
        checks=tuple(map(asdict, checks)),
    )
    return image, wrong


def _check_message(run: BuildRun, image: ImageRecord, wrong: Sequence[str]) -> str:
    table = run.project.config.table_of(run.plan.profile_name)
    return (
        f"{image.name} was built but not tagged, because it does not pass its checks:\n"
        + "".join(f"  {fault}\n" for fault in wrong)
        + f"Correct what is installed, or [{table}.expect] in build.toml. To look into it: "
        f"docker run --rm -it {image.id}; `invoke clean` removes it."
    )


def _base_digest(run: BuildRun, base: str, timeline: Timeline) -> str | None:
    """Return the digest of the base: the one in build.toml, else what BuildKit resolved, else the stand-in's id."""
    context = run.plan.profile.contexts[base]
    if context.digest:
        return context.digest
    if context.image:
        return resolved_digest(context.image, (step.name for step in timeline.steps))
    facts = image_store.inspect_image(run.engine, naming.input_tag(run.project.config, run.plan, base))
    return facts.id if facts else None


def _measure(run: BuildRun, image_id: str) -> dict[str, int | None]:
    """Return the image's layers and sizes; those of an earlier run where that made the very same image."""
    for record in run.project.ledger.readable():
        for image in record.images:
            if image.id == image_id and image.merged_bytes is not None:
                return {name: getattr(image, name) for name in SIZES}
    facts = image_store.inspect_image(run.engine, image_id)
    if facts is None:
        return {}
    merged = containers.merged_bytes(run.engine, image_id)
    return dict(zip(SIZES, (facts.layer_count, facts.layers_bytes, merged), strict=True))


def replace_tag(running: Engine, image_id: str, reference: str, *, state: Path) -> str:
    """Give the image the name *reference*, and remove the image that had it before if a run in *state* made that.

    It stays where something else holds it. Returns the id of an image that stays because no run in *state* made it, so
    most likely one of another checkout of this project, which a private engine cannot have; '' where there is none.
    """
    before = image_store.inspect_image(running, reference)
    image_store.tag_image(running, image_id, reference)
    if before is None or before.id == image_id:
        return ""
    if not running.private and before.id not in ownership.made_ids(state):
        return before.id
    with suppress(EngineError):  # a container uses it, or it has another name: it stays
        image_store.remove_image(running, before.id)
    return ""


def resolved_digest(image: str, steps: Iterable[str]) -> str | None:
    """Return the digest to which BuildKit resolved the reference *image*, from the names of its *steps*.

    Those read '[stage 1/2] FROM docker.io/library/debian:12@sha256:…' or '[context base] docker-image://…@sha256:…'.
    """
    wanted = _full_name(image)
    for step in steps:
        for word in step.split():
            reference, _, digest = word.removeprefix("docker-image://").partition("@")
            known = re.fullmatch(r"sha256:[0-9a-f]{64}", digest) and IMAGE_REFERENCE.fullmatch(reference)
            if known and _full_name(reference) == wanted:
                return digest
    return None


def _full_name(reference: str) -> tuple[str, str, str]:
    """Return registry, path and tag of an image reference, with what it leaves out filled in."""
    from docker.auth import resolve_repository_name
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(reference)
    registry, path = resolve_repository_name(repository)
    return registry, path if "/" in path or registry != "docker.io" else f"library/{path}", tag or "latest"

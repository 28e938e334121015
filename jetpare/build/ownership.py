"""Which images in an engine belong to this checkout, and which a plan is about.

Several checkouts of one project share its name, and so the tags of its images. What one of them made is known by id:
each run keeps the ids in its record, and in the metadata that bake gave it. Only those are removed with their content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from jetpare.base.files import json_object
from jetpare.project import naming
from jetpare.project.plan import NodeKind, Plan
from jetpare.project.project import Project
from jetpare.records.ledger import Ledger

ID_KEYS = ("containerimage.digest", "containerimage.config.digest")  # which one is the id depends on the image store


def made_ids(state: Path) -> frozenset[str]:
    """Return the ids of all images that the runs recorded in *state* made, those that failed their checks included."""
    return frozenset(_made_ids(Ledger(state)))


def _made_ids(kept: Ledger) -> Iterator[str]:
    for record, folder in kept.records():
        yield from (image.id for image in record.images if image.id) if record else ()
        for file in folder.glob("events/*-metadata.json"):
            yield from _ids_of(file)


def _ids_of(file: Path) -> Iterator[str]:
    """Yield the ids in one metadata file: an object for each target."""
    for target in json_object(file).values():
        if isinstance(target, dict):
            yield from (target[key] for key in ID_KEYS if isinstance(target.get(key), str))


def metadata(target: str, image_id: str) -> Mapping[str, Mapping[str, str]]:
    """Return what a metadata file holds of an image that was made without bake."""
    return {target: {ID_KEYS[0]: image_id}}


def references(project: Project, plan: Plan) -> tuple[str, ...]:
    """Return the name of every image that building *plan* reads or makes: its bases, its inputs, its results."""
    contexts = plan.profile.contexts
    read = {name for node in plan.nodes if node.baked for name in plan.contexts_of(node)}
    bases = [str(contexts[name].image) for name in contexts if name in read and contexts[name].image]
    inputs = [
        naming.input_tag(project.config, plan, node.name)
        for node in plan.nodes
        if node.kind in {NodeKind.INPUT, NodeKind.BOOTSTRAP}
    ]
    images = [
        naming.image_tag(project.config, node.group, plan.profile_name)
        for node in plan.nodes
        if node.kind is NodeKind.IMAGE
    ]
    return tuple(dict.fromkeys([*bases, *inputs, *images]))

"""Decide what is built in which call of bake."""

from __future__ import annotations

from collections.abc import Container, Sequence

from jetpare.build.bake import starts_from_settings
from jetpare.build.run import BuildRun
from jetpare.config.values import INPUTS
from jetpare.engine import image_store
from jetpare.project import naming
from jetpare.project.plan import Node, NodeKind, Plan


def batches(run: BuildRun, unchanged: Container[str]) -> list[list[Node]]:
    """Return the nodes that BuildKit makes, as one list for each call of bake.

    Each node has a call of its own, so that its time is its own; with --parallel, all are in one call. Nodes whose
    labels are in *unchanged*, of images that the engine still holds, should come from the cache: they share the first
    call, since a call costs half a second.
    """
    nodes = [node for node in run.plan.nodes if node.baked]
    if run.request.parallel:
        return bases_first(run.plan, nodes)
    again = run.request.again or run.request.cold
    held = set() if again else {name for name in run.plan.images if _holds(run, name)}
    groups = {*held, INPUTS} if held else held
    together: list[Node] = []
    for node in nodes:  # in the plan's order: each comes after what it needs
        needs = [need for need in nodes if need.label in node.needs]
        if node.group in groups and node.label in unchanged and set(needs) <= set(together):
            together.append(node)
    return [*bases_first(run.plan, together), *([node] for node in nodes if node not in together)]


def bases_first(plan: Plan, batch: Sequence[Node]) -> list[list[Node]]:
    """Return *batch* as one call; as two where one of its images needs the settings of a base that the batch makes."""
    if any(starts_from_settings(plan, node) for node in batch):
        inputs = [node for node in batch if node.kind is NodeKind.INPUT]
        return [part for part in (inputs, [node for node in batch if node not in inputs]) if part]
    return [list(batch)] if batch else []


def _holds(run: BuildRun, image: str) -> bool:
    """Return whether the engine has the very image that the last run that made it recorded."""
    plan, project = run.plan, run.project
    facts = image_store.inspect_image(run.engine, naming.image_tag(project.config, image, plan.profile_name))
    records = (record for record in project.ledger.readable() if record.profile == plan.profile_name)
    made = next((row for record in records for row in record.images if row.name == image), None)
    return facts is not None and made is not None and made.id == facts.id

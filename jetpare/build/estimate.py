"""Say which cache each stage is expected to meet, and how long it usually takes then."""

from __future__ import annotations

from collections.abc import Container, Iterable

from jetpare.build import bake, inputs
from jetpare.build.request import options
from jetpare.build.run import BuildRun
from jetpare.events.progress import Usual
from jetpare.project.plan import Node
from jetpare.records import history, ledger
from jetpare.records.ledger import StageRecord


def usual_times(run: BuildRun, unchanged: Container[str]) -> Usual:
    """Return how long each node took in the runs that compare with this one. *unchanged*: see `expected_caches`."""
    project, plan, request, record = run.project, run.plan, run.request, run.journal.record
    chosen = options(project, plan, request, run=record.id, revision=record.revision)
    content = bake.definition(project.config, plan, chosen)
    caches = expected_caches(plan.nodes, cold=request.cold, again=request.again, unchanged=unchanged)
    past = history.groups(project.ledger.readable())
    seconds = {}
    for node in plan.nodes:
        row = StageRecord(
            label=node.label,
            status=ledger.WAITING,
            cache=caches[node.label],
            inputs=inputs.inputs_digest(project.root, content, node) if node.baked else None,
            overlaps=request.parallel and node.baked,
        )
        seconds[node.label] = history.estimate(past, history.key_of(record, row))
    known = {label: each for label, each in seconds.items() if each is not None}
    return Usual(seconds=known, in_turn=not request.parallel)


def expected_caches(
    nodes: Iterable[Node], *, cold: bool, again: Container[str], unchanged: Container[str]
) -> dict[str, str | None]:
    """Return what each of *nodes* should find: cold, warm or cached; None where only BuildKit knows.

    *nodes* are in the order of the plan. *cold* and *again* (labels) were asked for; *unchanged* are the labels whose
    inputs are those of their last build.
    """
    found: dict[str, str | None] = {}
    for node in nodes:
        if cold and node.baked:
            found[node.label] = "cold"
        elif node.label in again:
            found[node.label] = "warm"
        else:
            same = node.label in unchanged and all(found[need] == "cached" for need in node.needs)
            found[node.label] = "cached" if same else None
    return found

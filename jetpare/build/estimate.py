"""Say which cache each stage is expected to meet."""

from __future__ import annotations

from collections.abc import Container, Iterable

from jetpare.project.plan import Node


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

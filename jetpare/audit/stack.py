"""Layers: those that hold nothing, those that undo others, and how many and how large they are (A4, A6, A23)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from jetpare.audit.subject import Evidence, Finding, NotMeasured, Subject
from jetpare.base.units import size_text
from jetpare.image.inventory import LayerInfo

WARN_LAYERS = 100
MOST_LAYERS = 127  # Docker's limit for one chain
COPIES = re.compile(r"^(COPY|ADD)\b")
# Commands of RUN that are there to bring files; a RUN that only removes or configures may well be empty.
BRINGS = re.compile(r"(^RUN|[;&|(])\s*(cp|mv|install|tar|unzip|curl|wget|pip3?|uv|apt-get|apt|dpkg|make|cmake|ninja)\s")


def empty(image: Subject) -> Iterator[Finding]:
    """A4: every required pattern of [collect] matches here, and no layer that should hold files is empty."""
    for pattern in image.collect:
        if not image.tree.glob(pattern) and not image.was_pruned(f"/{pattern}"):
            yield image.finding(
                "A4",
                "error",
                f"no file matches the required pattern {pattern}",
                subject=pattern,
                evidence=[Evidence(path=f"/{pattern}", detail="matches nothing")],
                advice="Collect it again, or correct [collect] required in build.toml.",
            )
    for number, layer in enumerate(image.inventory.layers, start=1):
        words = instruction(layer)
        if layer.size == 0 and (COPIES.match(words) or (words.startswith("RUN") and BRINGS.search(words))):
            yield image.finding(
                "A4",
                "error" if COPIES.match(words) else "warning",
                f"layer {number} holds nothing",
                subject=words,
                evidence=[Evidence(path=f"layer {number}", detail=words)],
                advice="The pattern matched nothing, or the command does nothing any more: correct or remove it.",
            )


def overwritten(image: Subject) -> Iterator[Finding]:
    """A6: bytes that a later layer overwrote or deleted: every pull brings them, no container sees them."""
    if image.layers_bytes is None:
        raise NotMeasured("this store does not count layers in bytes of files")
    hidden = image.layers_bytes - image.inventory.bytes
    if hidden >= max(image.least, image.layers_bytes // 100):
        yield image.finding(
            "A6",
            "warning",
            f"{size_text(hidden)} are in layers and overwritten or deleted later",
            subject="layers",
            evidence=[
                Evidence(
                    path="/",
                    detail=f"layers {size_text(image.layers_bytes)}, what a container sees "
                    f"{size_text(image.inventory.bytes)}",
                )
            ],
            size=hidden,
            advice="Delete or replace files in the RUN that made them, or before they are copied.",
        )


def budget(image: Subject) -> Iterator[Finding]:
    """A23: the image keeps its size budget and stays away from the limit of layers."""
    count = len(image.inventory.layers)
    if count > WARN_LAYERS:
        yield image.finding(
            "A23",
            "error" if count >= MOST_LAYERS else "warning",
            f"{count} layers; the engine stops at {MOST_LAYERS}",
            subject="layers",
            evidence=[Evidence(path="/", detail=f"{count} layers")],
            advice="Join instructions, or copy the tree of a stage whole.",
        )
    if image.budget is None:
        return
    if image.layers_bytes is None:
        raise NotMeasured("this store does not count layers in bytes of files")
    if image.layers_bytes > image.budget:
        over = image.layers_bytes - image.budget
        yield image.finding(
            "A23",
            "error",
            f"{size_text(image.layers_bytes)} of layers, {size_text(over)} over the budget",
            subject="budget",
            evidence=[Evidence(path="/", detail=f"the budget allows {size_text(image.budget)}")],
            size=over,
            advice="`invoke audit --prune-plan` shows what could go; else raise the budget of this profile.",
        )


def instruction(layer: LayerInfo) -> str:
    """A layer's Dockerfile instruction in one line, without the marks that builders add."""
    words = " ".join((layer.instruction or "").replace("# buildkit", "").split())
    _, marker, rest = words.partition("#(nop) ")
    return rest.strip() if marker else re.sub(r"^(RUN )?(\|\d+ .*? )?/bin/sh -c ", "RUN ", words)

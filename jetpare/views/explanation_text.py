"""Show why something is in an image, for a terminal of 80 columns, with the answer first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jetpare.base.text import plain, some
from jetpare.base.units import size_text
from jetpare.base.versions import NOT_MEASURED
from jetpare.events.step_names import brief
from jetpare.image.explain import Brought, Explained, Needed

MOST = 12  # rows of one kind
PATHS = 3
LEAST_PERCENT = 0.05


def explanation(image: str, subjects: Iterable[Explained], *, image_bytes: int) -> RenderableType:
    """Return a table for each of *subjects*, the things in *image* that a word names."""
    parts: list[RenderableType] = []
    for subject in subjects:
        parts += [Text(), Text.assemble((plain(subject.name), "bold"), f" in {image}"), _rows(subject, image_bytes)]
    return Group(*parts[1:])


def _rows(subject: Explained, image_bytes: int) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    title = ""
    for name, line in _lines(subject, image_bytes):
        table.add_row("" if name == title else name, Text(plain(line)))
        title = name
    return table


def _lines(subject: Explained, image_bytes: int) -> Iterator[tuple[str, str]]:
    yield "what", f"{subject.title}{f', version {subject.version}' if subject.version else ''}"
    for note in subject.notes:
        yield "what", note
    if subject.components and subject.components != (subject.name,):
        yield "part of", f"{some(subject.components, PATHS)}; group {some(subject.groups, PATHS)}"
    elif subject.groups:
        yield "group", some(subject.groups, PATHS)
    percent = 100 * subject.bytes / image_bytes if image_bytes else 0.0
    share = f", {percent:.1f} % of the image" if percent >= LEAST_PERCENT else ""
    files = f" in {_files(subject.files)}" if subject.files != 1 else ""
    yield "takes", f"{size_text(subject.bytes)}{files}{share}"
    for reason in subject.reasons:
        yield "here because", reason
    yield from _chain(subject)
    for need in subject.needs[:MOST]:
        yield "needed by", _need(need)
    if len(subject.needs) > MOST:
        yield "needed by", f"… and {len(subject.needs) - MOST} more"
    if not subject.needs:
        yield "needed by", "nothing in the image"
    yield from _layers(subject)


def _chain(subject: Explained) -> Iterator[tuple[str, str]]:
    if not subject.chain:
        return
    yield "here because", f"{subject.chain[0].component} was asked for: {subject.chain_reason}"
    below = [*(step.component for step in subject.chain[1:]), subject.name]
    for step, target in zip(subject.chain, below, strict=True):
        yield "here because", f"{step.component} {step.how} {target} ({step.name})"


def _need(need: Needed) -> str:
    text = f"{need.component} {need.how} {some(need.names, PATHS)}"
    if not need.count:
        return text
    more = need.count - len(need.examples)
    return f"{text}: {', '.join(need.examples)}" + (f" and {more} more file{'s' if more > 1 else ''}" if more else "")


def _layers(subject: Explained) -> Iterator[tuple[str, str]]:
    if subject.layers is None:
        yield "layers", f"{NOT_MEASURED}: {subject.layers_reason}"
        return
    for layer in subject.layers:
        yield "layers", f"{layer.layer}: {_brought(layer)}, by {_instruction(layer)}"
    if not subject.layers:
        yield "layers", "no layer has a file of it"


def _brought(layer: Brought) -> str:
    said = []
    if layer.files:
        said.append(f"brings {size_text(layer.bytes)} in {_files(layer.files)}")
    if layer.hidden_files:
        said.append(f"{size_text(layer.hidden_bytes)} that a later layer overwrites or deletes")
    if layer.deletes:
        said.append("deletes it")
    return " and ".join(said)


def _instruction(layer: Brought) -> str:
    """Return the instruction that made a layer, without the build arguments that precede a command."""
    text = re.sub(r"^RUN \|\d+ .*?/bin/sh -c ", "RUN ", layer.instruction or "", flags=re.DOTALL)
    return brief(text) or "an unknown instruction"


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"

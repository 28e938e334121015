"""Read the names that BuildKit gives its steps."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from jetpare.events.decode import clean

# --- names


class StepKind(Enum):
    """The kind of work of a vertex, as far as its name shows."""

    STAGE = "stage"  # an instruction of a stage
    PULL = "pull"  # finding and fetching an image or a remote source
    CONTEXT = "context"  # sending local files to the engine
    EXPORT = "export"  # writing the result
    INTERNAL = "internal"  # all else


# Of the name without its target. The first match decides; the order matters.
_KINDS = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"\[(?:.* )?\d+/\d+\] FROM ", StepKind.PULL),
        (r"\[(?:.* )?\d+/\d+\] ", StepKind.STAGE),
        (r"\[context [^]]*\] load from client", StepKind.CONTEXT),
        (r"\[context [^]]*\] ", StepKind.PULL),
        (r"\[internal\] load build context", StepKind.CONTEXT),
        (r"\[internal\] load metadata for ", StepKind.PULL),
        (r"\[auth\] ", StepKind.PULL),
        (r"resolve image config for |docker-image://|oci-layout://|https?://|git://", StepKind.PULL),
        (r"exporting |sending tarball|importing to docker|pushing ", StepKind.EXPORT),
    )
)
_HEAD = re.compile(r"\[([^]]*)\] ?(.*)", re.DOTALL)
_COUNT = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True, kw_only=True)
class Place:
    """The place of a vertex: the bake target that reports it, its stage, and its number there.

    ``target`` is None in a call with one target, where names have no prefix. ``total`` is BuildKit's count, which also
    counts a FROM that is a named context and so never appears: the last step may be 4/5.
    """

    target: str | None
    stage: str | None
    number: int | None
    total: int | None
    kind: StepKind
    name: str  # without the target: '[gdal 3/5] RUN make'


def parse_name(name: str) -> Place:
    """Parse a vertex's name: '[gdal 3/5] RUN …', '[cuda-gdal gdal 3/5] RUN …', '[cuda-gdal internal] load …'."""
    name = clean(name)
    found = _HEAD.fullmatch(name)
    if found is None:
        return Place(target=None, stage=None, number=None, total=None, kind=_kind(name), name=name)
    words, rest = found[1].split(), found[2]
    count = _COUNT.fullmatch(words[-1]) if words else None
    stage: str | None = None
    if count:
        own = [word for word in words[:-1] if "/" not in word]  # without a platform such as linux/arm64
        stage = own[-1] if own else None
        target = own[0] if len(own) > 1 else None
        if target is not None:
            words.remove(target)  # the first such word: a stage may have its target's name
    else:
        marks = [index for index, word in enumerate(words) if word in ("internal", "context", "auth")]
        start = marks[0] if marks else len(words)
        target = words[0] if start > 0 and words else None
        words = words[start:]
    bare = f"[{' '.join(words)}] {rest}" if words else rest
    number, total = (int(count[1]), int(count[2])) if count else (None, None)
    return Place(target=target, stage=stage, number=number, total=total, kind=_kind(bare), name=bare)


def _kind(bare: str) -> StepKind:
    return next((kind for pattern, kind in _KINDS if pattern.match(bare)), StepKind.INTERNAL)


NAME_WIDTH = 100  # characters of a step's name in a plain line


_FLAG = re.compile(r" --(?:mount|network|security|link|chmod|chown)\b\S*")


def brief(name: str) -> str:
    """Return the name of a step without its mounts, on one line, cropped: '[gdal 3/5] RUN compile-gdal.sh'."""
    bare = " ".join(_FLAG.sub("", name).split())
    return bare if len(bare) <= NAME_WIDTH else bare[: NAME_WIDTH - 1] + "…"

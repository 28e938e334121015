"""Libraries that are needed and not found, as the image's loader searches (A1, A2, A3)."""

from __future__ import annotations

import fnmatch
import posixpath
from collections import defaultdict
from collections.abc import Iterator

from jetpare.audit.subject import Evidence, Finding, Subject
from jetpare.base.text import some
from jetpare.image.linkage import Edge


def linked(image: Subject) -> Iterator[Finding]:
    """A1: every library that a program, or a library which others link, needs."""
    yield from _edges(image, "A1", lazy=False)


def lazily_loaded(image: Subject) -> Iterator[Finding]:
    """A2: the same for libraries that nothing links: providers and plugins, which fail in silence when first used."""
    yield from _edges(image, "A2", lazy=True)


def _edges(image: Subject, check: str, *, lazy: bool) -> Iterator[Finding]:
    missing: dict[str, list[Edge]] = defaultdict(list)
    unmet: dict[str, list[Edge]] = defaultdict(list)
    for edge in image.linkage.edges:
        if is_lazy(image, edge.user) is lazy:
            if edge.status in {"missing", "broken"}:
                missing[edge.name].append(edge)
            if edge.unmet and edge.path:
                unmet[edge.path].append(edge)
    for name, edges in missing.items():
        elsewhere = f" It stands in {some(edges[0].elsewhere)}, where no search goes." if edges[0].elsewhere else ""
        yield image.finding(
            check,
            "error",
            f"{name} is {'not found' if edges[0].status == 'missing' else 'no library that can be loaded'}",
            subject=name,
            evidence=[Evidence(path=edge.user, detail="needs it") for edge in edges],
            searched=edges[0].searched,
            advice=f"Bring it ([collect] or [runtime] packages), or name it in [audit] host_libraries.{elsewhere}",
        )
    for path, edges in unmet.items():
        versions = sorted({version for edge in edges for version in edge.unmet})
        yield image.finding(
            check,
            "error",
            f"{posixpath.basename(path)} has no {some(versions)}",
            subject=f"{path} {versions[-1]}",
            evidence=[Evidence(path=edge.user, detail=f"needs {some(edge.unmet)} of {path}") for edge in edges],
            advice="It was built on a newer system than this one: build it here, or bring the newer library.",
        )


def is_lazy(image: Subject, path: str) -> bool:
    """Whether a file is a library that nothing links and no import loads: opened by name, if at all."""
    elf = image.inventory.elf_by_path[path]
    module = ".cpython-" in path or path.endswith(".abi3.so")
    return elf.interpreter is None and elf.type == "dyn" and not module and path not in image.linked


def opened(image: Subject) -> Iterator[Finding]:
    """A3: names of libraries in read-only strings.

    An error is one of the library's own family, a warning one that the baseline has; most others are optional.
    """
    missing: dict[str, list[str]] = defaultdict(list)
    for each in image.linkage.dlopens:
        if each.status == "missing":
            missing[each.name].append(each.user)
    optional: dict[str, list[str]] = defaultdict(list)
    for name, users in missing.items():
        family = any(same_family(user, name) for user in users)
        if family or posixpath.basename(name) in image.baseline_libraries:
            yield image.finding(
                "A3",
                "error" if family else "warning",
                f"{name} is opened by name and is not there"
                + ("" if family else f", as it is in {image.baseline_name}"),
                subject=name,
                evidence=[Evidence(path=user, detail="names it") for user in users],
                advice="Bring it together with the library that opens it.",
            )
        else:
            for user in users:
                optional[user].append(name)
    if optional:
        yield image.finding(
            "A3",
            "note",
            f"{len(optional)} {'file names' if len(optional) == 1 else 'files name'} libraries that are not there",
            subject="dlopen",
            evidence=[Evidence(path=user, detail=some(names, 4)) for user, names in optional.items()],
            advice="Many such libraries are optional; bring one where its function is used.",
        )


def same_family(user: str, name: str) -> bool:
    """Whether a library and one that it names were made together: libnvrtc.so.12 and libnvrtc-builtins.so.12.6.

    Only a name with a version counts: without one (libcufile_ck.so) it is for whoever adds it.
    """
    stem = posixpath.basename(user).split(".so")[0]
    return fnmatch.fnmatchcase(posixpath.basename(name), f"{stem}[-_]*.so.*")

"""Content that is there more than once: the same bytes, the same library, the same Python package (A5, A12)."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator

from packaging.utils import canonicalize_name

from jetpare.audit.subject import Evidence, Finding, Severity, Subject
from jetpare.base.text import some
from jetpare.base.units import size_text
from jetpare.image.inventory import Distribution, Elf
from jetpare.image.waste import duplicates

CPU = re.compile(r"^cuda\b.*= None$", re.MULTILINE)  # in torch/version.py


def copies(image: Subject) -> Iterator[Finding]:
    """A5: the same content under several names that are no links; sonames without their link."""
    for same in duplicates(image.inventory.files):
        if same.bytes < image.least:
            continue
        folders = {posixpath.dirname(path) for path in same.paths}
        chain = len(folders) == 1 and all(".so" in posixpath.basename(path) for path in same.paths)
        yield image.finding(
            "A5",
            "warning" if chain else "note",
            f"{len(same.paths)} copies of {posixpath.basename(same.paths[0])}",
            subject=same.paths[0],
            evidence=[Evidence(path=path, detail=size_text(same.size)) for path in same.paths],
            size=same.bytes,
            advice="These names were links once: copy them with `cp -a`, or the whole folder."
            if chain
            else "Keep one, and let the others be links to it.",
        )
    for elf in unlinked(image):
        yield image.finding(
            "A5",
            "warning",
            f"{posixpath.basename(elf.path)} cannot be found as {elf.soname}",
            subject=elf.path,
            evidence=[Evidence(path=elf.path, detail=f"its link {elf.soname} is not beside it")],
            advice="Copy the links together with the library, or run ldconfig.",
        )


def unlinked(image: Subject) -> Iterator[Elf]:
    """Libraries in a folder of the loader whose soname, a shorter form of their name, is not there."""
    folders = {image.inventory.real_path(folder) for folder in image.inventory.loader_dirs}
    for elf in image.inventory.elfs:
        folder, name = posixpath.split(elf.path)
        named = elf.soname is not None and name.startswith(f"{elf.soname}.")
        if named and folder in folders and posixpath.join(folder, str(elf.soname)) not in image.inventory.by_path:
            yield elf


def twice(image: Subject) -> Iterator[Finding]:
    """A12: two copies of one thing, a torch without CUDA, pip's nvidia-* beside the system's CUDA."""
    by_name: dict[str, list[Distribution]] = defaultdict(list)
    by_import: dict[tuple[str, str], list[Distribution]] = defaultdict(list)
    for each in image.inventory.distributions:
        by_name[canonicalize_name(each.name)].append(each)
        for name in each.top_level:
            if name != "nvidia" and not name.startswith("_"):  # a folder that many distributions share on purpose
                by_import[each.location, name].append(each)
    for name, found in by_name.items():
        if len(found) > 1:
            # In one folder they overwrite each other; of two folders the interpreter takes the first.
            severity: Severity = "note" if len({each.location for each in found}) == len(found) else "warning"
            yield _several(
                image,
                name,
                found,
                f"{len(found)} copies of {name} are installed",
                severity,
            )
    for (_, name), found in by_import.items():
        if len({canonicalize_name(each.name) for each in found}) > 1 and _one_overwrites_the_other(found):
            who = some(sorted(each.name for each in found))
            yield _several(
                image, f"import {name}", found, f"{who} overwrite each other: both are `import {name}`", "warning"
            )
    yield from _without_cuda(image)
    yield from _second_cuda(image)


def _several(image: Subject, subject: str, found: list[Distribution], title: str, severity: Severity) -> Finding:
    sizes = [image.size(each.files) for each in found if each.files]
    return image.finding(
        "A12",
        severity,
        title,
        subject=subject,
        evidence=[Evidence(path=each.info, detail=f"{each.name} {each.version}") for each in found],
        size=min(sizes) if len(sizes) == len(found) else None,
        advice="Keep the one that the interpreter finds first, and remove the other.",
    )


def _one_overwrites_the_other(found: list[Distribution]) -> bool:
    """Whether two of them list the same file; distributions that share a namespace folder do not."""
    lists = [set(each.files or ()) for each in found]
    return any(one & other for index, one in enumerate(lists) for other in lists[index + 1 :])


def _without_cuda(image: Subject) -> Iterator[Finding]:
    torch = image.distributions.get("torch")
    if torch is None or not image.cuda:
        return
    cpu = "+cpu" in torch.version or CPU.search(_version_file(image, torch))
    library = any(posixpath.basename(path) == "libtorch_cuda.so" for path in torch.files or ())
    if cpu or (torch.files is not None and not library):
        why = f"version {torch.version} is for the CPU" if cpu else "it has no libtorch_cuda.so"
        yield image.finding(
            "A12",
            "error",
            "torch was not built for CUDA",
            subject="torch",
            evidence=[Evidence(path=torch.info, detail=why)],
            advice="Install it from an index that has the CUDA build, and look at the order of [profiles.*] indexes.",
        )


def _version_file(image: Subject, torch: Distribution) -> str:
    return image.inventory.texts.get(f"{torch.location}/torch/version.py", "")


def _second_cuda(image: Subject) -> Iterator[Finding]:
    folders = {image.inventory.real_path(folder) for folder in image.inventory.loader_dirs}
    for each in image.inventory.distributions:
        if not canonicalize_name(each.name).startswith("nvidia-"):
            continue
        own = {image.inventory.placed(path) for path in each.files or ()}
        both = [
            Evidence(path=path, detail=f"also {other}")
            for path in sorted(own)
            if (elf := image.inventory.elf_by_path.get(path)) and elf.soname
            for other in image.libraries.get(elf.soname, ())
            if other not in own and posixpath.dirname(other) in folders
        ]
        if both:
            yield image.finding(
                "A12",
                "warning",
                f"{each.name} beside the system's own",
                subject=each.name,
                evidence=both,
                size=image.size(own),
                advice="Leave torch's nvidia-* dependencies out ([python] provided), or choose a base without CUDA.",
            )

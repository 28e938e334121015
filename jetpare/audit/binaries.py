"""What stands inside ELF files: symbols, code for GPUs, what OpenCV was built with (A8, A9, A22)."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from jetpare.audit.subject import Evidence, Finding, NotMeasured, Subject, libraries_folder
from jetpare.base.text import some
from jetpare.base.units import size_text
from jetpare.image.inventory import Elf
from jetpare.image.needs import LINKS, MISSES, NAMES

# Compute capabilities of NVIDIA's systems on a chip: TX1, TX2, Xavier, Orin, Thor (by its two names).
TEGRA = frozenset({53, 62, 72, 87, 101, 110})
CODE = re.compile(r"(?P<kind>sm|compute)_(?P<number>\d+)(?P<only>[af]?)")
# By the libraries that OpenCV links for it; a wheel's own copies have a hash in their names.
OPENCV = {
    "CUDA": re.compile(r"lib(cudart|npp|cublas|opencv_cuda)"),
    "GStreamer": re.compile(r"libgst"),
    "FFmpeg": re.compile(r"libavcodec"),
}


def symbols(image: Subject) -> Iterator[Finding]:
    """A8: symbols and debug sections that `strip --strip-unneeded` would take."""
    files = strippable(image)
    total = sum(elf.symtab_bytes + elf.debug_bytes for elf in files)
    if total >= max(image.least, 1):
        yield image.finding(
            "A8",
            "note",
            f"symbols and debug sections in {len(files)} files",
            subject="symbols",
            evidence=[Evidence(path=elf.path, detail=size_text(elf.symtab_bytes + elf.debug_bytes)) for elf in files],
            size=total,
            advice="Strip them while the tree is assembled; never files of *.libs/ or changed by patchelf.",
        )


def strippable(image: Subject) -> list[Elf]:
    """Programs and libraries that strip would make smaller and would not break, the largest saving first."""
    found = [
        elf
        for elf in image.inventory.elfs
        if elf.type in {"exec", "dyn"}
        and elf.symtab_bytes + elf.debug_bytes
        and not elf.patched
        and not libraries_folder(elf)
    ]
    return sorted(found, key=lambda elf: -(elf.symtab_bytes + elf.debug_bytes))


def gpu_code(image: Subject) -> Iterator[Finding]:
    """A9: every fat binary holds code that the target's GPU can run."""
    if image.gpu_arch is None:
        raise NotMeasured("no gpu_arch is set for this profile")
    unfit: dict[tuple[str, str], list[Elf]] = defaultdict(list)
    for elf in image.inventory.elfs:
        how = None if elf.gpu is None else runs(elf.gpu, image.gpu_arch)
        if how in {"", "jit"}:
            unfit[image.owners.get(elf.path, elf.path), str(how)].append(elf)
    for (owner, how), elfs in unfit.items():
        what = some(posixpath.basename(elf.path) for elf in elfs)
        fault = (
            f"has no code for {image.gpu_arch}" if not how else f"has only PTX for {image.gpu_arch}, compiled at start"
        )
        yield image.finding(
            "A9",
            "warning" if how else "error",
            f"{what} {fault}",
            subject=owner,
            evidence=[Evidence(path=elf.path, detail=some(elf.gpu or (), 6) or "no code at all") for elf in elfs],
            size=None if how else image.size(elf.path for elf in elfs),
            advice=f"Build it with code for {image.gpu_arch}, or leave it out: its kernels cannot start there."
            if not how
            else f"Build it with code for {image.gpu_arch}; until then the first start is slow.",
        )


def runs(code: Iterable[str], target: str) -> str:
    """How the GPU *target* (sm_87) runs one of *code*: 'native', 'jit' (PTX, compiled by the driver), or '' for not.

    The CUDA C++ Programming Guide, 'Binary Compatibility': machine code for X.y runs on X.z where z >= y, but only on
    desktop parts: neither between Tegra parts nor between desktop and Tegra. PTX for X.y is compiled for every later
    capability. Code for an 'a' runs on that capability alone, for an 'f' within its major version.
    """
    wanted = _number(target)
    ways = {_way(match, wanted) for each in code if (match := CODE.fullmatch(each))}
    return "native" if "native" in ways else "jit" if "jit" in ways else ""


def _way(match: re.Match[str], wanted: int) -> str:
    number = int(match["number"])
    desktop = not {number, wanted} & TEGRA
    same_major = number // 10 == wanted // 10 and number <= wanted
    if match["kind"] == "sm":
        return "native" if number == wanted or (same_major and desktop and match["only"] != "a") else ""
    fits = {"a": number == wanted, "f": same_major, "": number <= wanted}[match["only"]]
    return "jit" if fits else ""


def _number(arch: str) -> int:
    match = CODE.fullmatch(arch)
    return int(match["number"]) if match else 0


def opencv(image: Subject) -> Iterator[Finding]:
    """A22: what the baseline's OpenCV links (CUDA, GStreamer, FFmpeg), this one links too."""
    own = opencv_features(image)
    if own is None:
        raise NotMeasured("there is no cv2 in the image")
    if image.baseline is None:
        raise NotMeasured("the baseline image is not there to compare with")
    there = Subject(name=image.baseline_name, reference="", inventory=image.baseline)
    for feature, path in (opencv_features(there) or {}).items():
        if feature not in own:
            yield image.finding(
                "A22",
                "warning",
                f"cv2 lost {feature}, which it has in {image.baseline_name}",
                subject=feature,
                evidence=[Evidence(path=path, detail=f"needed in {image.baseline_name}, by nothing of cv2 here")],
                advice=f"Build OpenCV with {feature}; cv2.getBuildInformation() tells what it has.",
            )


def opencv_features(image: Subject) -> dict[str, str] | None:
    """Features of OPENCV -> a library that shows it; None where there is no cv2."""
    starts = [
        elf.path
        for elf in image.inventory.elfs
        if posixpath.basename(elf.path).startswith("cv2.") and "/python" in elf.path
    ]
    names = needed_below(image, starts)
    found = {feature: next((name for name in names if known.match(name)), None) for feature, known in OPENCV.items()}
    return {feature: name for feature, name in found.items() if name} if starts else None


def needed_below(image: Subject, starts: Iterable[str]) -> dict[str, None]:
    """The names that these files need, and what has those names needs, and so on."""
    links: dict[str, list[str]] = defaultdict(list)
    for use in image.uses:
        if use.how in (LINKS, NAMES, MISSES):
            links[use.user].append(use.used)
    names: dict[str, None] = {}
    waiting, seen = list(starts), set(starts)
    while waiting:
        path = waiting.pop()
        names |= dict.fromkeys(image.inventory.elf_by_path[path].needed)
        fresh = [
            used for used in dict.fromkeys(links[path]) if used in image.inventory.elf_by_path and used not in seen
        ]
        seen.update(fresh)
        waiting += fresh
    return names

"""What a container that only runs does not need: compilers, headers, static libraries, tests, documentation (A10)."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.utils import canonicalize_name

from jetpare.audit.subject import Evidence, Finding, Subject
from jetpare.base.units import size_text
from jetpare.image.attribution import distribution_keys
from jetpare.image.inventory import File, Package
from jetpare.image.needs import REQUIRES

SECTIONS = frozenset({"devel", "libdevel", "doc", "debug"})
SUFFIXES = ("-dev", "-doc", "-dbg", "-dbgsym")
BUILD_PACKAGES = frozenset({"python3-pip", "python3-setuptools", "python3-wheel", "python3-distutils", "git", "ccache"})
BUILD_DISTRIBUTIONS = frozenset(
    {"cmake", "ninja", "cython", "pip", "setuptools", "wheel", "scikit-build", "scikit-build-core", "meson"}
    | {"meson-python", "pybind11", "uv", "build", "hatchling", "flit-core", "poetry-core"}
)
BUILD_PROGRAMS = frozenset(
    {"nvcc", "cicc", "ptxas", "fatbinary", "cudafe++", "nvlink", "cuda-gdb", "cuobjdump", "nvdisasm"}
)
# What a file is by its path; the first that fits.
FILES = {
    "caches": re.compile(
        r"^(/root|/home/[^/]+)/\.cache/|^/var/cache/(?!debconf/|ldconfig/|fontconfig/)|^/var/lib/apt/lists/|^(/var)?/tmp/"
    ),
    "logs": re.compile(r"^/var/log/"),
    "documentation": re.compile(r"^/usr(/local)?/share/(doc|man|info|gtk-doc|doc-base)/(?!.*/copyright$)"),
    "headers": re.compile(r"/include/.*\.(h|hh|hpp|hxx|cuh|inl|ipp|inc|tcc)$|^/usr/include/"),
    "static libraries": re.compile(r"\.(a|la)$"),
    "tests": re.compile(r"/(site-packages|dist-packages|python3(\.\d+)?)/(.*/)?tests?/"),
}
ADVICE = {
    "build packages": "Install them in the stage that builds, not in the image that runs.",
    "build programs": "Leave them in the stage that builds; Triton needs ptxas.",
    "caches": "Clean up in the RUN that filled it, or mount a cache.",
}
WARNED = frozenset({"build packages", "build programs", "caches"})


PACKAGE = re.compile(r".*?/(site-packages|dist-packages)/[^/]+")
DEPTH = {"documentation": 4}  # parts of a path that name its group, with the empty one before the first slash


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """One package or folder that could go. ``paths``: its files; ``name``: a package, a distribution or a folder."""

    kind: str
    name: str
    paths: tuple[str, ...]
    bytes: int


def leftovers(image: Subject) -> Iterator[Finding]:
    """A10: build tools, headers, static libraries, tests, documentation, caches; [audit] allow lets things be."""
    by_kind: dict[str, list[Leftover]] = defaultdict(list)
    for each in found(image):
        by_kind[each.kind].append(each)
    for kind, parts in by_kind.items():
        total = sum(each.bytes for each in parts)
        if total >= image.least:
            yield image.finding(
                "A10",
                "warning" if kind in WARNED else "note",
                f"{kind}: {size_text(total)}",
                subject=kind,
                evidence=[Evidence(path=each.name, detail=size_text(each.bytes)) for each in parts],
                size=total,
                advice=ADVICE.get(kind, "Nothing that runs reads them; `invoke audit --prune-plan` lists them."),
            )


def found(image: Subject) -> list[Leftover]:
    """Everything of that sort that is not allowed, the largest first; no file counts twice."""
    claimed: set[str] = set()
    parts: list[Leftover] = []
    for kind, name, paths in _whole(image):
        fresh = {path for path in paths if path in image.inventory.by_path} - claimed
        claimed |= fresh
        parts.append(Leftover(kind=kind, name=name, paths=tuple(sorted(fresh)), bytes=image.size(fresh)))
    groups: dict[tuple[str, str], list[File]] = defaultdict(list)
    for file in image.inventory.files:
        if file.kind == "file" and file.path not in claimed and not image.allowed(file.path):
            sort = next((sort for sort, pattern in FILES.items() if pattern.search(file.path)), None)
            if sort:
                groups[sort, folder_of(sort, file.path)].append(file)
    parts += [
        Leftover(kind=kind, name=name, paths=tuple(f.path for f in files), bytes=sum(f.bytes for f in files))
        for (kind, name), files in groups.items()
    ]
    return sorted((each for each in parts if each.bytes), key=lambda each: -each.bytes)


def _whole(image: Subject) -> Iterator[tuple[str, str, list[str]]]:
    """Packages, distributions and programs that go as a whole: kind, name, files."""
    for package in image.inventory.packages:
        if builds(package) and not image.allowed(package.name):
            yield "build packages", package.name, [image.inventory.placed(path) for path in package.files]
    keys = distribution_keys(image.inventory)
    wanted = {use.used for use in image.uses if use.how == REQUIRES}
    for key, each in zip(keys, image.inventory.distributions, strict=True):
        name: str = canonicalize_name(each.name)
        if (
            name in BUILD_DISTRIBUTIONS
            and key not in wanted
            and not image.allowed(name)
            and image.inventory.placed(each.info) not in image.owners
        ):
            yield "build packages", each.name, [image.inventory.placed(path) for path in each.files or ()]
    for file in image.inventory.files:
        name = posixpath.basename(file.path)
        if (
            name in BUILD_PROGRAMS
            and file.kind == "file"
            and file.path not in image.owners
            and not image.allowed(file.path)
        ):
            yield "build programs", file.path, [file.path]


def builds(package: Package) -> bool:
    """Whether a package of the distribution is there for building, reading or debugging, not for running."""
    section = package.section.rpartition("/")[2]
    return section in SECTIONS or package.name.endswith(SUFFIXES) or package.name in BUILD_PACKAGES


def folder_of(kind: str, path: str) -> str:
    """The folder under which a file of this kind is counted: a Python package, an include folder, /usr/share/doc."""
    package = PACKAGE.match(path)
    if package:
        return package[0]
    if kind == "headers" and "/include/" in path:
        return path.split("/include/", maxsplit=1)[0] + "/include"
    if kind == "static libraries":
        return posixpath.dirname(path)
    return posixpath.join("/", *path.split("/")[: DEPTH.get(kind, 3)])

"""Versions and checks of an image that no run record tells of: from the report that it brings along, or from its files.

The report is what scripts/image/probe.py wrote when the image was built. Files tell less than running things would: the
version of a library is the one in its file name, and where there are several nothing says which would be loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from jetpare.base.probe_report import PLACE, parsed
from jetpare.base.versions import ImageCheck
from jetpare.image.inventory import Inventory

BY_REPORT = f"versions and checks are those of the report that the image brings along ({PLACE})"
BY_FILES = "versions are read from names of files and lists of packages; nothing was run"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What an image tells of itself; ``notes``: how it is known, and what is not clear."""

    versions: Mapping[str, str | None] = field(default_factory=dict)
    checks: tuple[ImageCheck, ...] = ()
    notes: tuple[str, ...] = ()


def fits(have: str, *, made_for: str) -> bool:
    """Say whether version *have* of cuDNN or CUDA serves what was compiled against *made_for*.

    It has to be of the same major version and of no older minor one. Nothing is said against what is no version.
    """
    mine, wanted = release(have), release(made_for)
    return mine is None or wanted is None or (mine[0] == wanted[0] and mine[1:2] >= wanted[1:2])


def release(version: str | None) -> tuple[int, ...] | None:
    """Return the numbers of a version; None for what is none."""
    try:
        return Version(version or "").release
    except InvalidVersion:
        return None


def told(inventory: Inventory) -> Told:
    """The image's own report; without one, what its files tell."""
    report = parsed(inventory.texts.get(PLACE, ""))
    return Told(versions=report.versions, checks=report.checks, notes=(BY_REPORT,)) if report else _files(inventory)


def check(content: Mapping[str, Any]) -> ImageCheck:
    """Return one check of a run's record, which an earlier version of jetpare may have written."""
    seconds = content.get("seconds")
    return ImageCheck(
        name=str(content.get("name")),
        status=str(content.get("status")),
        detail=str(content.get("detail") or ""),
        seconds=float(seconds) if isinstance(seconds, (int, float)) else None,
    )


def _files(inventory: Inventory) -> Told:
    found = {name: list(dict.fromkeys(source(inventory))) for name, source in SOURCES.items()}
    several = [f"{name}: {' and '.join(sorted(values))} are there" for name, values in found.items() if len(values) > 1]
    versions = {name: values[0] if len(values) == 1 else None for name, values in found.items() if values}
    return Told(versions=versions, notes=(BY_FILES, *several) if versions else ())


def _library(name: str) -> Callable[[Inventory], Iterator[str]]:
    pattern = re.compile(rf"/{name}\.so\.([0-9]+(?:\.[0-9]+)+)$")
    return lambda inventory: (
        match[1] for file in inventory.files if file.kind == "file" and (match := pattern.search(file.path))
    )


def _distribution(name: str) -> Callable[[Inventory], Iterator[str]]:
    return lambda inventory: (each.version for each in inventory.distributions if canonicalize_name(each.name) == name)


def _package(pattern: str) -> Callable[[Inventory], Iterator[str]]:
    return lambda inventory: (
        re.split(r"[-+~]", each.version.partition(":")[2] or each.version)[0]
        for each in inventory.packages
        if re.fullmatch(pattern, each.name)
    )


def _l4t(inventory: Inventory) -> Iterator[str]:
    """'# R36 (release), REVISION: 4.0, ...' of /etc/nv_tegra_release, or the version of its package."""
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", inventory.texts.get("/etc/nv_tegra_release", ""))
    return iter([f"{match[1]}.{match[2]}"]) if match else _package("nvidia-l4t-core")(inventory)


def _gdal(inventory: Inventory) -> Iterator[str]:
    """libgdal.so.36.3.10.3: what it is compatible with, then its version."""
    return (version.partition(".")[2] for version in _library("libgdal")(inventory) if version.count(".") > 1)


SOURCES: Mapping[str, Callable[[Inventory], Iterator[str]]] = MappingProxyType(
    {
        "python": _package(r"python3\.\d+"),
        "glibc": _package("libc6"),
        "torch": _distribution("torch"),
        "torchvision": _distribution("torchvision"),
        "numpy": _distribution("numpy"),
        "gdal": _gdal,
        "cuda_runtime": _library("libcudart"),
        "cudnn": _library("libcudnn"),
        "tensorrt": _library("libnvinfer"),
        "l4t": _l4t,
    }
)

"""The legal values of build.toml: one annotated type for each kind of value."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, Field, Strict

from jetpare.base.text import suggest

FILE_NAME = "build.toml"

# What containerd's platform parser accepts and Docker has images for.
KNOWN_PLATFORMS = (
    "linux/386", "linux/amd64", "linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm64", "linux/arm64/v8",
    "linux/loong64", "linux/mips64le", "linux/ppc64le", "linux/riscv64", "linux/s390x",
)  # fmt: skip
MULTIARCH = MappingProxyType({"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"})
CUDA_TARGET = MappingProxyType({"amd64": "x86_64-linux", "arm64": "aarch64-linux"})
# What scripts/image/probe.py measures in an image.
NO_VERSION = ("torch_cuda_available", "gpu")  # components whose value is a word
KNOWN_COMPONENTS = (
    "python", "glibc", "torch", "torchvision", "numpy", "torch_cuda", "torch_cuda_available", "gpu", "gdal",
    "cuda_runtime", "cudnn", "cudnn_compiled", "tensorrt",
)  # fmt: skip
# What stands before the colon of a component's key, or is all of it (attribution.py), and what no group of them takes.
KNOWN_OWNERS = (
    "debian", "python", "venv", "interpreter", "collected", "gdal", "cuda", "jetpare", "base", "nobody",
)  # fmt: skip
OTHER_GROUP = "other"
# The checks that may be waived; jetpare.audit has them, and says what each is.
KNOWN_CHECKS = tuple(f"A{number}" for number in (*range(1, 18), 22, 23))
GDAL_BUILDS = ("unity", "plain")
# What the plan and the bake definition call what is no image's: no image may take these names away.
INPUTS = "inputs"
WHEELS = "wheels"
BUILDER = "builder"  # the context of the system on which another architecture is built for
_HOST = r"[a-z0-9]+([.-]+[a-z0-9]+)*(:[0-9]+)?/"
_REPOSITORY = r"[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*)*"
IMAGE_REFERENCE = re.compile(rf"({_HOST})?{_REPOSITORY}(:[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?")


# --- values


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError(f"{text!r} is no sha256: 64 hexadecimal digits in lower case are wanted")
    return text


def _digest(text: str) -> str:
    _sha256(text.removeprefix("sha256:"))
    if not text.startswith("sha256:"):
        raise ValueError(f"{text!r} is no image digest: it starts with 'sha256:'")
    return text


def _image(text: str) -> str:
    if "@" in text:
        raise ValueError(f"{text!r} holds an '@': a digest goes into the key 'digest' beside it")
    if not IMAGE_REFERENCE.fullmatch(text):
        raise ValueError(f"{text!r} is no image reference: [HOST[:PORT]/]PATH[:TAG] is wanted, the path in lower case")
    return text


def _component(text: str) -> str:
    if text not in KNOWN_COMPONENTS:
        raise ValueError(f"unknown component {text!r}{suggest(text, KNOWN_COMPONENTS)}")
    return text


def _check(text: str) -> str:
    if text not in KNOWN_CHECKS:
        raise ValueError(f"there is no check {text!r}: {KNOWN_CHECKS[0]} to {KNOWN_CHECKS[-3]}, A22 and A23 are known")
    return text


def _gpu_arch(text: str) -> str:
    if not re.fullmatch(r"sm_[1-9][0-9]{1,2}[a-z]?", text):
        raise ValueError(f"{text!r} is no architecture of a GPU: something like 'sm_87' is wanted")
    return text


def _no_space(text: str) -> str:
    if re.search(r"\s", text):
        raise ValueError(f"{text!r} has white space in it")
    return text


def check_version(text: str) -> str:
    """Return *text* if it is a version. Raises ValueError."""
    _no_space(text)
    try:
        Version(text)
    except InvalidVersion:
        raise ValueError(f"{text!r} is no version: something like '3.11.5' is wanted") from None
    return text


def _pin(text: str) -> str:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise ValueError(f"{text!r} is no requirement: something like 'numpy==1.26.4' is wanted") from None
    _no_space(text)
    specifiers = list(requirement.specifier)
    if len(specifiers) != 1 or specifiers[0].operator != "==" or specifiers[0].version.endswith(".*"):
        raise ValueError(f"{text!r} is not pinned: something like '{requirement.name}==1.2.3' is wanted")
    if requirement.url or requirement.marker:
        raise ValueError(f"{text!r}: a plain name==version is wanted, without URL or marker")
    return text


def _apt_pin(text: str) -> str:
    name, _, version = text.partition("=")
    if not re.fullmatch(r"[0-9][A-Za-z0-9.+:~-]*", version):
        raise ValueError(f"{text!r} is not pinned: something like '{name or 'libcudnn9-cuda-12'}=9.3.0.75-1' is wanted")
    _package(name)
    return text


def _suite(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._/-]+", text):
        raise ValueError(f"{text!r} is no suite or component of a package repository")
    return text


def _pattern(text: str) -> str:
    path = PurePosixPath(text)
    if path.is_absolute():
        raise ValueError(f"{text!r} is absolute: patterns are relative to the image's root")
    if not path.parts or ".." in path.parts:
        raise ValueError(f"{text!r} leaves the image's root: '..' and empty patterns are not allowed")
    known = ("{multiarch}", "{cuda_target}")
    rest = text
    for placeholder in known:
        rest = rest.replace(placeholder, "/")
    if "{" in rest or "}" in rest:
        raise ValueError(f"{text!r}: braces stand only in the placeholders, which are {' and '.join(known)}")
    return _no_space(text)


def _platform(text: str) -> str:
    if text != "host" and text not in KNOWN_PLATFORMS:
        raise ValueError(f"{text!r} is no platform that Docker knows{suggest(text, ('host', *KNOWN_PLATFORMS))}")
    return text


def _name(text: str) -> str:
    # A name becomes a part of an image tag and of a bake target.
    if not re.fullmatch(r"[a-z0-9]+([._-][a-z0-9]+)*", text):
        raise ValueError(f"{text!r} is no name: lower-case letters and digits, joined by '.', '_' or '-'")
    return text


def _package(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", text):
        raise ValueError(f"{text!r} is no name of a distribution package")
    return text


def _distribution(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", text):
        raise ValueError(f"{text!r} is no name of a Python distribution")
    return text


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:  # brackets that hold no IPv6 address; the text may hold credentials
        raise ValueError("is no http or https URL: its host cannot be read") from None
    if parts.username or parts.password:
        raise ValueError(
            f"a URL at {parts.hostname} holds credentials, which must not stand in a file that is committed: "
            "put them into pip's own settings, which reach the build as a secret"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname or re.search(r"\s", text):
        raise ValueError(f"{text!r} is no http or https URL")
    return text


def _define(text: str) -> str:
    if not re.fullmatch(r"-D[A-Za-z_][A-Za-z0-9_]*(:[A-Z]+)?=\S*", text):
        raise ValueError(f"{text!r} is no CMake definition: -DNAME=VALUE without white space is wanted")
    return text


def _driver(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_]+", text):
        raise ValueError(
            f"{text!r} is no name of a GDAL driver: letters, digits and '_' as in GDAL_ENABLE_DRIVER_<NAME>"
        )
    return text


def _group(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError(f"{text!r} is no name of a group: printable text is wanted")
    if text == OTHER_GROUP:
        raise ValueError(f"{text!r} is the name of what no group takes")
    return text


def _member(text: str) -> str:
    kind = text.partition(":")[0]
    if not text.startswith("/") and not re.search(r"[*?[]", kind) and kind not in KNOWN_OWNERS:
        raise ValueError(
            f"{text!r} matches no path and no component: a path begins with '/', a component with "
            f"{', '.join(KNOWN_OWNERS)}{suggest(kind, KNOWN_OWNERS)}"
        )
    return text


def _relative_path(path: Path) -> Path:
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{str(path)!r} must be a path below the project's folder")
    return _no_home(path)


def _no_home(path: Path) -> Path:
    if str(path).startswith("~"):
        raise ValueError(f"{str(path)!r}: '~' is not expanded here, write the path out")
    return path


def _gdal_build(text: str) -> str:
    if text not in GDAL_BUILDS:
        raise ValueError(f"{text!r} is no way to compile GDAL: {' or '.join(GDAL_BUILDS)} is wanted")
    return text


T = TypeVar("T")
Many = Annotated[tuple[T, ...], Strict(strict=False)]  # TOML's arrays are lists
NonEmpty = Annotated[tuple[T, ...], Strict(strict=False), Field(min_length=1)]
Sha256 = Annotated[str, AfterValidator(_sha256)]
Digest = Annotated[str, AfterValidator(_digest)]
VersionText = Annotated[str, AfterValidator(check_version)]
Pin = Annotated[str, AfterValidator(_pin)]
AptPin = Annotated[str, AfterValidator(_apt_pin)]
Suite = Annotated[str, AfterValidator(_suite)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Platform = Annotated[str, AfterValidator(_platform)]
Name = Annotated[str, AfterValidator(_name)]
Package = Annotated[str, AfterValidator(_package)]
Distribution = Annotated[str, AfterValidator(_distribution)]
Url = Annotated[str, AfterValidator(_url)]
Define = Annotated[str, AfterValidator(_define)]
GdalBuild = Annotated[str, AfterValidator(_gdal_build)]
Driver = Annotated[str, AfterValidator(_driver)]
RelativePath = Annotated[Path, Strict(strict=False), AfterValidator(_relative_path)]
AnyPath = Annotated[Path, Strict(strict=False), AfterValidator(_no_home)]
ImageReference = Annotated[str, AfterValidator(_image)]
Component = Annotated[str, AfterValidator(_component)]
GroupName = Annotated[str, AfterValidator(_group)]
Member = Annotated[str, AfterValidator(_member)]
CheckId = Annotated[str, AfterValidator(_check)]
GpuArch = Annotated[str, AfterValidator(_gpu_arch)]
Words = Annotated[str, Field(min_length=1)]
Gigabytes = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def architecture_of(platform: str) -> str:
    """'linux/arm64/v8' -> 'arm64'."""
    return platform.split("/")[1]

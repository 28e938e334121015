"""The legal values of build.toml, an annotated type for each kind of value, and the names that jetpare takes itself."""

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
LABEL_PROJECT = "jetpare.project"  # the label of whatever a project makes in an engine: the project's name
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
        raise ValueError(f"{text!r} is not a valid sha256; expected 64 hexadecimal digits in lower case")
    return text


def _digest(text: str) -> str:
    _sha256(text.removeprefix("sha256:"))
    if not text.startswith("sha256:"):
        raise ValueError(f"{text!r} is not a valid image digest; expected 'sha256:' and 64 hexadecimal digits")
    return text


def _image(text: str) -> str:
    if "@" in text:
        raise ValueError(f"{text!r} contains an '@'; write the digest in the key 'digest' next to it")
    if not IMAGE_REFERENCE.fullmatch(text):
        raise ValueError(f"{text!r} is not a valid image reference; expected [HOST[:PORT]/]PATH[:TAG] in lower case")
    return text


def _component(text: str) -> str:
    if text not in KNOWN_COMPONENTS:
        raise ValueError(f"unknown component {text!r}{suggest(text, KNOWN_COMPONENTS)}")
    return text


def _check(text: str) -> str:
    if text not in KNOWN_CHECKS:
        raise ValueError(f"{text!r} is not a check; expected {KNOWN_CHECKS[0]} to {KNOWN_CHECKS[-3]}, A22 or A23")
    return text


def _gpu_arch(text: str) -> str:
    if not re.fullmatch(r"sm_[1-9][0-9]{1,2}[a-z]?", text):
        raise ValueError(f"{text!r} is not a valid architecture of a GPU; expected such as 'sm_87'")
    return text


def _no_space(text: str) -> str:
    if re.search(r"\s", text):
        raise ValueError(f"{text!r} contains white space")
    return text


def check_version(text: str) -> str:
    """Return *text* if it is a version. Raises ValueError."""
    _no_space(text)
    try:
        Version(text)
    except InvalidVersion:
        raise ValueError(f"{text!r} is not a valid version; expected such as '3.11.5'") from None
    return text


def _pin(text: str) -> str:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise ValueError(f"{text!r} is not a valid requirement; expected such as 'numpy==1.26.4'") from None
    _no_space(text)
    specifiers = list(requirement.specifier)
    if len(specifiers) != 1 or specifiers[0].operator != "==" or specifiers[0].version.endswith(".*"):
        raise ValueError(f"{text!r} is not pinned; expected such as '{requirement.name}==1.2.3'")
    if requirement.url or requirement.marker:
        raise ValueError(f"{text!r} has a URL or a marker; expected a plain name==version")
    return text


def _apt_pin(text: str) -> str:
    name, _, version = text.partition("=")
    if not re.fullmatch(r"[0-9][A-Za-z0-9.+:~-]*", version):
        raise ValueError(f"{text!r} is not pinned; expected such as '{name or 'libcudnn9-cuda-12'}=9.3.0.75-1'")
    _package(name)
    return text


def _suite(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._/-]+", text):
        raise ValueError(f"{text!r} is not a valid suite or component of a package repository")
    return text


def _pattern(text: str) -> str:
    path = PurePosixPath(text)
    if path.is_absolute():
        raise ValueError(f"{text!r} is absolute; expected a pattern relative to the image's root")
    if not path.parts or ".." in path.parts:
        raise ValueError(f"{text!r} leaves the image's root: '..' and empty patterns are not allowed")
    known = ("{multiarch}", "{cuda_target}")
    rest = text
    for placeholder in known:
        rest = rest.replace(placeholder, "/")
    if "{" in rest or "}" in rest:
        raise ValueError(f"{text!r}: braces are allowed only in the placeholders {' and '.join(known)}")
    return _no_space(text)


def _platform(text: str) -> str:
    if text != "host" and text not in KNOWN_PLATFORMS:
        raise ValueError(f"{text!r} is not a platform that Docker knows{suggest(text, ('host', *KNOWN_PLATFORMS))}")
    return text


def _name(text: str) -> str:
    # A name becomes a part of an image tag and of a bake target.
    if not re.fullmatch(r"[a-z0-9]+([._-][a-z0-9]+)*", text):
        raise ValueError(
            f"{text!r} is not a valid name; expected lower-case letters and digits, joined by '.', '_' or '-'"
        )
    return text


def _package(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", text):
        raise ValueError(f"{text!r} is not a valid name of a distribution package")
    return text


def _distribution(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", text):
        raise ValueError(f"{text!r} is not a valid name of a Python distribution")
    return text


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:  # brackets that hold no IPv6 address; the text may hold credentials
        raise ValueError("is not an http or https URL: its host cannot be read") from None
    if parts.username or parts.password:
        raise ValueError(
            f"a URL at {parts.hostname} contains credentials, which must not be in a file that is committed: "
            "put them into pip's own settings, which reach the build as a secret"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname or re.search(r"\s", text):
        raise ValueError(f"{text!r} is not an http or https URL")
    return text


def _define(text: str) -> str:
    if not re.fullmatch(r"-D[A-Za-z_][A-Za-z0-9_]*(:[A-Z]+)?=\S*", text):
        raise ValueError(f"{text!r} is not a valid CMake definition; expected -DNAME=VALUE without white space")
    return text


def _driver(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_]+", text):
        raise ValueError(f"{text!r} is not a valid name of a GDAL driver; expected as in GDAL_ENABLE_DRIVER_<NAME>")
    return text


def _group(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError(f"{text!r} is not a valid name of a group; expected printable text")
    if text == OTHER_GROUP:
        raise ValueError(f"{text!r} is reserved for files that no group takes; choose another name")
    return text


def _member(text: str) -> str:
    kind = text.partition(":")[0]
    if not text.startswith("/") and not re.search(r"[*?[]", kind) and kind not in KNOWN_OWNERS:
        raise ValueError(
            f"{text!r} matches no path and no component; expected '/' or one of these at the beginning: "
            f"{', '.join(KNOWN_OWNERS)}{suggest(kind, KNOWN_OWNERS)}"
        )
    return text


def _relative_path(path: Path) -> Path:
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{str(path)!r} must be a path below the project's folder")
    return _no_home(path)


def _no_home(path: Path) -> Path:
    if str(path).startswith("~"):
        raise ValueError(f"{str(path)!r}: '~' is not expanded here; write the whole path")
    return path


def _gdal_build(text: str) -> str:
    if text not in GDAL_BUILDS:
        raise ValueError(f"{text!r} is not a valid way to compile GDAL; expected {' or '.join(GDAL_BUILDS)}")
    return text


T = TypeVar("T")
Many = Annotated[tuple[T, ...], Strict(strict=False)]  # TOML's arrays are lists
NonEmpty = Annotated[tuple[T, ...], Strict(strict=False), Field(min_length=1)]
Sha256 = Annotated[str, AfterValidator(_sha256)]
ImageDigest = Annotated[str, AfterValidator(_digest)]
VersionText = Annotated[str, AfterValidator(check_version)]
Pin = Annotated[str, AfterValidator(_pin)]
AptPin = Annotated[str, AfterValidator(_apt_pin)]
Suite = Annotated[str, AfterValidator(_suite)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Platform = Annotated[str, AfterValidator(_platform)]
Name = Annotated[str, AfterValidator(_name)]
PackageName = Annotated[str, AfterValidator(_package)]
DistributionName = Annotated[str, AfterValidator(_distribution)]
Url = Annotated[str, AfterValidator(_url)]
Define = Annotated[str, AfterValidator(_define)]
GdalBuild = Annotated[str, AfterValidator(_gdal_build)]
Driver = Annotated[str, AfterValidator(_driver)]
RelativePath = Annotated[Path, Strict(strict=False), AfterValidator(_relative_path)]
AnyPath = Annotated[Path, Strict(strict=False), AfterValidator(_no_home)]
ImageReference = Annotated[str, AfterValidator(_image)]
ComponentName = Annotated[str, AfterValidator(_component)]
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


def filled(pattern: str, platform: str, *, unknown: str) -> str:
    """Return a pattern of [collect] or [[prune]] with its placeholders filled in for *platform*.

    *unknown*: what takes their place for an architecture that has no such name.
    """
    architecture = architecture_of(platform)
    places = {"{multiarch}": MULTIARCH, "{cuda_target}": CUDA_TARGET}
    for placeholder, names in places.items():
        pattern = pattern.replace(placeholder, names.get(architecture, unknown))
    return pattern

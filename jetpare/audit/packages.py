"""What packages say against what is there: their files, and the versions that they want (A11, A17)."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from jetpare.audit.subject import Evidence, Finding, NotMeasured, Severity, Subject
from jetpare.base.versions import DIFFERS, VersionRow
from jetpare.image.attribution import unpacked_at
from jetpare.image.inventory import Distribution
from jetpare.image.version_sources import fits, release

# What slim images leave out when packages are unpacked (dpkg's path-exclude), beside what /etc/dpkg says.
EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*")
# What every clean-up of an image empties, and what an engine puts in place of the image's own.
VOLATILE = ("/var/log/*", "/var/cache/*", "/var/lib/apt/lists*", "/dev", "/proc", "/sys", "/run/*", "/dev/*")
BYTECODE = re.compile(r"\.py[co]$")
CODE = re.compile(r"(\.so(\.[\d.]+)?|\.py|\.pyd)$|^(/usr|/usr/local|/opt/venv)?/s?bin/")


@dataclass(frozen=True, kw_only=True)
class Library:
    """A library that torch is compiled against: the probe's names of the two versions, NVIDIA's package, the file."""

    name: str
    compiled: str
    present: str
    package: str
    stem: str
    strict: bool  # whether an older minor version is refused


LIBRARIES = (
    Library(
        name="cuDNN",
        compiled="cudnn_compiled",
        present="cudnn",
        package="nvidia-cudnn",
        stem="libcudnn.so",
        strict=True,
    ),
    Library(
        name="CUDA",
        compiled="torch_cuda",
        present="cuda_runtime",
        package="nvidia-cuda-runtime",
        stem="libcudart.so",
        strict=False,
    ),
)


def gone(image: Subject) -> Iterator[Finding]:
    """A11: files that a wheel's RECORD or a package's list names, and that are not there."""
    for each in image.inventory.distributions:
        lost = [path for path in each.files or () if _lost(image, path)]
        if lost:
            yield _gone(image, f"{each.name} {each.version}", each.name, lost)
    place = unpacked_at(image.inventory)
    for package in image.inventory.packages:
        lost = [
            path
            for path in package.files
            if _lost(image, place(package, path))
            and not image.was_pruned(path)
            and not any(fnmatch.fnmatchcase(path, pattern) for pattern in EXCLUDED + VOLATILE)
        ]
        if lost:
            yield _gone(image, f"{package.name} {package.version}", package.name, lost)


def _lost(image: Subject, path: str) -> bool:
    return not (image.tree.exists(path) or BYTECODE.search(path) or image.was_pruned(path))


def _gone(image: Subject, title: str, subject: str, lost: list[str]) -> Finding:
    code = [path for path in lost if CODE.search(path)]
    severity: Severity = "error" if code else "warning"
    return image.finding(
        "A11",
        severity,
        f"{title}: {len(lost)} of its files {'is' if len(lost) == 1 else 'are'} gone",
        subject=subject,
        evidence=[Evidence(path=path, detail="gone") for path in code + [each for each in lost if each not in code]],
        advice="Install it again; a clean-up by name or pattern took more than it should.",
    )


def versions(image: Subject) -> Iterator[Finding]:
    """A17: versions that were measured, against what is expected and what was compiled against."""
    if not image.inventory.distributions and not image.versions:
        raise NotMeasured("no record tells how the image was built, and it holds no Python distribution")
    for name, expected in image.expected.items():
        row = VersionRow(component=name, expected=expected, measured=image.versions.get(name))
        if row.status == DIFFERS:
            yield _version(image, name, f"{name} is {row.measured}, expected {expected}", "build.toml [expect]")
    for check in image.checks:
        if check.status == "failed":
            yield _version(image, check.name, f"the check '{check.name}' failed while it was built", check.detail)
    yield from _compiled(image)
    for each in image.inventory.distributions:
        yield from _requirements(image, each)


def _requirements(image: Subject, each: Distribution) -> Iterator[Finding]:
    for text in each.requires:
        requirement = _parsed(text)
        if requirement is None or not _applies(requirement, image.inventory.platform, image.versions.get("python")):
            continue
        name = canonicalize_name(requirement.name)
        there = image.distributions.get(name)
        if there is not None:
            if not requirement.specifier.contains(there.version, prereleases=True):
                title = (
                    f"{each.name} {each.version} wants {requirement.name}{requirement.specifier}, not {there.version}"
                )
                yield _version(image, f"{each.name} -> {name}", title, each.info)
        elif not any(fnmatch.fnmatchcase(name, canonicalize_name(pattern)) for pattern in image.provided):
            yield image.finding(
                "A17",
                "warning",
                f"{each.name} {each.version} wants {requirement.name}, which is not there",
                subject=f"{each.name} -> {name}",
                evidence=[Evidence(path=each.info, detail=text)],
                advice="Install it, or name it in [python] provided where another form of it is there.",
            )


def _compiled(image: Subject) -> Iterator[Finding]:
    """CUDA and cuDNN as torch was compiled against them, and as they are there."""
    torch = image.distributions.get("torch")
    for library in LIBRARIES:
        compiled = image.versions.get(library.compiled) or _wanted(image, library.package)
        present = image.versions.get(library.present) or library_version(image, library.stem)
        if torch is None or not compiled or not present or fits(present, made_for=compiled):
            continue
        title = f"torch was compiled against {library.name} {compiled}, {present} is there"
        # Within a major version NVIDIA keeps CUDA's interfaces; torch refuses an older cuDNN when it is first used.
        serious = library.strict or compiled.split(".")[0] != present.split(".")[0]
        yield _version(image, library.stem, title, torch.info, "error" if serious else "warning")


def _wanted(image: Subject, package: str) -> str | None:
    """The version of one of NVIDIA's packages that torch's wheel names, whatever the CUDA in the package's name."""
    torch, python = image.distributions.get("torch"), image.versions.get("python")
    for text in torch.requires if torch else ():
        requirement = _parsed(text)
        if requirement is None or not _applies(requirement, image.inventory.platform, python):
            continue
        if re.fullmatch(rf"{package}(-cu\d+)?", canonicalize_name(requirement.name)):
            return next((each.version for each in requirement.specifier if each.operator == "=="), None)
    return None


def _version(image: Subject, subject: str, title: str, path: str, severity: Severity = "error") -> Finding:
    return image.finding(
        "A17",
        severity,
        title,
        subject=subject,
        evidence=[Evidence(path=path)],
        advice="Pin both to versions that go together: the same major version, and no older than compiled against.",
    )


def library_version(image: Subject, stem: str) -> str | None:
    """The version in the file name of a library: libcudnn.so.9.10.2 -> 9.10.2; the longest where there are several."""
    found = [name.removeprefix(f"{stem}.") for name in image.libraries if name.startswith(f"{stem}.")]
    exact = [each for each in found if re.fullmatch(r"\d+(\.\d+)+", each)]
    return max(exact, key=len, default=None)


def _parsed(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _applies(requirement: Requirement, platform: str, python: str | None) -> bool:
    """Whether a requirement counts in the image; one of an extra does not, nor one whose condition has no meaning."""
    if requirement.marker is None:
        return True
    machine = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}.get("/".join(platform.split("/")[:2]), "")
    python_release = release(python) or (3, 10)
    environment: Mapping[str, Any] = {
        "platform_system": "Linux", "sys_platform": "linux", "os_name": "posix", "platform_machine": machine,
        "implementation_name": "cpython", "platform_python_implementation": "CPython", "extra": "",
        "python_version": ".".join(str(part) for part in python_release[:2]),
        "python_full_version": ".".join(str(part) for part in (*python_release, 0)[:3]),
    }  # fmt: skip
    try:
        return requirement.marker.evaluate(dict(environment))
    except (UndefinedComparison, UndefinedEnvironmentName, InvalidVersion):
        return False

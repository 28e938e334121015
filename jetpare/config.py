"""Turn build.toml into one frozen Config, or into one error that names its faults.

The models are the schema: an unknown key, a wrong type or a value that breaks a rule is reported with its table and
key, all of them at once. What holds between tables (names that point at each other, paths) is checked on the validated
Config. Nothing here touches the network, the engine or the environment.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import tomli
from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion, Version
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    field_validator,
    model_validator,
)

from jetpare.errors import ConfigError

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


def _version(text: str) -> str:
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
VersionText = Annotated[str, AfterValidator(_version)]
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


# --- tables


class Table(BaseModel):
    """A table of build.toml: frozen, exact types, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Project(Table):
    """[project]: names and defaults."""

    name: Name
    baseline: str
    default_profile: dict[str, str]


class Build(Table):
    """[build]: how, not what."""

    jobs: int = Field(default=0, ge=0, le=1024)


class Image(Table):
    """[images.NAME]: a Dockerfile, the base it stands on, and its stages with what each needs."""

    dockerfile: RelativePath
    description: str
    base: str
    optional: bool = False  # built only where it is named
    stages: dict[Name, Many[str]] = Field(min_length=1)

    @property
    def final(self) -> str:
        """The stage that becomes the image: the one that no other needs."""
        return next(iter(set(self.stages).difference(*self.stages.values())))


class Collect(Table):
    """[collect]: what is taken out of JetPack, as glob patterns relative to the image's root."""

    required: NonEmpty[Pattern]
    optional: Many[Pattern] = ()


class Repository(Table):
    """A repository of distribution packages. ``key`` is the file of the public key that signs it."""

    url: Url
    suite: Suite
    components: Many[Suite] = ()
    key: RelativePath


class Cudnn(Table):
    """[cudnn]: where cuDNN comes from, and what [collect] takes with it; by default out of l4t-jetpack."""

    source: Literal["jetpack", "wheel", "apt"] = "jetpack"
    wheels: Many[Pin] = ()
    packages: Many[AptPin] = ()
    repository: Repository | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Cudnn:
        wanted = {"wheel": ("wheels",), "apt": ("packages", "repository")}.get(self.source, ())
        for key in wanted:
            if not getattr(self, key):
                raise ValueError(f"source {self.source!r} needs '{key}'")
        if wanted and self.version is None:
            raise ValueError(f"none of {' and '.join(self.chosen)} is cuDNN (nvidia-cudnn-... or libcudnn...)")
        return self

    @property
    def chosen(self) -> tuple[str, ...]:
        """What is fetched from the source."""
        return {"wheel": self.wheels, "apt": self.packages}.get(self.source, ())

    @property
    def version(self) -> str | None:
        """Version of the cuDNN that the source has, by its pin: '9.10.2.21'; None for JetPack's."""
        pins = (
            re.fullmatch(r"(?:nvidia-cudnn-[^=]+==|libcudnn\d+(?:-cuda-\d+)?=)(?:\d+:)?([\d.]+).*", pin)
            for pin in self.chosen
        )
        return next((match[1] for match in pins if match), None)


class Gdal(Table):
    """[gdal]: how GDAL is compiled; see scripts/image/gdal-unity for what `unity` means."""

    build: GdalBuild = "plain"
    raster_drivers: Many[Driver] = ()
    vector_drivers: Many[Driver] = ()
    cmake: Many[Define] = ()
    packages: NonEmpty[Package]


class Python(Table):
    """[python]: what uv installs."""

    uv: VersionText
    requirements: NonEmpty[Pin]
    provided: Many[Distribution] = ()
    wheels: Many[AnyPath] = ()


class Platforms(Table):
    """[platform]: how another architecture than the engine's is built for.

    ``cross``: native, compilers and downloads run on the engine's own processor and only the rest is emulated; qemu,
    everything is emulated; auto, native where the profile has a context `builder`.
    """

    cross: Literal["auto", "native", "qemu"] = "auto"


class Power(Table):
    """[power]: the mode of a Jetson under which stages are timed; elsewhere it does nothing."""

    mode: str = Field(default="maxn", min_length=1)
    lock_clocks: bool = True
    strict: bool = False


class Prune(Table):
    """[[prune]]: what a person chose to leave out of the image `slim`, and why; patterns relative to the root."""

    paths: Many[Pattern] = ()
    strip: Many[Pattern] = ()
    reason: str = Field(min_length=1)

    @model_validator(mode="after")
    def _names_something(self) -> Prune:
        if not self.paths and not self.strip:
            raise ValueError("'paths' or 'strip' is wanted")
        return self


class Accept(Table):
    """[[verify.accept]]: checks that may fail, by a pattern over their names, and why."""

    check: str = Field(min_length=1)
    reason: str = Field(min_length=1)


class Verify(Table):
    """[verify]: what running an image may show without being a failure."""

    accept: Many[Accept] = ()


class Verdict(Table):
    """[verdict]: what an image must save, in percent of the baseline's layers, to be recommended."""

    min_saving_percent: float = Field(default=10.0, ge=0, lt=100, allow_inf_nan=False)


class Runtime(Table):
    """[runtime]: distribution packages beyond what the stages work out by themselves."""

    packages: NonEmpty[Package]


class Waiver(Table):
    """[[audit.waivers]]: findings that a person has looked at and lets be, with the reason, when, and until when."""

    id: CheckId
    pattern: Words  # a glob on what the finding is about, or on all the paths of its evidence
    image: Words | None = None
    reason: Words
    date: dt.date
    until: dt.date | None = None

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Waiver:
        if self.until is not None and self.until < self.date:
            raise ValueError(f"until ({self.until}) is before date ({self.date})")
        return self


class Audit(Table):
    """[audit]: what the audit lets be, and from which size on waste is worth a finding."""

    fail_on: Literal["error", "warning"] = "error"
    host_libraries: Many[Words] = ()
    allow: Many[Words] = ()
    least_mb: float = Field(default=1.0, ge=0, le=1e6, allow_inf_nan=False)
    waivers: Many[Waiver] = ()


class Context(Table):
    """What a name in a Dockerfile stands for. Exactly one of image, suite, target, urls, folder is given."""

    image: ImageReference | None = None
    digest: Digest | None = None
    suite: Name | None = None
    dockerfile: RelativePath | None = None
    target: Name | None = None
    needs: Many[str] = ()
    urls: Many[Url] = ()
    sha256: Sha256 | None = None
    folder: AnyPath | None = None

    @model_validator(mode="after")
    def _is_one_thing(self) -> Context:
        given = [key for key in ("image", "suite", "target", "urls", "folder") if getattr(self, key)]
        if len(given) != 1:
            said = " and ".join(given) or "none of them"
            raise ValueError(f"exactly one of image, suite, target, urls or folder is wanted, here: {said}")
        belongs = {"digest": "image", "dockerfile": "target", "needs": "target", "sha256": "urls"}
        for key, owner in belongs.items():
            if getattr(self, key) and given[0] != owner:
                raise ValueError(f"'{key}' goes with '{owner}', not with '{given[0]}'")
        if self.urls and not self.sha256:
            raise ValueError("a download needs its sha256")
        if self.target and not self.dockerfile:
            raise ValueError("a target needs the dockerfile that it stands in")
        return self


class Budget(Table):
    """[profiles.NAME.budget]: what may not be passed. Stages by label, such as "cuda/gdal"; GB are 10^9 bytes."""

    tolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False)  # percent, added to every limit
    image_gb: dict[Name, Gigabytes] = Field(default_factory=dict)  # uncompressed layers
    stage_gb: dict[str, Gigabytes] = Field(default_factory=dict)  # the tree that a stage leaves
    cold_seconds: dict[str, Seconds] = Field(default_factory=dict)
    warm_seconds: dict[str, Seconds] = Field(default_factory=dict)


class Profile(Table):
    """[profiles.NAME]: what the contexts stand for, and what is expected to come out."""

    description: str
    platform: Platform
    gdal: VersionText
    cuda: bool
    indexes: Many[Url] = ()
    cudnn: Cudnn | None = None
    disk_gb: Gigabytes
    gpu_arch: GpuArch | None = None
    contexts: dict[Name, Context] = Field(min_length=1)
    expect: dict[Component, str] = Field(default_factory=dict)
    budget: Budget = Budget()

    @field_validator("expect")
    @classmethod
    def _are_versions(cls, expect: dict[str, str]) -> dict[str, str]:
        return {name: value if name in NO_VERSION else _version(value) for name, value in expect.items()}

    @field_validator("contexts")
    @classmethod
    def _needs_exist(cls, contexts: dict[str, Context]) -> dict[str, Context]:
        builder = contexts.get(BUILDER)
        if builder and not (builder.image or builder.suite):
            raise ValueError(f"{BUILDER!r} is a system of the engine's own architecture: 'image' or 'suite' is wanted")
        suites = sorted({context.suite for context in contexts.values() if context.suite and context is not builder})
        if builder and builder.suite and builder.suite not in suites:
            raise ValueError(
                f"{BUILDER!r} is of suite {builder.suite!r}, and has to be of the release that is built for"
                + (f", which is {' or '.join(suites)}" if suites else ": name an image of it")
            )
        for name, context in contexts.items():
            for need in context.needs:
                if need not in contexts:
                    raise ValueError(f"{name!r} needs {need!r}, which is no context of it{suggest(need, contexts)}")
        try:
            TopologicalSorter({name: context.needs for name, context in contexts.items()}).prepare()
        except CycleError as error:
            raise ValueError(f"the contexts need each other in a circle: {' -> '.join(error.args[1])}") from None
        return contexts


class Config(Table):
    """All of build.toml."""

    project: Project
    build: Build = Build()
    platform: Platforms = Platforms()
    images: dict[Name, Image] = Field(min_length=1)
    collect: Collect
    cudnn: Cudnn = Cudnn()
    gdal: Gdal
    python: Python
    runtime: Runtime
    prune: Many[Prune] = ()
    power: Power = Power()
    verify: Verify = Verify()
    verdict: Verdict = Verdict()
    groups: dict[GroupName, NonEmpty[Member]] = Field(default_factory=dict)
    audit: Audit = Audit()
    profiles: dict[Name, Profile] = Field(min_length=1)

    def pick_profile(self, name: str | None, *, architecture: str, platform: str | None = None) -> tuple[str, Profile]:
        """The profile called *name*, or the default one of the host's *architecture* (amd64, arm64).

        For another *platform* than its own it is a profile of another name: rehearsal, on linux/arm64, is
        rehearsal-arm64, and that name may be asked for too.
        """
        chosen = name or self.project.default_profile.get(architecture)
        stem, _, ending = (chosen or "").rpartition("-")
        if chosen not in self.profiles and stem in self.profiles and ending in MULTIARCH:
            chosen, platform = stem, platform or f"linux/{ending}"
        if chosen is None:
            raise ConfigError(
                f"{FILE_NAME}: [project] default_profile names none for {architecture}: add one, or use --profile."
            )
        if chosen not in self.profiles:
            raise ConfigError(
                f"there is no profile {chosen!r}{suggest(chosen, self.profiles)}. "
                f"{FILE_NAME} has: {', '.join(self.profiles)}."
            )
        profile = self.profiles[chosen]
        if platform is None or platform == resolve_platform(profile, architecture=architecture):
            return chosen, profile
        if profile.platform != "host":
            raise ConfigError(f"--platform {platform}: profile {chosen!r} is for {profile.platform} and no other.")
        known = [f"linux/{each}" for each in MULTIARCH]
        if platform not in known:
            raise ConfigError(f"--platform {platform}: {' or '.join(known)} is wanted{suggest(platform, known)}.")
        derived = f"{chosen}-{architecture_of(platform)}"
        if derived in self.profiles:
            raise ConfigError(
                f"--platform {platform}: profile {chosen!r} would be called {derived!r} there, and {FILE_NAME} has a "
                "profile of that name: use that one, or rename it."
            )
        return derived, profile.model_copy(update={"platform": platform})

    def table_of(self, profile_name: str) -> str:
        """The table that a profile's settings stand in, which is another one's where it is for another platform."""
        name = profile_name if profile_name in self.profiles else profile_name.rpartition("-")[0]
        return f"profiles.{name}"

    def cross_builds(self, profile: Profile, *, architecture: str) -> bool:
        """Whether an engine of *architecture* builds *profile*, which is for another one, by its own processor.

        ConfigError where [platform] cross asks for what cannot be.
        """
        target = architecture_of(resolve_platform(profile, architecture=architecture))
        if target == architecture or self.platform.cross == "qemu":
            return False
        able = BUILDER in profile.contexts and {target, architecture} <= MULTIARCH.keys()
        if self.platform.cross == "native" and not able:
            raise ConfigError(
                f"{FILE_NAME}: [platform] cross is 'native': that takes a context '{BUILDER}' in the profile, and goes "
                f"between {' and '.join(MULTIARCH)}. 'qemu' emulates."
            )
        return able

    def cudnn_of(self, profile: Profile) -> Cudnn:
        """Where *profile* takes cuDNN from: its own table, or else [cudnn]."""
        return profile.cudnn or self.cudnn

    def pick_images(self, names: tuple[str, ...]) -> dict[str, Image]:
        """The images called *names*, in build.toml's order; where none is named, all that are not optional."""
        for name in names:
            if name not in self.images:
                raise ConfigError(
                    f"there is no image {name!r}{suggest(name, self.images)}. "
                    f"{FILE_NAME} has: {', '.join(self.images)}."
                )
        return {name: image for name, image in self.images.items() if (name in names if names else not image.optional)}


def resolve_platform(profile: Profile, *, architecture: str) -> str:
    """The profile's platform, with 'host' resolved to the engine's own architecture."""
    return f"linux/{architecture}" if profile.platform == "host" else profile.platform


def architecture_of(platform: str) -> str:
    """'linux/arm64/v8' -> 'arm64'."""
    return platform.split("/")[1]


# --- reading


def load(path: Path) -> Config:
    """Read and validate *path*.

    Raises ConfigError with a line for each fault: of the tables and their values, or, where these are valid, of what
    they say about each other and about files.
    """
    try:
        raw = tomli.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file. Run from the project's folder, or set JETPARE_ROOT."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name}: is not UTF-8 (byte {error.start}), which TOML has to be.") from None
    except tomli.TOMLDecodeError as error:
        raise ConfigError(f"{path.name}: line {error.lineno}, column {error.colno}: not TOML: {error.msg}.") from None
    except (RecursionError, ValueError) as error:  # brackets in a thousand brackets, a number of five thousand digits
        raise ConfigError(f"{path.name}: not TOML that can be read: {error}.") from None
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        faults = [_fault(path.name, details) for details in error.errors()]
    else:
        faults = [f"{path.name}: {fault}" for fault in _cross_faults(config, path.parent)]
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))
    return config


def suggest(word: str, known: Any) -> str:  # noqa: ANN401 - any iterable of names, mappings included
    """', did you mean X?' where something is close, else ''."""
    close = difflib.get_close_matches(word, [str(name) for name in known], n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _fault(file: str, details: Mapping[str, Any]) -> str:
    location = list(details["loc"])
    if details["type"] == "extra_forbidden":
        *tables, key = location
        known = _known_keys(tables)
        kind = "table" if isinstance(details["input"], dict) else "key"
        return f"{file}: {_place(tables)}: unknown {kind} {key!r}{suggest(str(key), known)}"
    if location[-1] == "[key]" and len(location) > 1:  # pydantic's mark for: the key itself is wrong
        location.pop()
    *tables, key = location
    item = ""
    if isinstance(key, int) and tables:  # an item of an array
        item, key = f" item {key + 1}", tables.pop()
    if details["type"] == "missing":
        return f"{file}: {_place(tables)}: '{key}' is missing"
    return f"{file}: {_place(tables)} {_key(key)}{item}: {_complaint(details)}"


def _complaint(details: Mapping[str, Any]) -> str:
    wanted = {
        "string_type": "a string", "int_type": "a whole number", "bool_type": "true or false", "float_type": "a number",
        "float_parsing": "a number", "tuple_type": "an array", "dict_type": "a table", "model_type": "a table",
        "path_type": "a path, as a string", "date_type": "a date without quotes, such as 2025-01-31",
    }.get(details["type"])  # fmt: skip
    if wanted:
        return f"wrong type: {wanted} is wanted, here: {details['input']!r}"
    if details["type"] == "literal_error":
        known = details["ctx"]["expected"]
        return f"{details['input']!r} is none of {known}{suggest(str(details['input']), re.findall(r'[a-z]+', known))}"
    if details["type"] in {"too_short", "string_too_short"}:
        return "must not be empty"
    limits = {
        "greater_than": ("more than", "gt"), "greater_than_equal": ("at least", "ge"),
        "less_than": ("less than", "lt"), "less_than_equal": ("at most", "le"),
    }  # fmt: skip
    if details["type"] in limits:
        words, limit = limits[details["type"]]
        return f"must be {words} {details['ctx'][limit]:g}, here: {details['input']!r}"
    if details["type"] == "finite_number":
        return f"must be a finite number, here: {details['input']!r}"
    return str(details["msg"]).removeprefix("Value error, ")


def _place(tables: Sequence[str | int]) -> str:
    return f"[{'.'.join(_key(name) for name in tables)}]" if tables else "top level"


def _key(name: str | int) -> str:
    """A key as TOML writes it, in one line whatever it holds."""
    text = str(name)
    if re.fullmatch(r"[A-Za-z0-9_-]+", text):
        return text
    return f'"{text}"' if text.isprintable() else repr(text)


def _known_keys(tables: list[str | int]) -> list[str]:
    """The keys that the table at this place may have, found by walking the models."""
    place: Any = Config
    for name in tables:
        field = place.model_fields.get(str(name)) if isinstance(place, type) and issubclass(place, BaseModel) else None
        if field is not None:
            place = field.annotation
        elif hasattr(place, "__args__"):
            place = _item(place)
        if hasattr(place, "__args__") and name == tables[-1]:
            place = _item(place)
    return list(place.model_fields) if isinstance(place, type) and issubclass(place, BaseModel) else []


def _item(kind: Any) -> Any:  # noqa: ANN401 - a type
    """What a dict[Name, Model] or a tuple[Model, ...] holds."""
    return next(each for each in reversed(kind.__args__) if each is not Ellipsis)


def _cross_faults(config: Config, root: Path) -> list[str]:
    """Return a line for each name in *config* that points at nothing, and each path that is missing below *root*."""
    faults = [*_unknown_names(config)]
    for name, profile in config.profiles.items():
        faults += [*_unknown_budgets(config, name, profile), *_other_versions(name, profile)]
    for name, image in config.images.items():
        faults += [*_unknown_needs(name, image, config.profiles), *_circles_and_ends(name, image)]
    return [*faults, *_same_targets(config), *_path_faults(config, root)]


def _unknown_names(config: Config) -> Iterator[str]:
    """Yield the faults of names of images and profiles that build.toml does not have, or must not have."""
    images, profiles = config.images, config.profiles
    baseline = config.project.baseline
    if baseline not in images:
        yield f"[project] baseline: there is no image {baseline!r}{suggest(baseline, images)}"
    for architecture, profile in config.project.default_profile.items():
        if profile not in profiles:
            unknown = f"there is no profile {profile!r}{suggest(profile, profiles)}"
            yield f"[project] default_profile.{_key(architecture)}: {unknown}"
    for number, waiver in enumerate(config.audit.waivers, start=1):
        if waiver.image is not None and waiver.image not in images:
            unknown = f"there is no image {waiver.image!r}{suggest(waiver.image, images)}"
            yield f"[audit] waivers item {number} image: {unknown}"
    if INPUTS in images:
        yield f"[images] {INPUTS}: an image must not have this name, which stands for what all images build on"


def _unknown_budgets(config: Config, name: str, profile: Profile) -> Iterator[str]:
    """Yield the faults of budgets for images and stages that do not exist."""
    labels = [f"{image}/{stage}" for image, table in config.images.items() for stage in table.stages]
    labels += [f"{INPUTS}/{context}" for context in profile.contexts]
    known = {"image_gb": ("image", list(config.images))}
    known |= dict.fromkeys(("stage_gb", "cold_seconds", "warm_seconds"), ("stage", labels))
    for key, (what, names) in known.items():
        for each in getattr(profile.budget, key):
            if each not in names:
                place = _place(["profiles", name, "budget", key])
                yield f"{place} {_key(each)}: there is no {what} {each!r}{suggest(each, names)}"


def _other_versions(name: str, profile: Profile) -> Iterator[str]:
    """Yield the faults of URLs of GDAL's sources that are not of the version that the profile builds."""
    source = profile.contexts.get("gdal-source")
    whole = re.compile(rf"(?<![0-9])(?<![0-9]\.){re.escape(profile.gdal)}(?!\.?[0-9])")
    for number, url in enumerate(source.urls if source else (), start=1):
        if not whole.search(url):
            yield (
                f"{_place(['profiles', name, 'contexts', 'gdal-source'])} urls item {number}: "
                f"gdal is {profile.gdal!r}, but the URL {url!r} is of another version"
            )


def _unknown_needs(name: str, image: Image, profiles: Mapping[str, Profile]) -> Iterator[str]:
    """Yield the faults of needs that are neither a stage of the image nor a context, with the profiles without them."""
    wanted: list[tuple[str, str, list[str]]] = [("base", image.base, [])]
    for stage, needs in image.stages.items():
        wanted += [(f"stages.{_key(stage)}", need, list(image.stages)) for need in needs]
    for key, need, others in wanted:
        lacking = [each for each, profile in profiles.items() if need not in (*profile.contexts, *others)]
        if lacking:
            what = "no stage of the image and no context" if others else "no context"
            yield (
                f"{_place(['images', name])} {key}: {need!r} is {what} of profile "
                f"{' and '.join(_key(each) for each in lacking)}"
                f"{suggest(need, [*others, *profiles[lacking[0]].contexts])}"
            )


def _circles_and_ends(name: str, image: Image) -> Iterator[str]:
    """Yield the faults of an image whose stages have no order, or do not end in one stage."""
    place = f"{_place(['images', name])} stages"
    try:
        TopologicalSorter(image.stages).prepare()
    except CycleError as error:
        yield f"{place}: the stages need each other in a circle: {' -> '.join(error.args[1])}"
        return
    last = set(image.stages).difference(*image.stages.values())
    if len(last) != 1:
        yield f"{place}: exactly one stage must be needed by no other, here: {', '.join(sorted(last))}"


def _same_targets(config: Config) -> Iterator[str]:
    """Yield the faults of names that differ here but are one in the bake definition.

    See plan.Node.target and bake.report_target.
    """
    owners: dict[str, str] = {f"{INPUTS}-{WHEELS}": f"[python] {WHEELS}"}
    for image, table in config.images.items():
        for stage in table.stages:
            place = f"{_place(['images', image])} stages.{_key(stage)}"
            for suffix in ("", "-report", "-base-settings"):
                yield from _claim(owners, f"{image}-{stage}{suffix}", place)
    for name, profile in config.profiles.items():
        taken = dict(owners)  # only one profile is built at a time
        for context in profile.contexts:
            yield from _claim(taken, f"{INPUTS}-{context}", f"{_place(['profiles', name, 'contexts'])} {_key(context)}")


def _claim(owners: dict[str, str], name: str, place: str) -> Iterator[str]:
    target = name.replace(".", "_")
    owner = owners.setdefault(target, place)
    if owner != place:
        yield f"{place}: its bake target would be {target!r}, which is already the target of {owner}; rename one"


def _path_faults(config: Config, root: Path) -> Iterator[str]:
    """Yield the faults of files and folders that build.toml names and that are not there."""
    for place, path, kind in _paths(config):
        if not _is_there(root / path, folder=kind == "folder"):
            yield f"{place}: there is no {kind} {str(path)!r}"


def _paths(config: Config) -> Iterator[tuple[str, Path, Literal["file", "folder"]]]:
    """Yield each path that build.toml names, with its place there, and what must be found at it."""
    for number, wheel in enumerate(config.python.wheels, start=1):
        yield f"[python] wheels item {number}", wheel, "folder"
    for name, image in config.images.items():
        yield f"{_place(['images', name])} dockerfile", image.dockerfile, "file"
    tables: dict[tuple[str, ...], Cudnn] = {("cudnn",): config.cudnn}
    for name, profile in config.profiles.items():
        for context, table in profile.contexts.items():
            place = _place(["profiles", name, "contexts", context])
            if table.dockerfile is not None:
                yield f"{place} dockerfile", table.dockerfile, "file"
            if table.folder is not None:
                yield f"{place} folder", table.folder, "folder"
        if profile.cudnn is not None:
            tables["profiles", name, "cudnn"] = profile.cudnn
    for path, cudnn in tables.items():
        if cudnn.repository is not None:
            yield f"{_place(path)} repository.key", cudnn.repository.key, "file"


def _is_there(path: Path, *, folder: bool) -> bool:
    try:
        return path.is_dir() if folder else path.is_file()
    except (OSError, ValueError):  # a name that is too long, or that no file can have
        return False

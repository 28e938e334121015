"""Turn build.toml into one frozen Config, or into one error that names its faults.

The models are the schema: an unknown key, a wrong type or a value that breaks a rule is reported with its table and
key, all of them at once. What holds between tables (names that point at each other, paths) is checked on the validated
Config. Nothing here touches the network, the engine or the environment.
"""

from __future__ import annotations

import datetime as dt
import re
from graphlib import CycleError, TopologicalSorter
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from jetpare.base.errors import ConfigError
from jetpare.base.text import suggest
from jetpare.config.values import (
    BUILDER,
    FILE_NAME,
    MULTIARCH,
    NO_VERSION,
    AnyPath,
    AptPin,
    CheckId,
    ComponentName,
    Define,
    DistributionName,
    Driver,
    GdalBuild,
    Gigabytes,
    GpuArch,
    GroupName,
    ImageDigest,
    ImageReference,
    Many,
    Member,
    Name,
    NonEmpty,
    PackageName,
    Pattern,
    Pin,
    Platform,
    RelativePath,
    Seconds,
    Sha256,
    Suite,
    Url,
    VersionText,
    Words,
    architecture_of,
    check_version,
)

# --- tables


class Table(BaseModel):
    """A table of build.toml: frozen, exact types, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ProjectSettings(Table):
    """[project]: names and defaults."""

    name: Name
    baseline: str
    default_profile: dict[str, str]


class Build(Table):
    """[build]: settings of the build that do not change its result."""

    jobs: int = Field(default=0, ge=0, le=1024)


class ImageSettings(Table):
    """[images.NAME]: a Dockerfile, the base it starts from, and its stages with what each needs."""

    dockerfile: RelativePath
    description: str
    base: str
    optional: bool = False  # built only where it is named
    stages: dict[Name, Many[str]] = Field(min_length=1)

    @property
    def final(self) -> str:
        """Return the stage that becomes the image: the one that no other needs."""
        return next(iter(set(self.stages).difference(*self.stages.values())))


class Collect(Table):
    """[collect]: the files to take out of JetPack, as glob patterns relative to the image's root."""

    required: NonEmpty[Pattern]
    optional: Many[Pattern] = ()


class Repository(Table):
    """A repository of distribution packages. ``key`` is the file of the public key that signs it."""

    url: Url
    suite: Suite
    components: Many[Suite] = ()
    key: RelativePath


class Cudnn(Table):
    """[cudnn]: the source of cuDNN and of what [collect] takes with it; by default l4t-jetpack."""

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
        """The packages to get from the source."""
        return {"wheel": self.wheels, "apt": self.packages}.get(self.source, ())

    @property
    def version(self) -> str | None:
        """The version of cuDNN in the source, by its pin: '9.10.2.21'; None for JetPack's."""
        pins = (
            re.fullmatch(r"(?:nvidia-cudnn-[^=]+==|libcudnn\d+(?:-cuda-\d+)?=)(?:\d+:)?([\d.]+).*", pin)
            for pin in self.chosen
        )
        return next((match[1] for match in pins if match), None)


class Gdal(Table):
    """[gdal]: the way to compile GDAL; scripts/image/gdal-unity explains `unity`."""

    build: GdalBuild = "plain"
    raster_drivers: Many[Driver] = ()
    vector_drivers: Many[Driver] = ()
    cmake: Many[Define] = ()
    packages: NonEmpty[PackageName]


class Python(Table):
    """[python]: the distributions that uv installs."""

    uv: VersionText
    requirements: NonEmpty[Pin]
    provided: Many[DistributionName] = ()
    wheels: Many[AnyPath] = ()


class PlatformSettings(Table):
    """[platform]: the way to build for another architecture than the engine's.

    ``cross``: native, compilers and downloads run on the engine's own processor and only the rest is emulated; qemu,
    everything is emulated; auto, native where the profile has a context `builder`.
    """

    cross: Literal["auto", "native", "qemu"] = "auto"


class Power(Table):
    """[power]: the power mode of a Jetson in which stages are timed; no effect on other machines."""

    mode: str = Field(default="maxn", min_length=1)
    lock_clocks: bool = True
    strict: bool = False


class Prune(Table):
    """[[prune]]: files to leave out of the image `slim`, with the reason; patterns relative to the root."""

    paths: Many[Pattern] = ()
    strip: Many[Pattern] = ()
    reason: str = Field(min_length=1)

    @model_validator(mode="after")
    def _names_something(self) -> Prune:
        if not self.paths and not self.strip:
            raise ValueError("expected 'paths' or 'strip'")
        return self


class Accept(Table):
    """[[verify.accept]]: checks that may fail, by a pattern over their names, with the reason."""

    check: str = Field(min_length=1)
    reason: str = Field(min_length=1)


class Verify(Table):
    """[verify]: results of running an image that are not a failure."""

    accept: Many[Accept] = ()


class VerdictSettings(Table):
    """[verdict]: the saving, in percent of the baseline's layers, from which on an image is recommended."""

    min_saving_percent: float = Field(default=10.0, ge=0, lt=100, allow_inf_nan=False)


class Runtime(Table):
    """[runtime]: distribution packages beyond those that the stages find by themselves."""

    packages: NonEmpty[PackageName]


class Waiver(Table):
    """[[audit.waivers]]: findings that are accepted, with the reason, the date, and the date of expiry."""

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


class AuditSettings(Table):
    """[audit]: findings that are accepted, and the size from which on waste is a finding."""

    fail_on: Literal["error", "warning"] = "error"
    host_libraries: Many[Words] = ()
    allow: Many[Words] = ()
    least_mb: float = Field(default=1.0, ge=0, le=1e6, allow_inf_nan=False)
    waivers: Many[Waiver] = ()


class Context(Table):
    """The content of a named context in a Dockerfile. Exactly one of image, suite, target, urls, folder is given."""

    image: ImageReference | None = None
    digest: ImageDigest | None = None
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
            raise ValueError(f"expected exactly one of image, suite, target, urls or folder, not {said}")
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
    """[profiles.NAME.budget]: upper limits. Stages by label, such as "cuda/gdal"; a GB is 10^9 bytes."""

    tolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False)  # percent, added to every limit
    image_gb: dict[Name, Gigabytes] = Field(default_factory=dict)  # uncompressed layers
    stage_gb: dict[str, Gigabytes] = Field(default_factory=dict)  # the tree that a stage leaves
    cold_seconds: dict[str, Seconds] = Field(default_factory=dict)
    warm_seconds: dict[str, Seconds] = Field(default_factory=dict)


class Profile(Table):
    """[profiles.NAME]: the contents of the contexts, and the versions that are expected in the images."""

    description: str
    platform: Platform
    gdal: VersionText
    cuda: bool
    indexes: Many[Url] = ()
    cudnn: Cudnn | None = None
    disk_gb: Gigabytes
    gpu_arch: GpuArch | None = None
    contexts: dict[Name, Context] = Field(min_length=1)
    expect: dict[ComponentName, str] = Field(default_factory=dict)
    budget: Budget = Budget()

    @field_validator("expect")
    @classmethod
    def _are_versions(cls, expect: dict[str, str]) -> dict[str, str]:
        return {name: value if name in NO_VERSION else check_version(value) for name, value in expect.items()}

    @field_validator("contexts")
    @classmethod
    def _needs_exist(cls, contexts: dict[str, Context]) -> dict[str, Context]:
        builder = contexts.get(BUILDER)
        if builder and not (builder.image or builder.suite):
            raise ValueError(f"{BUILDER!r} is a system of the engine's own architecture; expected 'image' or 'suite'")
        suites = sorted({context.suite for context in contexts.values() if context.suite and context is not builder})
        if builder and builder.suite and builder.suite not in suites:
            raise ValueError(
                f"{BUILDER!r} is of suite {builder.suite!r}, and has to be of the release that is built for"
                + (f", which is {' or '.join(suites)}" if suites else ": name an image of it")
            )
        for name, context in contexts.items():
            for need in context.needs:
                if need not in contexts:
                    raise ValueError(
                        f"{name!r} needs {need!r}, which is not one of its contexts{suggest(need, contexts)}"
                    )
        try:
            TopologicalSorter({name: context.needs for name, context in contexts.items()}).prepare()
        except CycleError as error:
            raise ValueError(f"the contexts need each other in a circle: {' -> '.join(error.args[1])}") from None
        return contexts


class Config(Table):
    """All of build.toml."""

    project: ProjectSettings
    build: Build = Build()
    platform: PlatformSettings = PlatformSettings()
    images: dict[Name, ImageSettings] = Field(min_length=1)
    collect: Collect
    cudnn: Cudnn = Cudnn()
    gdal: Gdal
    python: Python
    runtime: Runtime
    prune: Many[Prune] = ()
    power: Power = Power()
    verify: Verify = Verify()
    verdict: VerdictSettings = VerdictSettings()
    groups: dict[GroupName, NonEmpty[Member]] = Field(default_factory=dict)
    audit: AuditSettings = AuditSettings()
    profiles: dict[Name, Profile] = Field(min_length=1)

    def pick_profile(self, name: str | None, *, architecture: str, platform: str | None = None) -> tuple[str, Profile]:
        """Return the profile called *name*, or the default one of the host's *architecture* (amd64, arm64).

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
                f"There is no profile {chosen!r}{suggest(chosen, self.profiles)}. "
                f"{FILE_NAME} has: {', '.join(self.profiles)}."
            )
        profile = self.profiles[chosen]
        if platform is None or platform == resolve_platform(profile, architecture=architecture):
            return chosen, profile
        if profile.platform != "host":
            raise ConfigError(f"--platform {platform}: profile {chosen!r} is for {profile.platform} and no other.")
        known = [f"linux/{each}" for each in MULTIARCH]
        if platform not in known:
            raise ConfigError(f"--platform {platform}: expected {' or '.join(known)}{suggest(platform, known)}.")
        derived = f"{chosen}-{architecture_of(platform)}"
        if derived in self.profiles:
            raise ConfigError(
                f"--platform {platform}: profile {chosen!r} would be called {derived!r} there, and {FILE_NAME} has a "
                "profile of that name: use that one, or rename it."
            )
        return derived, profile.model_copy(update={"platform": platform})

    def table_of(self, profile_name: str) -> str:
        """Return the table with a profile's settings: another profile's if this one is derived for another platform."""
        name = profile_name if profile_name in self.profiles else profile_name.rpartition("-")[0]
        return f"profiles.{name}"

    def cross_builds(self, profile: Profile, *, architecture: str) -> bool:
        """Return whether an engine of *architecture* cross-builds *profile*, which is for another architecture.

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
        """Return the source of cuDNN for *profile*: its own table, or else [cudnn]."""
        return profile.cudnn or self.cudnn

    def pick_images(self, names: tuple[str, ...]) -> dict[str, ImageSettings]:
        """Return the images called *names*, in build.toml's order; with no names, all that are not optional."""
        for name in names:
            if name not in self.images:
                raise ConfigError(
                    f"There is no image {name!r}{suggest(name, self.images)}. "
                    f"{FILE_NAME} has: {', '.join(self.images)}."
                )
        return {name: image for name, image in self.images.items() if (name in names if names else not image.optional)}


def resolve_platform(profile: Profile, *, architecture: str) -> str:
    """Return the profile's platform, with 'host' resolved to the engine's own architecture."""
    return f"linux/{architecture}" if profile.platform == "host" else profile.platform

"""build.toml becomes one frozen Config, or one error that names every fault in it.

The models are the schema: an unknown key, a wrong type or a value that breaks a rule is reported with its table and
key, all of them at once. Nothing here touches the network, the engine or the environment.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, TypeVar
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
GB = 10**9

# What containerd's platform parser accepts and Docker has images for.
KNOWN_PLATFORMS = (
    "linux/386", "linux/amd64", "linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm64", "linux/arm64/v8",
    "linux/loong64", "linux/mips64le", "linux/ppc64le", "linux/riscv64", "linux/s390x",
)  # fmt: skip
MULTIARCH = MappingProxyType({"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"})
CUDA_TARGET = MappingProxyType({"amd64": "x86_64-linux", "arm64": "aarch64-linux"})


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


def _version(text: str) -> str:
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
    specifiers = list(requirement.specifier)
    if len(specifiers) != 1 or specifiers[0].operator != "==" or specifiers[0].version.endswith(".*"):
        raise ValueError(f"{text!r} is not pinned: something like '{requirement.name}==1.2.3' is wanted")
    if requirement.url or requirement.marker:
        raise ValueError(f"{text!r}: a plain name==version is wanted, without URL or marker")
    return text


def _pattern(text: str) -> str:
    path = PurePosixPath(text)
    if path.is_absolute():
        raise ValueError(f"{text!r} is absolute: patterns are relative to the image's root")
    if not path.parts or ".." in path.parts:
        raise ValueError(f"{text!r} leaves the image's root: '..' and empty patterns are not allowed")
    if re.search(r"\s", text):
        raise ValueError(f"{text!r} has white space in it")
    return text


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
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or re.search(r"\s", text):
        raise ValueError(f"{text!r} is no http or https URL")
    if parts.username or parts.password:
        raise ValueError(
            f"a URL at {parts.hostname} holds credentials, which must not stand in a file that is committed: "
            "put them into pip's own settings, which reach the build as a secret"
        )
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


def _relative_path(path: Path) -> Path:
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"'{path}' must be a path below the project's folder")
    return path


T = TypeVar("T")
Many = Annotated[tuple[T, ...], Strict(strict=False)]  # TOML's arrays are lists
NonEmpty = Annotated[tuple[T, ...], Strict(strict=False), Field(min_length=1)]
Sha256 = Annotated[str, AfterValidator(_sha256)]
Digest = Annotated[str, AfterValidator(_digest)]
VersionText = Annotated[str, AfterValidator(_version)]
Pin = Annotated[str, AfterValidator(_pin)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Platform = Annotated[str, AfterValidator(_platform)]
Name = Annotated[str, AfterValidator(_name)]
Package = Annotated[str, AfterValidator(_package)]
Distribution = Annotated[str, AfterValidator(_distribution)]
Url = Annotated[str, AfterValidator(_url)]
Define = Annotated[str, AfterValidator(_define)]
Driver = Annotated[str, AfterValidator(_driver)]
RelativePath = Annotated[Path, Strict(strict=False), AfterValidator(_relative_path)]
AnyPath = Annotated[Path, Strict(strict=False)]
Gigabytes = Annotated[float, Strict(strict=False), Field(gt=0, allow_inf_nan=False)]


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
    stages: dict[Name, Many[str]] = Field(min_length=1)

    @field_validator("stages")
    @classmethod
    def _is_a_graph(cls, stages: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        try:
            TopologicalSorter(stages).prepare()
        except CycleError as error:
            raise ValueError(f"the stages need each other in a circle: {' -> '.join(error.args[1])}") from None
        last = set(stages).difference(*stages.values())
        if len(last) != 1:
            raise ValueError(f"exactly one stage must be needed by no other, here: {', '.join(sorted(last))}")
        return stages

    @property
    def final(self) -> str:
        """The stage that becomes the image."""
        return next(iter(set(self.stages).difference(*self.stages.values())))


class Collect(Table):
    """[collect]: what is taken out of JetPack, as glob patterns relative to the image's root."""

    required: NonEmpty[Pattern]
    optional: Many[Pattern] = ()


class Gdal(Table):
    """[gdal]: how GDAL is compiled."""

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


class Runtime(Table):
    """[runtime]: distribution packages beyond what the stages work out by themselves."""

    packages: NonEmpty[Package]


class Context(Table):
    """What a name in a Dockerfile stands for. Exactly one of image, suite, target, urls, folder is given."""

    image: str | None = None
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


class Profile(Table):
    """[profiles.NAME]: what the contexts stand for, and what is expected to come out."""

    description: str
    platform: Platform
    gdal: VersionText
    cuda: bool
    indexes: Many[Url] = ()
    disk_gb: Gigabytes
    contexts: dict[Name, Context] = Field(min_length=1)
    expect: dict[Name, VersionText] = Field(default_factory=dict)
    budget_gb: dict[Name, Gigabytes] = Field(default_factory=dict)

    @field_validator("contexts")
    @classmethod
    def _needs_exist(cls, contexts: dict[str, Context]) -> dict[str, Context]:
        for name, context in contexts.items():
            for need in context.needs:
                if need not in contexts:
                    raise ValueError(f"'{name}' needs '{need}', which is no context of it{suggest(need, contexts)}")
        try:
            TopologicalSorter({name: context.needs for name, context in contexts.items()}).prepare()
        except CycleError as error:
            raise ValueError(f"the contexts need each other in a circle: {' -> '.join(error.args[1])}") from None
        return contexts


class Config(Table):
    """All of build.toml."""

    project: Project
    build: Build = Build()
    images: dict[Name, Image] = Field(min_length=1)
    collect: Collect
    gdal: Gdal
    python: Python
    runtime: Runtime
    profiles: dict[Name, Profile] = Field(min_length=1)

    def pick_profile(self, name: str | None, *, architecture: str) -> tuple[str, Profile]:
        """The profile called *name*, or the default one of the host's *architecture* (amd64, arm64)."""
        chosen = name or self.project.default_profile.get(architecture)
        if chosen is None:
            raise ConfigError(
                f"{FILE_NAME}: [project] default_profile names none for {architecture}: add one, or use --profile."
            )
        if chosen not in self.profiles:
            raise ConfigError(
                f"there is no profile '{chosen}'{suggest(chosen, self.profiles)}. "
                f"{FILE_NAME} has: {', '.join(self.profiles)}."
            )
        return chosen, self.profiles[chosen]

    def pick_images(self, names: tuple[str, ...]) -> dict[str, Image]:
        """The images called *names*, in build.toml's order; all of them where none is named."""
        for name in names:
            if name not in self.images:
                raise ConfigError(
                    f"there is no image '{name}'{suggest(name, self.images)}. "
                    f"{FILE_NAME} has: {', '.join(self.images)}."
                )
        return {name: image for name, image in self.images.items() if not names or name in names}


def resolve_platform(profile: Profile, *, architecture: str) -> str:
    """The profile's platform, with 'host' resolved to the engine's own architecture."""
    return f"linux/{architecture}" if profile.platform == "host" else profile.platform


def architecture_of(platform: str) -> str:
    """'linux/arm64/v8' -> 'arm64'."""
    return platform.split("/")[1]


# --- reading


def load(path: Path) -> Config:
    """Read and validate *path*. Raises ConfigError with one line for every fault."""
    try:
        raw = tomli.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file. Run from the project's folder, or set JETPARE_ROOT."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 (byte {error.start}), which TOML has to be.") from None
    except tomli.TOMLDecodeError as error:
        raise ConfigError(f"{path}: line {error.lineno}, column {error.colno}: not TOML: {error.msg}.") from None
    faults: list[str] = []
    config = None
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        faults = [_fault(path.name, details) for details in error.errors()]
    faults += [f"{path.name}: {fault}" for fault in _cross_faults(raw)]
    if faults or config is None:
        raise ConfigError("\n".join(dict.fromkeys(faults)))
    return config


def suggest(word: str, known: Any) -> str:  # noqa: ANN401 - any iterable of names, mappings included
    """', did you mean X?' where something is close, else ''."""
    close = difflib.get_close_matches(word, [str(name) for name in known], n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _fault(file: str, details: Mapping[str, Any]) -> str:
    location = [part for part in details["loc"] if part != "[key]"]
    if details["type"] == "extra_forbidden":
        *tables, key = location
        known = _known_keys(tables)
        kind = "table" if isinstance(details["input"], dict) else "key"
        return f"{file}: {_place(tables)}: unknown {kind} '{key}'{suggest(str(key), known)}"
    *tables, key = location
    item = ""
    if isinstance(key, int) and tables:  # an item of an array
        item, key = f" item {key + 1}", tables.pop()
    if details["type"] == "missing":
        return f"{file}: {_place(tables)}: '{key}' is missing"
    return f"{file}: {_place(tables)} {key}{item}: {_complaint(details)}"


def _complaint(details: Mapping[str, Any]) -> str:
    wanted = {
        "string_type": "a string", "int_type": "a whole number", "bool_type": "true or false", "float_type": "a number",
        "float_parsing": "a number", "tuple_type": "an array", "dict_type": "a table", "model_type": "a table",
        "path_type": "a path, as a string",
    }.get(details["type"])  # fmt: skip
    if wanted:
        return f"wrong type: {wanted} is wanted, here: {details['input']!r}"
    if details["type"] == "too_short":
        return "must not be empty"
    return str(details["msg"]).removeprefix("Value error, ")


def _place(tables: list[str | int]) -> str:
    names = [name if re.fullmatch(r"[A-Za-z0-9_-]+", str(name)) else f'"{name}"' for name in tables]
    return f"[{'.'.join(str(name) for name in names)}]" if names else "top level"


def _known_keys(tables: list[str | int]) -> list[str]:
    """The keys that the table at this place may have, found by walking the models."""
    place: Any = Config
    for name in tables:
        field = place.model_fields.get(str(name)) if isinstance(place, type) and issubclass(place, BaseModel) else None
        if field is not None:
            place = field.annotation
        elif hasattr(place, "__args__"):
            place = place.__args__[-1]  # dict[Name, Model]
        if hasattr(place, "__args__") and name == tables[-1]:
            place = place.__args__[-1]
    return list(place.model_fields) if isinstance(place, type) and issubclass(place, BaseModel) else []


def _cross_faults(raw: Mapping[str, Any]) -> Iterator[str]:
    """Names that point at nothing, looked for in the raw file so that they are reported beside all other faults."""
    images, profiles, project = (_dict(raw.get(key)) for key in ("images", "profiles", "project"))
    baseline = project.get("baseline")
    if isinstance(baseline, str) and baseline not in images:
        yield f"[project] baseline: there is no image '{baseline}'{suggest(baseline, images)}"
    for architecture, profile in _dict(project.get("default_profile")).items():
        if profile not in profiles:
            unknown = f"there is no profile '{profile}'{suggest(str(profile), profiles)}"
            yield f"[project] default_profile.{architecture}: {unknown}"
    for name, profile in profiles.items():
        for image in _dict(_dict(profile).get("budget_gb")):
            if image not in images:
                unknown = f"there is no image '{image}'{suggest(image, images)}"
                yield f"{_place(['profiles', name, 'budget_gb'])} {image}: {unknown}"
    contexts = {name: _dict(_dict(profile).get("contexts")) for name, profile in profiles.items()}
    for image, table in images.items():
        yield from _unknown_needs(image, _dict(table), {name: known for name, known in contexts.items() if known})


def _unknown_needs(image: str, table: dict[str, Any], contexts: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Needs of an image's stages that are neither its stages nor contexts, with the profiles that lack them."""
    stages = _dict(table.get("stages"))
    wanted: list[tuple[str, Any, list[str]]] = [("base", table.get("base"), [])]
    for stage, needs in stages.items():
        wanted += [(f"stages.{stage}", need, list(stages)) for need in (needs if isinstance(needs, list) else ())]
    for key, need, others in wanted:
        lacking = [name for name, known in contexts.items() if need not in known and need not in others]
        if isinstance(need, str) and lacking:
            known = [*others, *contexts[lacking[0]]]
            what = "no stage of the image and no context" if others else "no context"
            yield (
                f"{_place(['images', image])} {key}: '{need}' is {what} of profile {' and '.join(lacking)}"
                f"{suggest(need, known)}"
            )


def _dict(value: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever TOML may hold
    return value if isinstance(value, dict) else {}

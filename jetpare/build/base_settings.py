"""Read the settings of a base image (ENV, CMD, labels ...), and hand them to an image that starts from nothing.

An image that is built `FROM scratch` inherits no settings. The bake definition gives it another image in place of
scratch, whose Dockerfile is generated from the real base's configuration, so that nobody has to type that again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypedDict, TypeVar

import msgspec

from jetpare.base import process
from jetpare.base.errors import EngineError, ToolError
from jetpare.engine import api, image_store
from jetpare.engine.model import Engine

T = TypeVar("T")
BaseSettings = Mapping[str, Any]  # the `Config` of an image, as the OCI image specification has it
REGISTRY_SECONDS = 60.0
RECORD = "/usr/share/jetpare/base-settings.json"  # the settings that were handed on, in the image


class _HealthCheck(TypedDict, total=False):
    Test: list[str] | None
    Interval: int | None  # nanoseconds, as all times
    Timeout: int | None
    StartPeriod: int | None
    Retries: int | None


class _Settings(TypedDict, total=False):
    """The settings that are handed on, typed as in the OCI image specification. Engines write null for an empty one.

    Not ONBUILD: its instructions are for whoever builds on the base, and ran when the image was built on it.
    """

    Env: list[str] | None
    Labels: dict[str, str] | None
    WorkingDir: str | None
    User: str | None
    StopSignal: str | None
    ExposedPorts: dict[str, Any] | None
    Volumes: dict[str, Any] | None
    Shell: list[str] | None
    Entrypoint: list[str] | None
    Cmd: list[str] | None
    Healthcheck: _HealthCheck | None


class _EngineImage(TypedDict, total=False):
    """An image in the engine, as its API describes it."""

    Os: str | None
    Architecture: str | None
    Variant: str | None
    Config: _Settings | None


class _RegistryImage(TypedDict, total=False):
    """An image in a registry, as `buildx imagetools inspect` prints it."""

    os: str | None
    architecture: str | None
    variant: str | None
    config: _Settings | None


HANDED_ON = tuple(_Settings.__annotations__)


def read(running: Engine, reference: str, *, platform: str) -> BaseSettings:
    """Return the settings of the image *reference*: as the engine has it, else as its registry has it.

    Raises EngineError where neither has it for *platform*, or where one gives something else than settings.
    """
    from docker.errors import ImageNotFound

    with api.client(running) as docker:
        try:
            image = _typed(image_store.inspected(docker, reference), _EngineImage, "image inspect", reference)
        except ImageNotFound:
            return _of_registry(running, reference, platform)
    found = {"os": image.get("Os"), "architecture": image.get("Architecture"), "variant": image.get("Variant")}
    if image_store.of_platform(found, platform):
        return dict(image.get("Config") or {})
    return _of_registry(running, reference, platform)


def _of_registry(running: Engine, reference: str, platform: str) -> BaseSettings:
    argv = [running.docker, "buildx", "imagetools", "inspect", "--format", "{{json .Image}}", reference]
    try:
        answer = json.loads(process.run(argv, env=running.env, timeout=REGISTRY_SECONDS))
    except (ToolError, ValueError) as error:
        raise EngineError(
            f"{reference}: the settings of this base cannot be read, because the engine does not have the image and "
            f"its registry does not answer: {error}\nGet the image: `docker pull --platform {platform} {reference}`"
        ) from error
    # An index gives its images by platform, a single image itself.
    single = isinstance(answer, dict) and ("config" in answer or "rootfs" in answer)
    images = _typed(
        {platform: answer} if single else answer, dict[str, _RegistryImage], "buildx imagetools inspect", reference
    )
    for image in images.values():
        if image_store.of_platform(image, platform):
            return dict(image.get("config") or {})
    raise EngineError(f"{reference}: its registry has no image for {platform}. Correct the context in build.toml.")


def _typed(answer: object, kind: type[T], command: str, reference: str) -> T:
    """Return *answer* as a *kind*. Raises EngineError, with the command that shows it, where it is something else."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise EngineError(
            f"{reference}: the answer about this base is not that of an image: {error}. "
            f"Look at it: `docker {command} {reference}`"
        ) from error


def dockerfile(settings: BaseSettings) -> tuple[str, dict[str, str]]:
    """Return a Dockerfile that makes an image with *settings* and nothing but their record, and its build arguments.

    Free text goes into build arguments, which need no quoting: a value may hold quotes, dollar signs and line ends.
    BuildKit cannot hand on an image without a layer, so the record is what its layer holds.
    """
    settings = {name: settings[name] for name in HANDED_ON if settings.get(name)}
    arguments: dict[str, str] = {}

    def given(value: object) -> str:
        name = f"SETTING_{len(arguments)}"
        arguments[name] = str(value)
        lines.append(f"ARG {name}")
        return f"${{{name}}}"

    record = json.dumps(settings, indent=1, sort_keys=True)
    lines = ["FROM scratch", f"COPY <<'END' {RECORD}", *record.splitlines(), "END"]
    for entry in settings.get("Env", ()):
        name, _, value = entry.partition("=")
        lines.append(f"ENV {name}={given(value)}")
    for key, value in sorted(settings.get("Labels", {}).items()):
        lines.append(f"LABEL {_quoted(key)}={given(value)}")
    for instruction in ("WorkingDir", "User", "StopSignal"):
        value = settings.get(instruction)
        if value and (instruction, value) != ("WorkingDir", "/"):  # '/' is the default, and would be a layer of its own
            lines.append(f"{instruction.upper().replace('WORKINGDIR', 'WORKDIR')} {given(value)}")
    lines += [f"EXPOSE {port}" for port in sorted(settings.get("ExposedPorts", ()))]
    if volumes := sorted(settings.get("Volumes", ())):
        lines.append(f"VOLUME {json.dumps(volumes)}")
    for instruction in ("Shell", "Entrypoint", "Cmd"):
        if instruction in settings:
            lines.append(f"{instruction.upper()} {json.dumps(settings[instruction])}")
    lines += _healthcheck(settings.get("Healthcheck", {}))
    return "\n".join(lines) + "\n", arguments


def _quoted(key: str) -> str:
    return json.dumps(key).replace("$", "\\$")


def _healthcheck(check: Mapping[str, Any]) -> list[str]:
    """Return the HEALTHCHECK instruction, if any; the configuration counts times in nanoseconds."""
    kind, *words = check.get("Test") or [""]
    if not kind:
        return []
    if kind == "NONE":
        return ["HEALTHCHECK NONE"]
    times = {"Interval": "interval", "Timeout": "timeout", "StartPeriod": "start-period"}
    flags = [f"--{flag}={check[name]}ns" for name, flag in times.items() if check.get(name)]
    flags += [f"--retries={check['Retries']}"] if check.get("Retries") else []
    command = json.dumps(["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words)
    return [" ".join(["HEALTHCHECK", *flags, "CMD", command])]

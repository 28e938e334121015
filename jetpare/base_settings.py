"""Read the settings of a base image (ENV, CMD, labels ...), and hand them to an image that starts from nothing.

An image that is built `FROM scratch` inherits no settings. The bake definition gives it an empty image in place of
scratch, whose Dockerfile is generated from the real base's configuration, so that nobody has to type that again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jetpare import engine, process
from jetpare.engine import Engine
from jetpare.errors import EngineError, ToolError

Settings = Mapping[str, Any]  # the `Config` of an image as engines and registries write it (OCI image specification)
REGISTRY_SECONDS = 60.0


def read(running: Engine, reference: str, *, platform: str) -> Settings:
    """Return the settings of the image *reference*: as the engine has it, else as its registry has it.

    Raises EngineError where neither has it for *platform*.
    """
    from docker.errors import ImageNotFound

    with engine.client(running) as docker:
        try:
            image = engine.inspected(docker, reference)
        except ImageNotFound:
            image = {}
    found = {"os": image.get("Os"), "architecture": image.get("Architecture"), "variant": image.get("Variant")}
    if image and engine.of_platform(found, platform):
        return dict(image.get("Config") or {})
    return _of_registry(running, reference, platform)


def _of_registry(running: Engine, reference: str, platform: str) -> Settings:
    argv = [running.docker, "buildx", "imagetools", "inspect", "--format", "{{json .Image}}", reference]
    try:
        answer = json.loads(process.run(argv, env=running.env, timeout=REGISTRY_SECONDS))
    except (ToolError, ValueError) as error:
        raise EngineError(
            f"{reference}: the settings of this base cannot be read, because the engine does not have the image and "
            f"its registry does not answer: {error}\nGet the image: `docker pull --platform {platform} {reference}`"
        ) from error
    # An index gives its images by platform, a single image itself.
    images = [answer] if "config" in answer or "rootfs" in answer else list(answer.values())
    for image in images:
        if engine.of_platform(image, platform):
            return dict(image.get("config") or {})
    raise EngineError(f"{reference}: its registry has no image for {platform}. Correct the context in build.toml.")


def dockerfile(settings: Settings) -> tuple[str, dict[str, str]]:
    """Return a Dockerfile that makes an empty image with *settings*, and its build arguments.

    Free text goes into build arguments, which need no quoting: a value may hold quotes, dollar signs and line ends.
    Its build context is an empty folder, which is copied because BuildKit cannot hand on an image without a layer.
    ONBUILD is left out: its instructions are for whoever builds on the base, and ran when the image was built on it.
    """
    arguments: dict[str, str] = {}

    def given(value: object) -> str:
        name = f"SETTING_{len(arguments)}"
        arguments[name] = str(value)
        lines.append(f"ARG {name}")
        return f"${{{name}}}"

    lines = ["FROM scratch", "COPY . /"]
    for entry in settings.get("Env") or ():
        name, _, value = entry.partition("=")
        lines.append(f"ENV {name}={given(value)}")
    for key, value in sorted((settings.get("Labels") or {}).items()):
        lines.append(f"LABEL {_quoted(key)}={given(value)}")
    for instruction in ("WorkingDir", "User", "StopSignal"):
        value = settings.get(instruction)
        if value and (instruction, value) != ("WorkingDir", "/"):  # '/' is the default, and would be a layer of its own
            lines.append(f"{instruction.upper().replace('WORKINGDIR', 'WORKDIR')} {given(value)}")
    lines += [f"EXPOSE {port}" for port in sorted(settings.get("ExposedPorts") or ())]
    if volumes := sorted(settings.get("Volumes") or ()):
        lines.append(f"VOLUME {json.dumps(volumes)}")
    for instruction in ("Shell", "Entrypoint", "Cmd"):
        if settings.get(instruction):
            lines.append(f"{instruction.upper()} {json.dumps(settings[instruction])}")
    lines += _healthcheck(settings.get("Healthcheck") or {})
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

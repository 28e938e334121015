"""Find the engine to use, and a Docker CLI that can talk to it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from jetpare.base.errors import EngineError, ToolError
from jetpare.engine import api
from jetpare.engine.model import DEFAULT_HOST, Endpoint, Engine

if TYPE_CHECKING:
    from collections.abc import Mapping


def find(*, state: Path, environ: Mapping[str, str]) -> Engine:
    """Open the engine that DOCKER_HOST or the docker context names, if it answers; else the private one in *state*.

    Raises EngineError if none answers. An engine that DOCKER_HOST or DOCKER_CONTEXT names explicitly has to answer:
    no other one is used instead.
    """
    from jetpare.engine import folders

    named = next((name for name in ("DOCKER_HOST", "DOCKER_CONTEXT") if environ.get(name)), None)
    private = folders.engine(state=state, environ=environ)
    if named is None and _nothing_to_ask(environ):
        trouble = f"{DEFAULT_HOST}: there is no such socket"
    else:
        candidate = with_tools(at=api.endpoint(environ), state=state, environ=environ)
        trouble = api.not_answering(candidate)
        if not trouble:
            return candidate
        candidate.close()
    if named is not None:
        raise EngineError(
            f"{named}={environ[named]}: the engine does not answer ({trouble}). "
            f"Start it, correct {named}, or run `unset {named}` to let jetpare find another engine."
        )
    if private is not None and not api.not_answering(private):
        return private
    raise EngineError(
        f"No Docker engine answers ({trouble}). Start Docker, point DOCKER_HOST or a docker context at an engine, "
        "or run `invoke engine-up`, which makes a private one (Linux with apt, as root)."
    )


def _nothing_to_ask(environ: Mapping[str, str]) -> bool:
    """Return whether there is neither a Docker CLI (and so no context) nor the default socket."""
    no_cli = shutil.which("docker", path=environ.get("PATH")) is None
    return no_cli and not Path(DEFAULT_HOST.removeprefix("unix://")).exists()


def with_tools(*, at: Endpoint, state: Path, environ: Mapping[str, str]) -> Engine:
    """Return the engine *at* an address with a CLI that has buildx: the host's own, else the private root's."""
    from jetpare.engine import folders

    docker = shutil.which("docker", path=environ.get("PATH"))
    spare = folders.tools(state=state)
    overrides = dict(at.variables)
    if docker is None and spare is None:
        raise ToolError("docker: not found. Install the Docker CLI with its buildx plugin, or run `invoke engine-up`.")
    if spare is not None and (docker is None or not api.has_buildx(docker, environ)):
        docker = docker or str(spare.docker)
        overrides["DOCKER_CONFIG"] = str(folders.cli_config(state=state, environ=environ))
    env = api.pinned(environ) if at.variables else environ
    return Engine(
        docker=str(docker), env={**env, **overrides}, overrides=overrides, private=False, host=at.host, tls=at.tls
    )

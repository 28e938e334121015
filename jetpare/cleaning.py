"""Removes what this project made, and nothing else: images by their label or tag, files below the state folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

from jetpare import bake, engine, ledger
from jetpare.bake import LABEL_PROJECT
from jetpare.config import CUDA_TARGET
from jetpare.engine import Engine
from jetpare.errors import ConfigError
from jetpare.plan import Kind
from jetpare.project import Project
from jetpare.units import size_text

if TYPE_CHECKING:
    from docker import DockerClient

# Every RUN of our Dockerfiles mounts its script there, and BuildKit describes a cache record by its command.
OUR_COMMANDS = "/run/jetpare/"


def clean(project: Project, running: Engine, *, cache: bool) -> Iterator[str]:
    """Do it, and say one line for each thing done. Raises BusyError while a build is under way."""
    with ledger.exclusive(project.state_path):
        with engine.client(running) as docker:
            yield from _images(docker, project)
            if cache:
                yield from _build_cache(docker, everything=running.private)
        folders = ["reports", "secrets", "empty", "inventories", "layers", *(["downloads"] if cache else [])]
        for name in folders:
            shutil.rmtree(project.state_path / name, ignore_errors=True)
        # Not every file there: power.json says what a board has to get back.
        for pattern in ("bake.json", "dry-run-*.json", "rebuild.json", "*-metadata.json"):
            for file in project.state_path.glob(pattern):
                file.unlink()
        yield f"The run records stay in {project.state / 'runs'}."


def _images(docker: DockerClient, project: Project) -> Iterator[str]:
    ours = our_tags(project)
    labelled = docker.api.images(filters={"label": f"{LABEL_PROJECT}={project.config.project.name}"})
    tagged = [image for image in docker.api.images() if ours & set(image.get("RepoTags") or ())]
    removed = 0
    for image in {str(image["Id"]): image for image in [*labelled, *tagged]}.values():
        tags = set(image.get("RepoTags") or ()) - {"<none>:<none>"}
        # An image that someone gave a name of their own keeps it, and loses ours.
        for reference in sorted(tags & ours) or ([] if tags else [str(image["Id"])]):
            yield from _remove(docker, reference)
            removed += 1
    if not removed:
        yield "There are no images of this project."


def our_tags(project: Project) -> set[str]:
    """Every tag that this project can give, by its build.toml."""
    found = set()
    for name in project.config.profiles:
        for architecture, target in product(CUDA_TARGET, CUDA_TARGET):
            try:
                plan = project.plan(profile=name, architecture=architecture, platform=f"linux/{target}")
            except ConfigError:  # what cannot be built for that platform has no tag
                continue
            found |= {bake.input_tag(project.config, plan, context) for context in plan.profile.contexts}
            found |= {bake.image_tag(project.config, image, plan.profile_name) for image in plan.images}
            found |= {bake.shell_tag(project.config, plan, node) for node in plan.nodes if node.kind is Kind.STAGE}
    return found


def _remove(docker: DockerClient, reference: str) -> Iterator[str]:
    from docker.errors import APIError, ImageNotFound

    try:
        docker.api.remove_image(reference)
    except ImageNotFound:
        return  # it went with another name
    except APIError as error:
        yield f"{reference} stays: {error.explanation or error}"
        return
    yield f"{reference} removed"


def _build_cache(docker: DockerClient, *, everything: bool) -> Iterator[str]:
    if everything:  # a private engine holds nothing that is not ours
        freed = int(docker.api.prune_builds(all=True).get("SpaceReclaimed") or 0)
        yield f"build cache: {size_text(freed)} freed"
        return
    # On an engine that others use, layers cannot be told apart safely: removing single ones breaks those that stand on
    # them. Cache mounts stand alone, and theirs is most of the space.
    records = docker.df().get("BuildCache") or []
    freed = sum(_prune(docker, str(record.get("ID"))) for record in records if _is_our_mount(record))
    yield (
        f"cache mounts: {size_text(freed)} freed. The engine is not this project's own, so its layer cache "
        "stays; `docker builder prune` removes it, with everybody's."
    )


def _is_our_mount(record: dict[str, Any]) -> bool:
    return record.get("Type") == "exec.cachemount" and OUR_COMMANDS in str(record.get("Description") or "")


def _prune(docker: DockerClient, identity: str) -> int:
    answer = docker.api.prune_builds(all=True, filters={"id": [identity]})  # type: ignore[arg-type] # the stubs lack id
    return int(answer.get("SpaceReclaimed") or 0)

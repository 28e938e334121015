"""Remove what this project made, and nothing else: images by their label or tag, files below the state folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from jetpare.base.errors import ConfigError
from jetpare.base.units import size_text
from jetpare.build import ownership
from jetpare.build.shell import LABEL_SHELL
from jetpare.config.values import CUDA_TARGET, LABEL_PROJECT
from jetpare.engine import api, containers, image_store
from jetpare.engine.model import Engine
from jetpare.project import naming
from jetpare.project.plan import NodeKind
from jetpare.project.project import Project
from jetpare.records import ledger

if TYPE_CHECKING:
    from docker import DockerClient


def clean(project: Project, running: Engine, *, cache: bool) -> Iterator[str]:
    """Remove the images, with *cache* the caches too, and yield a line for each. Raises BusyError during a build."""
    with ledger.exclusive(project.state_path):
        with api.client(running) as docker:
            yield from _images(docker, project, private=running.private)
            if cache:
                yield from _build_cache(docker, everything=running.private)
        folders = ["reports", "secrets", "empty", "inventories", "layers", "kept", *(["downloads"] if cache else [])]
        for name in folders:
            shutil.rmtree(project.state_path / name, ignore_errors=True)
        # Not every file there: power.json says what has to be restored on the board.
        for pattern in ("bake.json", "dry-run-*.json", "rebuild.json", "*-metadata.json"):
            for file in project.state_path.glob(pattern):
                file.unlink()
        yield f"The run records stay in {project.state / 'runs'}."


def _images(docker: DockerClient, project: Project, *, private: bool) -> Iterator[str]:
    """Remove the images that this checkout made, and its names of others.

    Another checkout of the project uses the same names. So an image that no record here knows keeps its last name:
    removing that would remove the image. A *private* engine has no images of another checkout.
    """
    ours, made = Names.of(project), ownership.made_ids(project.state_path)
    removed, foreign, shells = 0, set[str](), set[str]()
    for image in _candidates(docker, project, ours):
        identity, shell = str(image["Id"]), (image.get("Labels") or {}).get(LABEL_SHELL)
        tags = set(image.get("RepoTags") or ()) - {"<none>:<none>"}
        names = {tag for tag in tags if ours.cover(tag)}
        if shell and not containers.is_orphan(shell):
            shells.add(min(tags, default=identity))
        elif identity not in made and (not tags or (not shell and not private and names == tags)):
            foreign.add(min(tags, default=identity))  # without a name it may be somebody's work on top of ours
        else:  # an image that someone gave a name of their own keeps it, and loses ours
            for reference in sorted(names) or ([] if tags else [identity]):
                yield from _remove(docker, reference)
                removed += 1
    if shells:
        yield f"Not removed, because a shell may still be open in them: {_and_how(shells)}"
    if foreign:
        yield (
            "Not removed, because no run recorded in this folder made them (they may be another checkout's): "
            f"{_and_how(foreign)}"
        )
    if not (removed or shells or foreign):
        yield "There are no images of this project."


def _candidates(docker: DockerClient, project: Project, ours: Names) -> list[dict[str, Any]]:
    """Return the engine's entry of every image that has the project's label or one of its names."""
    labelled = docker.api.images(filters={"label": f"{LABEL_PROJECT}={project.config.project.name}"})
    tagged = [image for image in docker.api.images() if any(map(ours.cover, image.get("RepoTags") or ()))]
    return list({str(image["Id"]): image for image in [*labelled, *tagged]}.values())


def _and_how(names: Iterable[str]) -> str:
    """Return the names of the images, and the command that removes them."""
    return f"{', '.join(sorted(names))}. To remove them all the same: docker rmi {' '.join(sorted(names))}"


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names that a project can give to images, by its build.toml."""

    tags: frozenset[str]
    shells: frozenset[str]  # to which each shell adds a part of its own, after a dash

    @classmethod
    def of(cls, project: Project) -> Names:
        """Collect them from every profile and platform."""
        tags, shells = set[str](), set[str]()
        for name in project.config.profiles:
            for architecture, target in product(CUDA_TARGET, CUDA_TARGET):
                try:
                    plan = project.plan(profile=name, architecture=architecture, platform=f"linux/{target}")
                except ConfigError:  # what cannot be built for that platform has no tag
                    continue
                tags |= {naming.input_tag(project.config, plan, context) for context in plan.profile.contexts}
                tags |= {naming.image_tag(project.config, image, plan.profile_name) for image in plan.images}
                shells |= {
                    naming.shell_tag(project.config, plan, each) for each in plan.nodes if each.kind is NodeKind.STAGE
                }
        return cls(tags=frozenset(tags), shells=frozenset(shells))

    def cover(self, tag: str) -> bool:
        """Return whether *tag* is one of them."""
        return tag in self.tags or tag in self.shells or tag.rpartition("-")[0] in self.shells


def _remove(docker: DockerClient, reference: str) -> Iterator[str]:
    from docker.errors import APIError, ImageNotFound

    try:
        docker.api.remove_image(reference)
    except ImageNotFound:
        return  # it was removed with another name
    except APIError as error:
        yield f"{reference} stays: {error.explanation or error}"
        return
    yield f"{reference} removed"


def _build_cache(docker: DockerClient, *, everything: bool) -> Iterator[str]:
    if everything:  # everything in a private engine is ours
        freed = int(docker.api.prune_builds(all=True).get("SpaceReclaimed") or 0)
        yield f"build cache: {size_text(freed)} freed"
        return
    # On an engine that others use, removing single layers would break those that are built on them. Cache mounts are
    # independent, and take most of the space.
    records = docker.df().get("BuildCache") or []
    freed = sum(_prune(docker, str(record.get("ID"))) for record in records if _is_our_mount(record))
    yield (
        f"cache mounts: {size_text(freed)} freed. The engine is not this project's own, so its layer cache "
        "stays. To remove it, with everybody's: `docker builder prune`."
    )


def _is_our_mount(record: dict[str, Any]) -> bool:
    return record.get("Type") == "exec.cachemount" and image_store.is_our_cache(record)


def _prune(docker: DockerClient, identity: str) -> int:
    answer = docker.api.prune_builds(all=True, filters={"id": [identity]})  # type: ignore[arg-type] # the stubs lack id
    return int(answer.get("SpaceReclaimed") or 0)

"""Turn what a person asked for into bake options, labels and expectations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jetpare import __version__
from jetpare.base.files import json_object, write_atomically
from jetpare.build import bake, base_settings, inputs
from jetpare.config.values import LABEL_PROJECT
from jetpare.engine.model import Engine
from jetpare.project.plan import Node, Plan
from jetpare.project.project import Project
from jetpare.records import ledger
from jetpare.records.ledger import Record, StageRecord

UNCHANGED = "unchanged"
REBUILD = "rebuild.json"  # PROFILE/LABEL of stages that were built again -> run: later builds use what came out


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for beyond the plan."""

    task: str
    parallel: bool = False  # one solve for everything: shortest, but times overlap
    power: str = ""  # the mode to hold; empty: build.toml's
    cold: bool = False  # no layer cache, and cache mounts of its own
    again: frozenset[str] = frozenset()  # labels of stages to build again although nothing changed


def options(project: Project, plan: Plan, request: Request, *, run: str, revision: str | None) -> bake.Options:
    """What the definition needs for *request*."""
    # The run's own CACHE_ID, an argument of every stage, already makes every RUN miss the layer cache. Stages that are
    # timed one by one are built fresh besides, so that none finds what another one left: no-cache-filter empties their
    # cache mounts. Side by side, that would make both images download and compile the same.
    alone = request.cold and not request.parallel
    return bake.Options(
        state=project.state,
        cache_id=run if request.cold else "shared",
        fresh=frozenset(node.label for node in plan.nodes if node.baked) if alone else frozenset(),
        rebuild=rebuilt(project, plan) | dict.fromkeys(request.again, run),
        labels={name: image_labels(project.config.project.name, plan, name, revision) for name in plan.images},
    )


def rebuilding_runs(project: Project) -> tuple[str, ...]:
    """Return the ids of the runs that built stages of any profile again although nothing had changed."""
    return tuple(run for run in json_object(project.state_path / REBUILD).values() if isinstance(run, str))


def rebuilt(project: Project, plan: Plan) -> dict[str, str]:
    """By label, the run that last built a stage of this profile again although nothing had changed."""
    prefix = f"{plan.profile_name}/"
    known = json_object(project.state_path / REBUILD)
    return {key.removeprefix(prefix): run for key, run in known.items() if key.startswith(prefix) and type(run) is str}


def settings_of_bases(
    project: Project, plan: Plan, running: Engine, nodes: Sequence[Node]
) -> dict[str, base_settings.BaseSettings]:
    """Return, by image, the settings of its base, for those of *nodes* that start from nothing but these.

    Raises EngineError where a base is neither in the engine nor in its registry.
    """
    found = {}
    for node in nodes:
        if bake.starts_from_settings(plan, node):
            reference = bake.context_reference(project.config, plan, plan.images[node.group].base)
            found[node.group] = base_settings.read(running, reference, platform=plan.platform)
    return found


def image_labels(project_name: str, plan: Plan, image: str, revision: str | None) -> dict[str, str]:
    """OCI annotations and ours. Nothing that changes by itself, such as a date: it would change the digest."""
    table = plan.images[image]
    base = plan.profile.contexts[table.base]
    labels = {
        "org.opencontainers.image.title": image,
        "org.opencontainers.image.description": table.description,
        "org.opencontainers.image.revision": revision or "",
        "org.opencontainers.image.base.name": base.image or f"{table.base} (stand-in)",
        "org.opencontainers.image.base.digest": base.digest or "",
        LABEL_PROJECT: project_name,
        "jetpare.version": __version__,
        "jetpare.image": image,
        "jetpare.profile": plan.profile_name,
        "jetpare.profile.description": plan.profile.description,
        "jetpare.platform": plan.platform,
        **{f"jetpare.expect.{name}": version for name, version in plan.profile.expect.items()},
    }
    return {key: value for key, value in labels.items() if value}


def expectations(project: Project, plan: Plan) -> dict[str, str]:
    """For every node: whether its inputs are those of its last good build. More only BuildKit knows."""
    kept = project.ledger
    request = Request(task="plan")
    content = bake.definition(project.config, plan, options(project, plan, request, run="plan", revision=None))
    found = {}
    for node in plan.nodes:
        good = kept.latest(profile=plan.profile_name, label=node.label, status=ledger.OK)
        last = kept.latest(profile=plan.profile_name, label=node.label)
        if good and (not node.baked or _same(project, content, node, good)):
            found[node.label] = f"{UNCHANGED} since run {good[0].id}"
        elif last and last[1].status != ledger.OK:
            found[node.label] = f"{last[1].status} in run {last[0].id}"
        else:
            found[node.label] = f"changed since run {good[0].id}" if good else "never built here"
    return found


def unchanged_labels(project: Project, plan: Plan) -> frozenset[str]:
    """Return the labels of the nodes whose inputs are those of their last good build."""
    found = expectations(project, plan)
    return frozenset(label for label, words in found.items() if words.startswith(UNCHANGED))


def keep_rebuilds(project: Project, plan: Plan, request: Request, nodes: Sequence[Node], *, run: str) -> None:
    """Remember which of *nodes* *run* built again though nothing had changed, so that later builds use what came out.

    Call it once they are built: after a run that failed or was interrupted, what was built before is still used.
    """
    again = [node.label for node in nodes if node.label in request.again]
    if not again:
        return
    known = json_object(project.state_path / REBUILD)
    known |= {f"{plan.profile_name}/{label}": run for label in again}
    write_atomically(project.state_path / REBUILD, json.dumps(known) + "\n")


def _same(project: Project, content: Mapping[str, Any], node: Node, good: tuple[Record, StageRecord]) -> bool:
    """Whether *node* is what it was in its last good run, and nothing of it was to be built again since."""
    record, row = good
    return row.inputs == inputs.inputs_digest(project.root, content, node) and (
        ledger.order(inputs.newest_rebuild(content, node)) <= ledger.order(record.id)
    )

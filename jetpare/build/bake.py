"""Turn a plan into a bake definition.

The definition is data and is built without an engine. Every stage is a target whose Dockerfile target is
'<stage>-report': exporting the small record that a stage leaves builds the stage itself. The last stage is exported
without a name, and the pipeline tags it when its checks have passed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from jetpare.build import base_settings
from jetpare.build.base_settings import BaseSettings
from jetpare.config.schema import Config, Prune
from jetpare.config.values import BUILDER, INPUTS, LABEL_PROJECT, WHEELS, architecture_of, filled
from jetpare.project.naming import (
    BASE,
    BASE_SETTINGS,
    NEW_ROOT,
    REBUILD_PREFIX,
    SECRETS,
    download_folder,
    input_tag,
    report_folder,
    secret_file,
)
from jetpare.project.plan import CUDNN, Node, NodeKind, Plan

CUDNN_KEY = "cudnn-key"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a definition needs beyond build.toml. Paths are relative to the project's folder, where bake runs."""

    state: Path  # .jetpare
    cache_id: str = "shared"  # part of every cache mount's id
    fresh: frozenset[str] = frozenset()  # labels of the nodes that are built without the layer cache
    rebuild: Mapping[str, str] = field(
        default_factory=dict
    )  # by label: a value that is new when it is to be built again
    labels: Mapping[str, Mapping[str, str]] | None = None  # OCI labels by image
    base_settings: Mapping[str, BaseSettings] = field(default_factory=dict)  # by image: of the base that NEW_ROOT needs


def stage_arguments(config: Config, plan: Plan, cache_id: str) -> dict[str, dict[str, str]]:
    """Return the build arguments by stage name; the top of each Dockerfile says what they mean."""
    architecture = architecture_of(plan.platform)
    cached = {"CACHE_ID": f"{config.project.name}-{architecture}-{cache_id}"}
    if plan.cross:
        cached |= {"BUILDER": BUILDER, "BUILDER_PLATFORM": plan.builder_platform, "CROSS": architecture}
    fill = partial(filled, platform=plan.platform, unknown="")
    collect = [*map(fill, config.collect.required), *(f"{fill(pattern)} ?" for pattern in config.collect.optional)]
    return {
        CUDNN: {
            **cached,
            **_cudnn_arguments(config, plan),
            "CUDNN_TREE": CUDNN,  # an image without this stage adds nothing to its base
            "COLLECT": "\n".join(collect),
        },
        "gdal": {
            **cached,
            "GDAL_VERSION": plan.profile.gdal,
            "GDAL_BUILD": config.gdal.build,
            "GDAL_CMAKE": " ".join(config.gdal.cmake),
            "GDAL_DRIVERS": " ".join(config.gdal.raster_drivers),
            "OGR_DRIVERS": " ".join(config.gdal.vector_drivers),
            "GDAL_BUILD_PACKAGES": " ".join(config.gdal.packages),
            "JOBS": str(config.build.jobs),
        },
        "python": {
            **cached,
            "UV_VERSION": config.python.uv,
            "PYTHON_REQUIREMENTS": " ".join(config.python.requirements),
            "PYTHON_PROVIDED": " ".join(config.python.provided),
            "PYTHON_INDEXES": " ".join(plan.profile.indexes),
            "PYTHON_CUDA": "1" if plan.wants_cuda else "0",
        },
        "runtime": {**cached, "RUNTIME_PACKAGES": " ".join(config.runtime.packages)},
        NEW_ROOT: {"PRUNE": json.dumps([_placed(rule, fill) for rule in config.prune])},
        INPUTS: {**cached, "GDAL_VERSION": plan.profile.gdal},
    }


def _placed(rule: Prune, fill: Callable[[str], str]) -> dict[str, Any]:
    """Return a rule of [[prune]] as scripts/image/prune.py reads it."""
    patterns = {"paths": rule.paths, "strip": rule.strip}
    found: dict[str, Any] = {kind: list(map(fill, named)) for kind, named in patterns.items()}
    return found | {"reason": rule.reason}


def _cudnn_arguments(config: Config, plan: Plan) -> dict[str, str]:
    """Return the arguments of the source of cuDNN alone: one that a source does not use must not change its layers."""
    cudnn = config.cudnn_of(plan.profile)
    used = {"CUDNN_SOURCE": cudnn.source, "CUDNN_PACKAGES": " ".join(cudnn.chosen)}
    if cudnn.source == "wheel":
        used["CUDNN_INDEXES"] = " ".join(plan.profile.indexes)
    if plan.cross:
        used["CUDNN_ON"] = BUILDER
    if cudnn.source == "apt" and cudnn.repository:
        used["CUDNN_REPOSITORY"] = " ".join(
            (cudnn.repository.url, cudnn.repository.suite, *cudnn.repository.components)
        )
    return used


def definition(config: Config, plan: Plan, options: Options) -> dict[str, Any]:
    """Return the bake definition of everything in *plan* that BuildKit makes."""
    maker = _Maker(config=config, plan=plan, options=options)
    targets: dict[str, Any] = {}
    for node in plan.nodes:
        if node.baked:
            targets |= maker.targets(node)
    if config.python.wheels:
        targets[f"{INPUTS}-{WHEELS}"] = maker.wheels()
    return {"target": targets}


@dataclass(frozen=True, kw_only=True)
class _Maker:
    """Makes the targets of one definition."""

    config: Config
    plan: Plan
    options: Options

    def targets(self, node: Node) -> dict[str, Any]:
        """Return the targets that *node* needs, by name: mostly one."""
        if node.kind is NodeKind.INPUT:
            return {node.target: self._input(node)}
        if node.kind is NodeKind.STAGE:
            return {node.target: self._report(node)}
        made = {node.target: self._image(node), report_target(node): self._report(node)}
        return made | ({settings_target(node): self._settings(node)} if self._has_settings(node) else {})

    def _input(self, node: Node) -> dict[str, Any]:
        """Return the target of an input; one that is the base of an image is exported, so that it has an id."""
        context = self.plan.profile.contexts[node.name]
        bases = {image.base for image in self.config.images.values()}
        name = input_tag(self.config, self.plan, node.name)
        return self._common(node) | {
            "dockerfile": str(context.dockerfile),
            "target": context.target,
            "output": [f"type=docker,name={name}" if node.name in bases else "type=cacheonly"],
            "labels": {LABEL_PROJECT: self.config.project.name},
        }

    def _report(self, node: Node) -> dict[str, Any]:
        """Return the target that exports the record of a stage, and so builds the stage."""
        return self._common(node) | {
            "dockerfile": str(self.plan.images[node.group].dockerfile),
            "target": f"{node.name}-report",
            "output": [f"type=local,dest={report_folder(self.options.state, node)}"],
        }

    def _image(self, node: Node) -> dict[str, Any]:
        """Return the target that exports an image, without a name."""
        return self._common(node) | {
            "dockerfile": str(self.plan.images[node.group].dockerfile),
            "target": node.name,
            "output": ["type=docker"],
            "labels": dict((self.options.labels or {}).get(node.group, {})),
        }

    def _settings(self, node: Node) -> dict[str, Any]:
        """Return the target of an image with the settings of the base of *node*, and none of its files."""
        text, arguments = base_settings.dockerfile(self.options.base_settings[node.group])
        return {
            "context": str(self.options.state / "empty"),
            "dockerfile-inline": text,
            "args": arguments,
            "platforms": [self.plan.platform],
        }

    def _has_settings(self, node: Node) -> bool:
        return starts_from_settings(self.plan, node) and node.group in self.options.base_settings

    def wheels(self) -> dict[str, Any]:
        """Return the target that holds the wheels of the folders in build.toml."""
        folders = {f"wheels{number}": str(folder) for number, folder in enumerate(self.config.python.wheels)}
        copies = "".join(f"COPY --from={name} . /{name}/\n" for name in folders)
        return {
            "context": str(self.options.state / "empty"),
            "contexts": folders,
            "dockerfile-inline": "FROM scratch\n" + copies,
        }

    def _common(self, node: Node) -> dict[str, Any]:
        """Return what all targets have: contexts, arguments, platform and secrets."""
        target: dict[str, Any] = {
            "context": ".",
            "contexts": self._contexts(node),
            "args": self._arguments(node),
            "platforms": [self.plan.platform],
            "secret": [f"id={name},src={file}" for name, file in self._secrets().items()],
        }
        fresh = self._fresh_stages(node)
        return target | ({"no-cache-filter": fresh} if fresh else {})

    def _secrets(self) -> dict[str, Path]:
        found = {name: secret_file(self.options.state, name) for name in SECRETS}
        cudnn = self.config.cudnn_of(self.plan.profile)
        # Not a secret, but a file that one RUN needs, from anywhere in the project.
        return found | ({CUDNN_KEY: cudnn.repository.key} if cudnn.repository and cudnn.source == "apt" else {})

    def _arguments(self, node: Node) -> dict[str, str]:
        by_stage = stage_arguments(self.config, self.plan, self.options.cache_id)
        if node.kind is NodeKind.INPUT:
            return by_stage[INPUTS]
        # The same Dockerfile stage must get the same arguments in every target, or its layers would not be found again.
        stages = self.plan.stages_below(node)
        found = {key: value for stage in stages for key, value in by_stage.get(stage, {}).items()}
        # Not no-cache-filter, which empties the stage's cache mounts too, the compiler's among them.
        tokens = {stage: self.options.rebuild.get(f"{node.group}/{stage}") for stage in stages}
        return found | {rebuild_argument(stage): token for stage, token in tokens.items() if token}

    def _fresh_stages(self, node: Node) -> list[str]:
        if node.kind is NodeKind.INPUT:
            context = self.plan.profile.contexts[node.name]
            return [str(context.target)] if node.label in self.options.fresh else []
        own = {f"{node.group}/{stage}" for stage in self.plan.images[node.group].stages}
        return [label.split("/")[1] for label in sorted(own & self.options.fresh)]

    def _contexts(self, node: Node) -> dict[str, str]:
        base = None if node.kind is NodeKind.INPUT else self.plan.images[node.group].base
        # One name each: buildx 0.13 cannot link to the same target by two names.
        found = {BASE if name == base else name: self._source(name) for name in self.plan.contexts_of(node)}
        if self.plan.cross:
            found[BUILDER] = self._source(BUILDER)
        if node.kind is not NodeKind.INPUT:
            has_wheels = bool(self.config.python.wheels)
            found[WHEELS] = f"target:{INPUTS}-{WHEELS}" if has_wheels else str(self.options.state / "empty")
            found |= {BASE_SETTINGS: f"target:{settings_target(node)}"} if self._has_settings(node) else {}
        return found

    def _source(self, name: str) -> str:
        context = self.plan.profile.contexts[name]
        if context.image or context.suite:
            return f"docker-image://{context_reference(self.config, self.plan, name)}"
        if context.urls:
            return str(download_folder(self.options.state, str(context.sha256)))
        if context.folder:
            return str(context.folder)
        return f"target:{Node(group=INPUTS, name=name, kind=NodeKind.INPUT).target}"


def rebuild_argument(stage: str) -> str:
    """Return the build argument that makes a stage be built again: 'REBUILD_GDAL'."""
    return REBUILD_PREFIX + re.sub(r"[^A-Z0-9]", "_", stage.upper())


def report_target(node: Node) -> str:
    """Return the bake target that exports the record of the last stage, which exports an image itself."""
    return f"{node.target}-report"


def settings_target(node: Node) -> str:
    """Return the bake target of the image with the base's settings."""
    return f"{node.target}-{BASE_SETTINGS}"


def starts_from_settings(plan: Plan, node: Node) -> bool:
    """Say whether building *node* needs the settings of its image's base in `Options.base_settings`."""
    return node.kind is NodeKind.IMAGE and NEW_ROOT in plan.stages_below(node)


def context_reference(config: Config, plan: Plan, name: str) -> str:
    """Return the image that the context *name* is: as build.toml has it, or as the engine has the stand-in."""
    context = plan.profile.contexts[name]
    if context.image:
        return context.image + (f"@{context.digest}" if context.digest else "")
    return input_tag(config, plan, name)


def call_targets(node: Node) -> tuple[str, ...]:
    """Return the bake targets that build *node*."""
    return (node.target, report_target(node)) if node.kind is NodeKind.IMAGE else (node.target,)

"""Collect the needs of the profile in use, and let the doctor check them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from jetpare.base.errors import ConfigError
from jetpare.base.units import GB
from jetpare.build import cudnn, doctor, network, ownership
from jetpare.build.doctor import Diagnosis, Needs
from jetpare.config.values import BUILDER
from jetpare.engine.model import Engine
from jetpare.project.plan import NodeKind, Plan
from jetpare.project.project import Project


def findings(project: Project, plan: Plan, reach: Callable[[], Engine]) -> tuple[Diagnosis, ...]:
    """Return the doctor's findings for *plan*. *reach* opens the engine."""
    contexts = plan.profile.contexts
    settings = network.read_settings(project.environ, project.home)
    needs = Needs(
        disk_bytes=int(plan.profile.disk_gb * GB),
        jobs=project.config.build.jobs or os.cpu_count() or 1,
        platform=plan.platform,
        cross=plan.cross,
        indexes=(*plan.profile.indexes, settings.variables.get("PIP_INDEX_URL")),
        images=tuple(
            context.image for name, context in contexts.items() if context.image and (plan.cross or name != BUILDER)
        ),
        settings=settings,
        stand_ins=tuple(node.name for node in plan.nodes if node.kind in {NodeKind.INPUT, NodeKind.BOOTSTRAP}),
        held=ownership.references(project, plan),
    )
    found = doctor.check(reach, state=project.state_path, needs=needs)
    return (*found, *cudnn_findings(project, plan))


def cudnn_findings(project: Project, plan: Plan) -> Iterator[Diagnosis]:
    """Check that the cuDNN in build.toml fits the PyTorch in build.toml."""
    try:
        made = cudnn.check(project, plan)
    except ConfigError as error:
        what, advice = str(error).rsplit("\n", 1)
        yield Diagnosis(name="cudnn", status="failed", detail=what.replace("\n", "; "), advice=advice)
        return
    if made and made.need:
        yield Diagnosis(name="cudnn", status="ok", detail=f"cuDNN and PyTorch of build.toml fit: {made.need.said}")
    elif made:
        yield Diagnosis(name="cudnn", status="warning", detail=f"not checked beforehand: {made.unknown}")

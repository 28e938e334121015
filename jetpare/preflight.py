"""What the profile in use needs, for the doctor to check."""

from __future__ import annotations

import os

from jetpare import doctor, network
from jetpare.config import GB
from jetpare.doctor import Finding, Needs
from jetpare.plan import Kind, Plan
from jetpare.project import Project


def findings(project: Project, plan: Plan) -> tuple[Finding, ...]:
    """The doctor's lines for *plan*."""
    contexts = plan.profile.contexts.values()
    settings = network.read_settings(project.environ, project.home)
    needs = Needs(
        disk_bytes=int(plan.profile.disk_gb * GB),
        jobs=project.config.build.jobs or os.cpu_count() or 1,
        platform=plan.platform,
        indexes=(*plan.profile.indexes, settings.variables.get("PIP_INDEX_URL")),
        images=tuple(context.image for context in contexts if context.image),
        stand_ins=tuple(node.name for node in plan.nodes if node.kind in {Kind.INPUT, Kind.BOOTSTRAP}),
    )
    return doctor.check(state=project.state_path, environ=project.environ, needs=needs)

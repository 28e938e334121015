"""Turn what a call of bake showed, and what a stage left, into the stage's row in the record."""

from __future__ import annotations

import shutil
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from jetpare.build import inputs
from jetpare.build.call import BakeCall
from jetpare.build.run import BuildRun
from jetpare.build.shell import again_command
from jetpare.events import figures, recorder
from jetpare.events.figures import CacheState, Failure, StageTiming
from jetpare.events.step_names import StepKind, brief
from jetpare.events.steps import Timeline, union_seconds
from jetpare.project import naming
from jetpare.project.plan import Node, NodeKind
from jetpare.records import ledger
from jetpare.records.ledger import StageRecord
from jetpare.records.reports import cache_counts, fallback, tree_bytes


def stage_row(run: BuildRun, node: Node, call: BakeCall, content: Mapping[str, Any]) -> StageRecord:
    """Return the row of *node*, which *call* built by the definition *content*, and keep the report that it left.

    The marks for the power mode are not in it yet.
    """
    timing = stage_timing(run, node, call)
    report = _keep_report(run, node)
    again = node.label in run.request.again and _was_built_with_shared_caches(run, node)
    state, why = figures.cache_state(timing, cache_counts(report), again=again)
    cached = state is CacheState.CACHED
    status, reason = _outcome(node, call)
    folder = run.journal.folder
    return StageRecord(
        label=node.label,
        status=status,
        reason=reason,
        started=timing.started,
        finished=timing.finished,
        seconds=timing.seconds,
        work=timing.work,
        cache=None if call.has_failed else state.value,
        why="" if call.has_failed else ", ".join([why, *fallback(report)]),
        steps=timing.steps,
        steps_cached=timing.cached,
        pull_seconds=timing.pull_seconds,
        context_seconds=timing.context_seconds,
        export_seconds=timing.export_seconds,
        pulled_bytes=timing.pulled,
        overlaps=len(call.nodes) > 1 and not cached,
        log=str(call.log_path(node).relative_to(folder)),
        events=str(call.events_path.relative_to(folder)),
        report=str(report.relative_to(folder)) if report else None,
        inputs=inputs.inputs_digest(run.project.root, content, node),
        tree_bytes=tree_bytes(report, node.name),
        telemetry=None if cached else run.watch.measured(timing.started, timing.finished),
    )


def _outcome(node: Node, call: BakeCall) -> tuple[str, str]:
    """Return the status of *node*, and the reason where it is not ok."""
    if not call.has_failed:
        return ledger.OK, ""
    culprit = failed_node(call.nodes, call.failure, call.own_stages)
    if node != culprit:
        return ledger.SKIPPED, f"{culprit.label} failed"
    return ledger.FAILED, call.failure.error if call.failure else ""


def failed_node(nodes: Sequence[Node], failure: Failure | None, own_stages: Mapping[str, Container[str]]) -> Node:
    """Return the one of *nodes* whose stage failed; where BuildKit does not say, the first whose target failed.

    A step is reported by every target that needs it, but by some of them perhaps too late: its stage decides, then.
    """
    if failure is None:
        return nodes[0]
    targets = set(failure.targets)
    concerned = [node for node in nodes if not targets or targets & {node.target, f"{node.target}-report"}]
    images = {node.group for node in concerned if node.kind is not NodeKind.INPUT}
    owners = [node for node in nodes if node.group in images and failure.stage in own_stages[node.label]]
    return [*owners, *concerned, *nodes][0]


def stage_timing(run: BuildRun, node: Node, call: BakeCall) -> StageTiming:
    """Return the times of *node*: of its own stages, without those that have a row of their own."""
    others: set[str] = set()
    if node.kind is NodeKind.INPUT:
        stage = str(run.plan.profile.contexts[node.name].target)
    else:
        stage, stages = node.name, run.plan.images[node.group].stages
        others = {name for each in stages for name in (each, f"{each}-report")}
        needed = (each for each in run.plan.nodes if each.group == node.group and each != node and each.baked)
        others |= {name for each in needed for name in call.own_stages[each.label]} - call.own_stages[node.label]
    return figures.summary(call.timeline, stage=stage, target=node.target, others=others)


def foreign(run: BuildRun, node: Node, content: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a mark where *node* was built on a machine of another kind than the image is for."""
    plan = run.plan
    if not plan.emulated:
        return ()
    table = content["target"][node.target]
    text = (run.project.root / str(table["dockerfile"])).read_text(encoding="utf-8")
    crossed = plan.cross and inputs.only_builds(text, str(table["target"]))
    return (f"{ledger.CROSS_BUILT if crossed else ledger.EMULATED} on {plan.host}",)


def _was_built_with_shared_caches(run: BuildRun, node: Node) -> bool:
    """Say whether an earlier run that was not a cold one has built *node*, and so has filled its caches."""
    runs = run.project.ledger.runs_of(profile=run.plan.profile_name, label=node.label)
    return any(row.status == ledger.OK and not record.cold for record, row in runs)


def _keep_report(run: BuildRun, node: Node) -> Path | None:
    """Move what the stage brought out into the run's folder."""
    exported = run.project.root / naming.report_folder(run.project.state, node)
    if not exported.is_dir():
        return None
    kept = run.journal.folder / "reports" / node.target
    shutil.move(exported, kept)
    return kept


# --- of a call as a whole


def shared_seconds(timeline: Timeline) -> dict[str, float]:
    """Return the seconds in which a call was pulling, transferring, exporting: each once, whoever waited for it."""
    kinds = {
        "pull_seconds": StepKind.PULL,
        "context_seconds": StepKind.CONTEXT,
        "export_seconds": StepKind.EXPORT,
    }
    return {name: union_seconds(s for s in timeline.steps if s.kind is kind) for name, kind in kinds.items()}


def critical_path(timeline: Timeline) -> tuple[dict[str, Any], ...]:
    """Return the steps that decided when a call ended, as the record has them."""
    steps = figures.critical_path(timeline)
    return tuple({"name": step.name, "target": step.target, "seconds": step.seconds} for step in steps)


def failure_message(run: BuildRun, call: BakeCall) -> str:
    """Say what failed and where, with the last lines, and what to type next."""
    failure, node = call.failure, failed_node(call.nodes, call.failure, call.own_stages)
    step = brief(failure.step) if failure and failure.step else ""
    lines = [f"{node.label} failed" + (f" at step {step}" if step else ".")]
    if failure and failure.out_of_memory:
        lines.append("It was killed, most likely out of memory: lower `jobs` in build.toml, or end other programs.")
    if failure:
        lines += [failure.error, *(f"  | {line}" for line in failure.tail[-recorder.TAIL_LINES :])]
    else:
        lines += [f"  | {line}" for line in call.text[-recorder.TAIL_LINES :]]
    lines.append(f"Full log: {call.log_path(node).relative_to(run.project.root)}")
    lines.append(f"Run just this stage again: {again_command(node.label, run.plan.profile_name)}")
    return "\n".join(lines)

"""One call of bake: its events, logs, timings and failure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jetpare.build import bake, buildx
from jetpare.events import decode, figures, recorder, step_names
from jetpare.events.decode import EventDecoder
from jetpare.events.figures import StageTiming
from jetpare.events.recorder import Recorder, StageLog
from jetpare.events.steps import Timeline, union_seconds
from jetpare.project import naming
from jetpare.project.plan import Node, NodeKind
from jetpare.records import ledger
from jetpare.records.ledger import StageRecord

if TYPE_CHECKING:
    from jetpare.build.pipeline import _Run


class _Call:
    """One call of bake: its stream goes to the event file, the recorder, the logs and the progress view."""

    def __init__(self, *, run: _Run, nodes: Sequence[Node]) -> None:
        self.of, self.nodes = run, tuple(nodes)
        self.decoder = EventDecoder()
        self.recorder = Recorder(on_line=self.line)
        name = nodes[0].target if len(nodes) == 1 else "all"
        self.events_path = run.folder / "events" / f"{name}.jsonl"
        self.logs: dict[str, StageLog] = {}
        self.timeline = Timeline(steps=())
        self.failure: figures.Failure | None = None
        self.status: int | None = None  # until bake has ended

    def run(self) -> dict[str, Any]:
        """Run bake to its end, and return its metadata; ``status`` is its exit status from then on."""
        run = self.of
        run.take_sample()
        targets = tuple(target for node in self.nodes for target in bake.call_targets(node))
        with ExitStack() as stack:
            events = stack.enter_context(self.events_path.open("wb", buffering=0))
            for node in self.nodes:
                self.logs[node.label] = self.open_log(stack, node)
                log = str(self.log_path(node).relative_to(run.folder))
                row = StageRecord(label=node.label, status=ledger.RUNNING, started=time.time(), log=log)
                run.put_stage(row)
                run.progress.begin(node.label)

            def on_chunk(chunk: bytes) -> None:
                events.write(chunk)
                self.take(self.decoder.feed(chunk))

            try:
                self.status, metadata = buildx.run(
                    buildx.command(run.engine.docker, naming.definition_file(run.project.state), targets),
                    root=run.project.root,
                    env=run.engine.env,
                    metadata=run.folder / "events" / f"{self.events_path.stem}-metadata.json",
                    on_chunk=on_chunk,
                )
            finally:
                self.conclude()
        return metadata

    def conclude(self) -> None:
        """Take the end of the stream, work out what it says, and finish the logs."""
        try:
            self.take(self.decoder.close())
        finally:  # a log that cannot be written must not hide what failed
            self.recorder.close()
            self.timeline = self.recorder.timeline()
            self.failure = figures.failure(self.timeline, self.decoder.text)
        for each in self.logs.values():
            each.finish(self.timeline)

    def take(self, events: Sequence[decode.Event]) -> None:
        for event in events:
            self.recorder.add(event)
        for node in self.nodes:
            self.of.progress.update(node.label, self.recorder)

    def line(self, line: recorder.LogLine) -> None:
        for log in self.logs.values():
            log.line(line)

    def open_log(self, stack: ExitStack, node: Node) -> StageLog:
        # By lines: a log can be followed, and a run that is killed keeps what it said.
        file = stack.enter_context(self.log_path(node).open("w", buffering=1, encoding="utf-8"))
        if len(self.nodes) == 1:
            return StageLog(file)  # all that the call says
        return StageLog(file, target=node.target, stage=None if node.kind is NodeKind.INPUT else node.name)

    def log_path(self, node: Node) -> Path:
        return self.of.folder / "logs" / f"{node.target}.log"

    def timing(self, node: Node) -> StageTiming:
        # A target is what it had to make first, too; but not what is a stage, and so a row, of its own.
        others: set[str] = set()
        if node.kind is not NodeKind.INPUT:
            stages = self.of.plan.images[node.group].stages
            others = {name for stage in stages for name in (stage, f"{stage}-report")}
        return figures.summary(self.timeline, stage=self.stage(node), target=node.target, others=others)

    def stage(self, node: Node) -> str:
        """The Dockerfile stage that *node* stands for."""
        context = self.of.plan.profile.contexts[node.name] if node.kind is NodeKind.INPUT else None
        return str(context.target) if context else node.name

    def failed_node(self) -> Node:
        """The node whose stage failed; the first one where BuildKit does not tell."""
        failure = self.failure
        if failure is not None:
            for node in self.nodes:
                targets = {node.target, f"{node.target}-report"}
                own_stage = node.kind is NodeKind.INPUT or failure.stage in {None, node.name}
                if own_stage and (not failure.targets or targets & set(failure.targets)):
                    return node
        return self.nodes[0]

    def beside(self) -> dict[str, float]:
        """Seconds in which the call was pulling, transferring, exporting; each counted once, whoever waited for it."""
        kinds = {
            "pull_seconds": step_names.StepKind.PULL,
            "context_seconds": step_names.StepKind.CONTEXT,
            "export_seconds": step_names.StepKind.EXPORT,
        }
        steps = self.timeline.steps
        return {name: union_seconds(s for s in steps if s.kind is kind) for name, kind in kinds.items()}

    def critical_path(self) -> tuple[dict[str, Any], ...]:
        steps = figures.critical_path(self.timeline)
        return tuple({"name": step.name, "target": step.target, "seconds": step.seconds} for step in steps)

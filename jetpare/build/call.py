"""Make one call of bake: its stream goes to the event file, the timeline, the logs and the progress view."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from jetpare.build import bake, buildx
from jetpare.engine.model import Engine
from jetpare.events import decode, figures, recorder
from jetpare.events.decode import EventDecoder
from jetpare.events.progress import Progress
from jetpare.events.recorder import Recorder, StageLog
from jetpare.events.steps import Timeline
from jetpare.project import naming
from jetpare.project.plan import Node, NodeKind
from jetpare.project.project import Project
from jetpare.records import ledger
from jetpare.records.ledger import StageRecord


@dataclass(kw_only=True)
class BakeCall:
    """One call of bake, for one or several nodes whose definition is written. Call `run` once, then read the rest.

    ``folder`` is the run's. ``own_stages``: for each label, the stages of the Dockerfile that are its own (see
    `inputs.own_stages`). ``on_row`` gets the row of each node when it starts. ``status`` is bake's exit status, None
    until bake has ended.
    """

    project: Project
    engine: Engine
    folder: Path
    nodes: Sequence[Node]
    own_stages: Mapping[str, frozenset[str]]
    progress: Progress
    on_row: Callable[[StageRecord], None]

    status: int | None = field(default=None, init=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, init=False)  # by target, as buildx writes it
    timeline: Timeline = field(default=Timeline(steps=()), init=False)
    failure: figures.Failure | None = field(default=None, init=False)
    text: list[str] = field(default_factory=list, init=False)  # what buildx said outside of events
    _logs: list[StageLog] = field(default_factory=list, init=False)
    _decoder: EventDecoder = field(default_factory=EventDecoder, init=False)

    @property
    def has_failed(self) -> bool:
        """Say whether bake has ended, and not well."""
        return bool(self.status)

    @property
    def events_path(self) -> Path:
        """The file that gets the event stream as it comes."""
        name = self.nodes[0].target if len(self.nodes) == 1 else "all"
        return self.folder / "events" / f"{name}.jsonl"

    def log_path(self, node: Node) -> Path:
        """Return the file that gets what *node* says."""
        return self.folder / "logs" / f"{node.target}.log"

    def run(self) -> None:
        """Run bake to its end. Raises OSError where a file of the run cannot be written, and ToolError."""
        targets = tuple(target for node in self.nodes for target in bake.call_targets(node))
        argv = buildx.command(self.engine.docker, naming.definition_file(self.project.state), targets)
        with ExitStack() as stack:
            events = stack.enter_context(self.events_path.open("wb", buffering=0))
            for node in self.nodes:
                self._logs.append(self._open_log(stack, node))
                self._begin(node)

            def on_chunk(chunk: bytes) -> None:
                events.write(chunk)
                self._take(self._decoder.feed(chunk))

            self.progress.echo(buildx.echo(self.engine, argv))
            try:
                self.status, self.metadata = buildx.run(
                    argv,
                    root=self.project.root,
                    env=self.engine.env,
                    metadata=self.folder / "events" / f"{self.events_path.stem}-metadata.json",
                    on_chunk=on_chunk,
                )
            finally:
                self._conclude()

    def _begin(self, node: Node) -> None:
        log = str(self.log_path(node).relative_to(self.folder))
        self.on_row(StageRecord(label=node.label, status=ledger.RUNNING, started=time.time(), log=log))
        self.progress.begin(node.label)

    def _open_log(self, stack: ExitStack, node: Node) -> StageLog:
        # By lines: a log can be followed, and a run that is killed keeps what it said.
        file = stack.enter_context(self.log_path(node).open("w", buffering=1, encoding="utf-8"))
        if len(self.nodes) == 1:
            return StageLog(file)  # all that the call says
        stages = None if node.kind is NodeKind.INPUT else self.own_stages[node.label]
        return StageLog(file, target=node.target, stages=stages)

    @cached_property
    def _recorder(self) -> Recorder:
        return Recorder(on_line=self._line)

    def _take(self, events: Sequence[decode.Event]) -> None:
        for event in events:
            self._recorder.add(event)
        for node in self.nodes:
            self.progress.update(node.label, self._recorder)

    def _line(self, line: recorder.LogLine) -> None:
        for log in self._logs:
            log.line(line)

    def _conclude(self) -> None:
        """Take the end of the stream, work out what it says, and finish the logs."""
        try:
            self._take(self._decoder.close())
        finally:  # a log that cannot be written must not hide what failed
            self._recorder.close()
            self.text = self._decoder.text
            self.timeline = self._recorder.timeline()
            self.failure = figures.failure(self.timeline, self.text)
        for log in self._logs:
            log.finish(self.timeline)

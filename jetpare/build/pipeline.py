"""Runs a plan: node after node (or all in one solve), and writes the record as it goes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from jetpare import __version__
from jetpare.base import process
from jetpare.base.errors import BuildError, CheckError, Interrupted, JetpareError, StrictPowerError
from jetpare.base.files import write_atomically
from jetpare.board import host, power
from jetpare.board.nvpmodel import Present
from jetpare.board.power import PowerSession
from jetpare.board.sensors import Sampler
from jetpare.build import bootstrap, buildx, cudnn, estimate, inputs, network, ownership
from jetpare.build.bake import definition, starts_from_settings
from jetpare.build.call import _Call
from jetpare.build.download import fetch
from jetpare.build.guards import check_emulation, check_faults, check_space, check_tools, version_faults
from jetpare.build.request import REBUILD, UNCHANGED, Request, expectations, options, settings_of_bases
from jetpare.build.secret_files import build_secrets
from jetpare.build.shell import again_command
from jetpare.build.tagging import replace_tag, resolved_digest
from jetpare.config.values import INPUTS, architecture_of
from jetpare.engine import api, containers, disk, image_store
from jetpare.engine.disk import data_folder, is_local
from jetpare.engine.model import Engine, EngineFacts
from jetpare.events import figures, recorder
from jetpare.events.progress import Progress, Usual
from jetpare.events.step_names import brief
from jetpare.events.steps import Timeline
from jetpare.project import naming
from jetpare.project.plan import CUDNN, Node, NodeKind, Plan
from jetpare.project.project import Project, source_revision
from jetpare.records import history, ledger
from jetpare.records.ledger import ImageRecord, Record, StageRecord
from jetpare.records.reports import cache_counts, fallback, read_json, tree_bytes
from jetpare.records.samples import SAMPLES_FILE, StageTelemetry


def build(project: Project, plan: Plan, engine_: Engine, request: Request, progress: Progress) -> Record:
    """Build *plan* and return its record, which is on disk at every moment.

    Raises BuildError or CheckError when a node fails, ConfigError when cuDNN does not fit PyTorch, Interrupted on
    Ctrl-C or SIGTERM, BusyError when another run is under way, SpaceError before anything starts when the disk is too
    small.
    """
    with ExitStack() as stack:
        stack.enter_context(ledger.exclusive(project.state_path))
        stack.enter_context(process.signals_as_interrupt())
        held = stack.enter_context(_power(project, engine_, request, progress))
        facts = api.facts(engine_)  # after the switch: low power modes take cores offline
        check_tools(facts)
        check_emulation(plan, engine_, facts, project.sysroot)
        check_space(project, plan, engine_, facts)
        fitting = cudnn.check(project, plan)
        if fitting and fitting.unknown:
            progress.note(f"Whether cuDNN fits PyTorch shows at the end only: {fitting.unknown}.")
        run = _Run(project=project, plan=plan, engine_=engine_, request=request, progress=progress, facts=facts)
        run.held, run.cudnn = held, fitting
        run.open()
        if request.again:
            known = read_json(project.state_path / REBUILD)
            known |= {f"{plan.profile_name}/{label}": run.id for label in request.again}
            write_atomically(project.state_path / REBUILD, json.dumps(known) + "\n")
        try:
            run.sampler = stack.enter_context(run.sensors())
            stack.enter_context(progress)
            progress.plan([node.label for node in plan.nodes], run.usual())
            run.execute()
        except KeyboardInterrupt:
            trouble = run.close_after_failure(ledger.INTERRUPTED, "interrupted")
            raise Interrupted(
                "Interrupted. What was finished is kept in the cache; the record is "
                f"{run.shown(run.folder / 'run.json')}.{trouble}"
            ) from None
        except JetpareError as error:
            error.message = f"{error}{run.close_after_failure(ledger.FAILED, str(error))}"
            raise
        except BaseException as error:  # whatever it was: the record must not say that it still runs
            trouble = run.close_after_failure(ledger.FAILED, str(error) or type(error).__name__)
            if trouble:
                progress.note(trouble.strip())
            raise
        run.close(ledger.SUCCEEDED, "")
    return run.record


def _power(
    project: Project, running: Engine, request: Request, progress: Progress
) -> AbstractContextManager[PowerSession | None]:
    """The power session of this host; none where the engine is on another one, whose mode would be the one to set."""
    if not disk.is_local(running):
        return nullcontext()
    settings = project.config.power
    policy = power.Policy(
        wanted=request.power or settings.mode, lock_clocks=settings.lock_clocks, strict=settings.strict
    )
    return power.session(state=project.state_path, host=project.host, policy=policy, say=progress.note)


class _Run:
    """One run under way. Its state is the record, replaced as a whole and written after every change."""

    def __init__(
        self,
        *,
        project: Project,
        plan: Plan,
        engine_: Engine,
        request: Request,
        progress: Progress,
        facts: EngineFacts,
    ) -> None:
        self.project, self.plan, self.engine, self.request = project, plan, engine_, request
        self.progress, self.facts = progress, facts
        self.ledger = project.ledger
        self.clock = time.monotonic()
        self.definition: dict[str, Any] = {}
        self.revision = source_revision(project.root, project.environ)
        self.id = self.ledger.new_id(datetime.now(timezone.utc))
        self.folder = self.ledger.path(self.id)
        self.sampler: Sampler | None = None
        self.failing = False  # from when something has failed until that is raised
        self.held: PowerSession | None = None
        self.cudnn: cudnn.CudnnFit | None = None
        self.settings = network.read_settings(project.environ, project.home)

    # --- the record

    def open(self) -> None:
        """Write the first record, with every node waiting."""
        plan, request = self.plan, self.request
        self.record = Record(
            tool=f"jetpare {__version__}",
            id=self.id,
            task=request.task,
            status=ledger.RUNNING,
            pid=ledger.own_pid(),
            started=time.time(),
            profile=plan.profile_name,
            description=plan.profile.description,
            platform=plan.platform,
            parallel=request.parallel,
            cold=request.cold,
            config_digest=self.project.config_digest,
            revision=self.revision,
            host=self.host_facts(),
            engine={
                "host": self.facts.host,
                "version": self.facts.version_text,
                "buildx": str(self.facts.buildx),
                "store": self.facts.store,
                "platform": self.facts.platform,
                "cpus": self.facts.cpus,
                "memory_bytes": self.facts.memory_bytes,
            },
            stages=tuple(StageRecord(label=node.label, status=ledger.WAITING) for node in plan.nodes),
            images=(),
        )
        self.ledger.write(self.record)  # first: a folder without a record reads as a damaged one
        for name in ("logs", "events", "reports"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def put(self, **changes: Any) -> None:  # noqa: ANN401 - fields of Record
        """Change the record, and write it. While a failure is about to be raised, nothing else is raised in its place.

        `close` then writes the record again, and says so where that fails.
        """
        self.record = self.record.model_copy(update=changes)
        try:
            self.ledger.write(self.record)
        except OSError:
            if not self.failing:
                raise

    def put_stage(self, row: StageRecord) -> None:
        self.put(stages=tuple(row if row.label == old.label else old for old in self.record.stages))

    def close(self, status: str, failure: str) -> None:
        """Write the last record. Nodes that never ran are skipped."""
        broken = next((row.label for row in self.record.stages if row.status == ledger.FAILED), None)
        cause = f"{broken} failed" if broken else _first_line(failure).rstrip(":")
        unfinished = {
            ledger.RUNNING: status if status != ledger.SUCCEEDED else ledger.OK,
            ledger.WAITING: ledger.SKIPPED,
        }
        stages = tuple(
            row.model_copy(update={"status": unfinished[row.status], "reason": row.reason or cause})
            if row.status in unfinished
            else row
            for row in self.record.stages
        )
        last = {
            "status": status,
            "failure": failure,
            "finished": time.time(),
            "wall_seconds": time.monotonic() - self.clock,
            "stages": stages,
        }
        self.record = self.record.model_copy(update=last)
        self.ledger.write(self.record)  # before anything is shown: the terminal may be gone
        shutil.rmtree(self.project.state_path / "reports", ignore_errors=True)
        if self.sampler is not None and self.sampler.fault:
            self.progress.note(f"Not all samples were kept: {self.sampler.fault}.")
        for row in stages:
            if row.status in {ledger.SKIPPED, ledger.INTERRUPTED}:
                self.progress.finish(row.label, row.status, row.reason)

    def close_after_failure(self, status: str, failure: str) -> str:
        """Write the last record after *failure*, and return what to add to its message where that fails too."""
        try:
            self.close(status, failure)
        except (JetpareError, OSError) as error:
            return f"\nBesides, the last record of this run could not be written: {error}"
        return ""

    def shown(self, path: Path) -> str:
        """A path as a person at the project's folder would write it."""
        return str(path.relative_to(self.project.root))

    # --- what the host does meanwhile

    def sensors(self) -> AbstractContextManager[Sampler | None]:
        """The sampler of this host; none where the engine is on another one, whose sensors would be the right ones."""
        if not is_local(self.engine):
            return nullcontext()
        disk = data_folder(self.engine, self.facts, self.project.state_path)
        return Sampler(root=self.project.sysroot, disk=disk, file=self.folder / SAMPLES_FILE)

    def host_facts(self) -> dict[str, Any]:
        """What of the host decides how long a build takes, the power mode included."""
        found = ledger.host_facts() | {"model": host.host_facts(self.project.host).model}
        facts = self.held.facts if self.held else None
        return found | {"power_mode": facts.mode if facts else None, "power": facts.as_dict() if facts else None}

    def present(self) -> Present | None:
        """The power mode now; None where it cannot be measured."""
        return self.held.present() if self.held else None

    def marks(self, before: Present | None, after: Present | None, seen: StageTelemetry | None) -> tuple[str, ...]:
        """Why a stage's time does not stand for the mode that the run names."""
        found = power.stage_marks(
            before=before,
            after=after,
            promise=self.held.promise if self.held else None,
            cpu_khz={core: figure.mean for core, figure in seen.cpu_khz.items()} if seen and seen.cpu_khz else None,
            gpu_hz=seen.gpu_hz.mean if seen and seen.gpu_hz else None,
            emc_hz=seen.emc_hz.mean if seen and seen.emc_hz else None,
        )
        heat = (f"throttled by heat: {', '.join(seen.tripped)}",) if seen and seen.tripped else ()
        return (*found, *heat)

    def foreign(self, node: Node) -> tuple[str, ...]:
        """Why a stage's time says nothing of the machine that the image is for: it was built on one of another kind."""
        plan = self.plan
        if not plan.emulated:
            return ()
        if not node.baked:
            other = node.kind is NodeKind.BOOTSTRAP and naming.input_platform(plan, node.name) != plan.host
            return (f"{ledger.EMULATED} on {plan.host}",) if other else ()
        table = self.definition["target"][node.target]
        text = (self.project.root / str(table["dockerfile"])).read_text(encoding="utf-8")
        crossed = plan.cross and inputs.only_builds(text, str(table["target"]))
        return (f"{ledger.CROSS_BUILT if crossed else ledger.EMULATED} on {plan.host}",)

    def measured(self, started: float | None, finished: float | None) -> StageTelemetry | None:
        """What the sensors said between two times, in seconds since the epoch."""
        if self.sampler is None or started is None or finished is None:
            return None
        return self.sampler.stage(started, finished)

    def take_sample(self) -> None:
        """A sample now, so that even a short stage has one at its start."""
        if self.sampler is not None:
            self.sampler.take()

    @cached_property
    def unchanged(self) -> frozenset[str]:
        """The labels whose inputs are those of their last good build."""
        known = expectations(self.project, self.plan)
        return frozenset(label for label, words in known.items() if words.startswith(UNCHANGED))

    def usual(self) -> Usual:
        """How long each node took in the runs that compare with this one."""
        request, plan = self.request, self.plan
        content = definition(
            self.project.config, plan, options(self.project, plan, request, run=self.id, revision=self.revision)
        )
        caches = estimate.expected_caches(plan.nodes, cold=request.cold, again=request.again, unchanged=self.unchanged)
        found = history.groups(self.ledger.readable())
        seconds = {}
        for node in plan.nodes:
            row = StageRecord(
                label=node.label,
                status=ledger.WAITING,
                cache=caches[node.label],
                inputs=inputs.inputs_digest(self.project.root, content, node) if node.baked else None,
                overlaps=request.parallel and node.baked,
            )
            seconds[node.label] = history.estimate(found, history.key_of(self.record, row))
        known = {label: each for label, each in seconds.items() if each is not None}
        return Usual(seconds=known, in_turn=not request.parallel)

    # --- the work

    def execute(self) -> None:
        """Make every node, in order; with --parallel, all that BuildKit makes in one solve."""
        for node in self.plan.nodes:
            if not node.baked:
                self.prepare(node)
        with build_secrets(self.project, self.settings):
            for batch in self.batches([node for node in self.plan.nodes if node.baked]):
                self.bake(batch)

    def batches(self, nodes: Sequence[Node]) -> list[list[Node]]:
        """What is built in one call: each node alone, so that its time is its own.

        What did not change, of images that the engine still holds, is expected in the cache and asked for at once,
        since a call costs half a second.
        """
        if self.request.parallel:
            return self.bases_first(list(nodes))
        again = self.request.again or self.request.cold
        held = set() if again else {name for name in self.plan.images if self.holds(name)}
        groups = {*held, INPUTS} if held else held
        unchanged: list[Node] = []
        for node in nodes:  # each stands after what it needs
            needs = [need for need in nodes if need.label in node.needs]
            if node.group in groups and node.label in self.unchanged and set(needs) <= set(unchanged):
                unchanged.append(node)
        return [*self.bases_first(unchanged), *([node] for node in nodes if node not in unchanged)]

    def bases_first(self, batch: list[Node]) -> list[list[Node]]:
        """Return *batch*, in two where one of its images needs the settings of a base that the batch itself makes."""
        if any(starts_from_settings(self.plan, node) for node in batch):
            inputs = [node for node in batch if node.kind is NodeKind.INPUT]
            return [part for part in (inputs, [node for node in batch if node not in inputs]) if part]
        return [batch] if batch else []

    def holds(self, image: str) -> bool:
        """Whether the engine has the very image that the last run that made it recorded."""
        facts = image_store.inspect_image(
            self.engine, naming.image_tag(self.project.config, image, self.plan.profile_name)
        )
        runs = (record for record in self.ledger.readable() if record.profile == self.plan.profile_name)
        made = next((row for run in runs for row in run.images if row.name == image), None)
        return facts is not None and made is not None and made.id == facts.id

    def prepare(self, node: Node) -> None:
        """Make an input that BuildKit does not make: a base system or a download."""
        makers: Mapping[NodeKind, Callable[[Node], tuple[str, str]]] = {
            NodeKind.BOOTSTRAP: self.bootstrap,
            NodeKind.DOWNLOAD: self.download,
        }
        started, clock = time.time(), time.monotonic()
        row = StageRecord(label=node.label, status=ledger.RUNNING, started=started)
        self.put_stage(row)
        self.take_sample()
        self.progress.begin(node.label)
        try:
            cache, why = makers[node.kind](node)
        except JetpareError as error:
            self.failing = True
            self.put_stage(row.model_copy(update={"status": ledger.FAILED, "reason": _first_line(str(error))}))
            self.progress.finish(node.label, ledger.FAILED, _first_line(str(error)))
            raise
        seconds, finished = time.monotonic() - clock, time.time()
        done = {"status": ledger.OK, "seconds": seconds, "work": seconds, "cache": cache, "why": why}
        done["marks"] = self.foreign(node) if cache != "cached" else ()
        sensors = {"finished": finished, "telemetry": self.measured(started, finished)}
        self.put_stage(row.model_copy(update=done | sensors))
        self.progress.finish(node.label, cache if cache == "cached" else ledger.OK, why)

    def bootstrap(self, node: Node) -> tuple[str, str]:
        suite = str(self.plan.profile.contexts[node.name].suite)
        tag = naming.input_tag(self.project.config, self.plan, node.name)
        made = bootstrap.bootstrap_base(
            self.engine,
            name=tag,
            suite=suite,
            arch=architecture_of(naming.input_platform(self.plan, node.name)),
            environ=self.project.environ,
            say=self.progress.note,
        )
        if made.how != "present":
            file = self.folder / "events" / f"{node.target}-metadata.json"
            file.write_text(json.dumps(ownership.metadata(node.target, made.id)))
        return ("cached" if made.how == "present" else "cold"), made.how

    def download(self, node: Node) -> tuple[str, str]:
        context = self.plan.profile.contexts[node.name]
        folder = self.project.root / naming.download_folder(self.project.state, str(context.sha256))
        path, fetched = fetch(
            context.urls,
            sha256=str(context.sha256),
            folder=folder,
            settings=self.settings,
            tell=lambda done, total: self.progress.transfer(node.label, done, total),
        )
        return ("cold", f"downloaded {path.name}") if fetched else ("cached", f"{path.name} was downloaded before")

    def bake(self, nodes: Sequence[Node]) -> None:
        """Build *nodes* in one call of bake, and write a row for each."""
        self.write_definition(nodes)
        if self.settings.left_out and any(node.name == "python" for node in nodes) and len(nodes) == 1:
            self.progress.note(
                "Builds do not see what pip's or uv's settings name on this host's disk "
                f"({', '.join(self.settings.left_out)}); [python] wheels in build.toml takes folders of wheels."
            )
        call = _Call(run=self, nodes=nodes)
        before = self.present()
        metadata, trouble = {}, ""
        try:
            metadata = call.run()
        except OSError as error:
            if not call.status:  # else the stage failed first, as on a disk that is full for both
                raise
            trouble = f"\nBesides, its log is not whole: {error}"
        self.failing = call.status != 0
        marked = self.put_rows(call, before, self.present())
        if self.failing:
            raise BuildError(self.explain(call) + trouble)
        if marked and self.project.config.power.strict:
            raise StrictPowerError(
                "[power] strict: what was measured does not stand for the power mode:\n"
                + "\n".join(f"  {mark}" for mark in marked)
            )
        for node in nodes:
            if node.name == CUDNN:
                self.check_cudnn(node)
            if node.kind is NodeKind.IMAGE:
                self.finish_image(node, call, metadata)

    def put_rows(self, call: _Call, before: Present | None, after: Present | None) -> list[str]:
        """Record each node of *call*, and return why their times do not stand for the power mode, a line for each."""
        marked = []
        for node in call.nodes:
            row = self.baked_row(node, call, ok=call.status == 0)
            marks = self.marks(before, after, row.telemetry)
            marked += [f"{row.label}: {mark}" for mark in marks]
            foreign = self.foreign(node) if row.cache != "cached" else ()
            row = row.model_copy(update={"marks": (*marks, *foreign)})
            self.put_stage(row)
            state = "cached" if row.cache == "cached" else row.status
            self.progress.finish(node.label, state, row.why or row.reason)
        beside = call.beside()
        self.put(**{name: getattr(self.record, name) + seconds for name, seconds in beside.items()})
        if self.request.parallel:
            self.put(critical_path=call.critical_path())
        return marked

    def check_cudnn(self, node: Node) -> None:
        """Raise ConfigError where what stage cudnn collected is not what goes with PyTorch."""
        have = cudnn.collected_version(self.folder / "reports" / node.target / "cudnn.tsv")
        if have and self.cudnn:
            self.cudnn.raise_for(have, where=node.label)

    def write_definition(self, nodes: Sequence[Node]) -> None:
        chosen = options(self.project, self.plan, self.request, run=self.id, revision=self.revision)
        # A node that was built fresh in an earlier call of this run must be found in the cache by this one.
        now = replace(
            chosen,
            fresh=chosen.fresh & {node.label for node in nodes},
            base_settings=settings_of_bases(self.project, self.plan, self.engine, nodes),
        )
        self.definition = definition(self.project.config, self.plan, now)
        buildx.write_definition(self.project.root, self.project.state, self.definition)
        for node in nodes:
            shutil.rmtree(self.project.root / naming.report_folder(self.project.state, node), ignore_errors=True)

    def baked_row(self, node: Node, call: _Call, *, ok: bool) -> StageRecord:
        timing = call.timing(node)
        report = self.keep_report(node)
        again = node.label in self.request.again and self.filled_caches(node)
        state, why = figures.cache_state(timing, cache_counts(report), again=again)
        why = ", ".join([why, *fallback(report)])
        cached = state is figures.CacheState.CACHED
        reason, status = "", ledger.OK
        if not ok:
            culprit = call.failed_node()
            status = ledger.FAILED if node == culprit else ledger.SKIPPED
            reason = (call.failure.error if call.failure else "") if node == culprit else f"{culprit.label} failed"
        return StageRecord(
            label=node.label,
            status=status,
            reason=reason,
            started=timing.started,
            finished=timing.finished,
            seconds=timing.seconds,
            work=timing.work,
            cache=state.value if ok else None,
            why=why if ok else "",
            steps=timing.steps,
            steps_cached=timing.cached,
            pull_seconds=timing.pull_seconds,
            context_seconds=timing.context_seconds,
            export_seconds=timing.export_seconds,
            pulled_bytes=timing.pulled,
            overlaps=len(call.nodes) > 1 and not cached,
            log=str(call.log_path(node).relative_to(self.folder)),
            events=str(call.events_path.relative_to(self.folder)),
            report=str(report.relative_to(self.folder)) if report else None,
            inputs=inputs.inputs_digest(self.project.root, self.definition, node),
            tree_bytes=tree_bytes(report, node.name),
            telemetry=None if cached else self.measured(timing.started, timing.finished),
        )

    def filled_caches(self, node: Node) -> bool:
        """Whether an earlier run has built *node* beside the caches that all runs but the cold ones share."""
        runs = self.ledger.runs_of(profile=self.plan.profile_name, label=node.label)
        return any(row.status == ledger.OK and not run.cold for run, row in runs)

    def keep_report(self, node: Node) -> Path | None:
        """Move what the stage brought out into the run's folder."""
        exported = self.project.root / naming.report_folder(self.project.state, node)
        if not exported.is_dir():
            return None
        kept = self.folder / "reports" / node.target
        shutil.rmtree(kept, ignore_errors=True)
        shutil.move(exported, kept)
        return kept

    def explain(self, call: _Call) -> str:
        """What failed, where, the last lines, and what to type next."""
        failure, node = call.failure, call.failed_node()
        step = brief(failure.step) if failure and failure.step else ""
        lines = [f"{node.label} failed" + (f" at step {step}" if step else ".")]
        if failure and failure.out_of_memory:
            lines.append("It was killed, most likely out of memory: lower `jobs` in build.toml, or end other programs.")
        if failure:
            lines += [failure.error, *(f"  | {line}" for line in failure.tail[-recorder.TAIL_LINES :])]
        else:
            lines += [f"  | {line}" for line in call.decoder.text[-recorder.TAIL_LINES :]]
        lines.append(f"Full log: {self.shown(call.log_path(node))}")
        lines.append(f"Run just this stage again: {again_command(node.label, self.plan.profile_name)}")
        return "\n".join(lines)

    # --- the image

    def base_digest(self, base: str, seen: Timeline) -> str | None:
        """The digest of the base: the one in build.toml, else what BuildKit resolved, else the stand-in's id."""
        context = self.plan.profile.contexts[base]
        if context.digest or not context.image:
            tag = naming.input_tag(self.project.config, self.plan, base)
            facts = None if context.digest else image_store.inspect_image(self.engine, tag)
            return context.digest or (facts.id if facts else None)
        return resolved_digest(context.image, (step.name for step in seen.steps))

    def finish_image(self, node: Node, call: _Call, metadata: Mapping[str, Any]) -> None:
        """Check the image that was built, and tag it only if it passes."""
        found = metadata.get(node.target, {})
        image_id = str(found.get("containerimage.digest") or found.get("containerimage.config.digest") or "")
        reference = naming.image_tag(self.project.config, node.group, self.plan.profile_name)
        probe = read_json(self.folder / "reports" / node.target / "checks.json")
        versions = {str(k): v for k, v in dict(probe.get("versions") or {}).items()}
        expected = dict(self.plan.profile.expect)
        checks = tuple(probe.get("checks") or ())
        wrong = version_faults(versions, expected) + check_faults(checks)
        table = self.plan.images[node.group]
        record = ImageRecord(
            name=node.group,
            reference=reference,
            id=image_id,
            status=ledger.FAILED if wrong else ledger.OK,
            reason="; ".join(wrong),
            base=self.plan.profile.contexts[table.base].image or f"{table.base} (stand-in)",
            base_digest=self.base_digest(table.base, call.timeline),
            versions=versions,
            expected=expected,
            checks=checks,
        )
        if wrong:
            self.failing = True
            self.put(images=(*self.record.images, record))
            raise CheckError(
                f"{node.group} was built but not tagged, because it does not pass its checks:\n"
                + "\n".join(f"  {fault}" for fault in wrong)
                + f"\nCorrect what is installed, or [{self.project.config.table_of(self.plan.profile_name)}.expect] in "
                f"build.toml. To look into it: docker run --rm -it {image_id}; `invoke clean` removes it."
            )
        before = replace_tag(self.engine, image_id, reference, state=self.project.state_path)
        if before:
            self.progress.note(f"No record here knows the image that was {reference} until now; it stays as {before}.")
        others = self.record.images
        self.put(images=(*others, record))
        try:
            sizes = self.measure(image_id)
        except (JetpareError, OSError) as error:  # the image is good all the same
            self.progress.note(f"The sizes of {reference} were not measured: {error}")
            return
        self.put(images=(*others, record.model_copy(update=sizes)))

    def measure(self, image_id: str) -> dict[str, int | None]:
        """The image's layers and sizes; taken from the record of an earlier run that made the very same image."""
        for record in self.ledger.readable():
            for image in record.images:
                if image.id == image_id and image.merged_bytes is not None:
                    return {name: getattr(image, name) for name in ("layers", "layers_bytes", "merged_bytes")}
        facts = image_store.inspect_image(self.engine, image_id)
        if facts is None:
            return {}
        merged = containers.merged_bytes(self.engine, image_id)
        return {"layers": facts.layer_count, "layers_bytes": facts.layers_bytes, "merged_bytes": merged}


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""

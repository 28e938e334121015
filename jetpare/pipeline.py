"""Runs a plan: node after node (or all in one solve), and writes the record as it goes."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from jetpare import (
    __version__,
    bake,
    base_settings,
    bootstrap,
    cudnn,
    doctor,
    download,
    engine,
    history,
    host,
    ledger,
    network,
    ownership,
    power,
    process,
    telemetry,
    timeline,
)
from jetpare.compare import DIFFERS, version_rows
from jetpare.config import IMAGE_REFERENCE, INPUTS, architecture_of
from jetpare.engine import Engine
from jetpare.errors import (
    BuildError,
    CheckError,
    EngineError,
    Interrupted,
    JetpareError,
    RecordError,
    SpaceError,
    StrictPowerError,
    ToolError,
)
from jetpare.files import write_atomically
from jetpare.ledger import ImageRecord, Record, StageRecord
from jetpare.nvpmodel import Present
from jetpare.plan import CUDNN, Kind, Node, Plan
from jetpare.power import PowerSession
from jetpare.project import Project, source_revision
from jetpare.timeline import EventDecoder, Recorder, StageLog, StageTiming
from jetpare.units import GB
from jetpare.views.progress import Progress, Usual, brief

UNCHANGED = "unchanged"
LABEL_SHELL = "jetpare.shell"  # of an image that is there for one shell: the process that made it
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


def rebuilt(project: Project, plan: Plan) -> dict[str, Any]:
    """By label, the run that last built a stage of this profile again although nothing had changed."""
    prefix = f"{plan.profile_name}/"
    known = read_json(project.state_path / REBUILD)
    return {key.removeprefix(prefix): run for key, run in known.items() if key.startswith(prefix)}


def settings_of_bases(
    project: Project, plan: Plan, running: Engine, nodes: Sequence[Node]
) -> dict[str, base_settings.Settings]:
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
        bake.LABEL_PROJECT: project_name,
        "jetpare.version": __version__,
        "jetpare.image": image,
        "jetpare.profile": plan.profile_name,
        "jetpare.profile.description": plan.profile.description,
        "jetpare.platform": plan.platform,
        **{f"jetpare.expect.{name}": version for name, version in plan.profile.expect.items()},
    }
    return {key: value for key, value in labels.items() if value}


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
        facts = engine.facts(engine_)  # after the switch: low power modes take cores offline
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


@contextmanager
def build_secrets(project: Project, settings: network.NetworkSettings) -> Iterator[None]:
    """Keep the files of the build secrets on disk while the block runs, and no longer, however it ends."""
    try:
        network.write_secrets(settings, root=project.root, state=project.state)
        yield
    finally:
        shutil.rmtree(project.state_path / "secrets", ignore_errors=True)


def without_secrets(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return *definition* without the build secrets, whose files are there only while a build of ours runs."""
    gone = tuple(f"id={name}," for name in bake.SECRETS)
    return {
        "target": {
            name: {**target, "secret": [each for each in target["secret"] if not each.startswith(gone)]}
            if "secret" in target
            else target
            for name, target in definition["target"].items()
        }
    }


def _power(
    project: Project, running: Engine, request: Request, progress: Progress
) -> AbstractContextManager[PowerSession | None]:
    """The power session of this host; none where the engine is on another one, whose mode would be the one to set."""
    if not doctor.is_local(running):
        return nullcontext()
    settings = project.config.power
    policy = power.Policy(
        wanted=request.power or settings.mode, lock_clocks=settings.lock_clocks, strict=settings.strict
    )
    return power.session(state=project.state_path, host=project.host, policy=policy, say=progress.note)


def check_tools(facts: engine.EngineFacts) -> None:
    """Raise ToolError where buildx is missing or too old: bake itself would only speak of an unknown flag."""
    found = doctor.check_buildx(facts)
    if found.status == "failed":
        raise ToolError(f"buildx: {found.detail}. {found.advice}")


def check_emulation(plan: Plan, engine_: Engine, facts: engine.EngineFacts, sysroot: Path) -> None:
    """Raise ToolError where programs of the target cannot be run: a stage would only fail with 'exec format error'."""
    local = doctor.is_local(engine_)
    found = doctor.check_platform(facts.platform, plan.platform, sysroot, local=local, cross=plan.cross)
    if found.status == "failed":
        raise ToolError(f"{found.detail}. {found.advice}")


def check_space(project: Project, plan: Plan, engine_: Engine, facts: engine.EngineFacts) -> None:
    """Raise SpaceError where the engine's disk cannot hold what the profile needs beyond what is there of it."""
    need, held = int(plan.profile.disk_gb * GB), ownership.references(project, plan)
    found = doctor.check_room(engine_, facts, need, state=project.state_path, held=held)
    if found.status == "failed":
        raise SpaceError(
            f"The disk with the engine's data root is too small for profile '{plan.profile_name}': {found.detail}. "
            f"{found.advice}"
        )


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
        facts: engine.EngineFacts,
    ) -> None:
        self.project, self.plan, self.engine, self.request = project, plan, engine_, request
        self.progress, self.facts = progress, facts
        self.ledger = project.ledger
        self.clock = time.monotonic()
        self.definition: dict[str, Any] = {}
        self.revision = source_revision(project.root, project.environ)
        self.id = self.ledger.new_id(datetime.now(timezone.utc))
        self.folder = self.ledger.path(self.id)
        self.sampler: telemetry.Sampler | None = None
        self.failing = False  # from when something has failed until that is raised
        self.held: PowerSession | None = None
        self.cudnn: cudnn.Check | None = None
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

    def sensors(self) -> AbstractContextManager[telemetry.Sampler | None]:
        """The sampler of this host; none where the engine is on another one, whose sensors would be the right ones."""
        if not doctor.is_local(self.engine):
            return nullcontext()
        disk = doctor.data_folder(self.engine, self.facts, self.project.state_path)
        return telemetry.Sampler(root=self.project.sysroot, disk=disk, file=self.folder / telemetry.SAMPLES_FILE)

    def host_facts(self) -> dict[str, Any]:
        """What of the host decides how long a build takes, the power mode included."""
        found = ledger.host_facts() | {"model": host.host_facts(self.project.host).model}
        facts = self.held.facts if self.held else None
        return found | {"power_mode": facts.mode if facts else None, "power": facts.as_dict() if facts else None}

    def present(self) -> Present | None:
        """The power mode now; None where it cannot be measured."""
        return self.held.present() if self.held else None

    def marks(
        self, before: Present | None, after: Present | None, seen: telemetry.StageTelemetry | None
    ) -> tuple[str, ...]:
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
            other = node.kind is Kind.BOOTSTRAP and bake.input_platform(plan, node.name) != plan.host
            return (f"{ledger.EMULATED} on {plan.host}",) if other else ()
        table = self.definition["target"][node.target]
        text = (self.project.root / str(table["dockerfile"])).read_text(encoding="utf-8")
        crossed = plan.cross and bake.only_builds(text, str(table["target"]))
        return (f"{ledger.CROSS_BUILT if crossed else ledger.EMULATED} on {plan.host}",)

    def measured(self, started: float | None, finished: float | None) -> telemetry.StageTelemetry | None:
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
        content = bake.definition(
            self.project.config, plan, options(self.project, plan, request, run=self.id, revision=self.revision)
        )
        caches = history.expected_caches(plan.nodes, cold=request.cold, again=request.again, unchanged=self.unchanged)
        found = history.groups(self.ledger.readable())
        seconds = {}
        for node in plan.nodes:
            row = StageRecord(
                label=node.label,
                status=ledger.WAITING,
                cache=caches[node.label],
                inputs=bake.inputs_digest(self.project.root, content, node) if node.baked else None,
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
        if any(bake.starts_from_settings(self.plan, node) for node in batch):
            inputs = [node for node in batch if node.kind is Kind.INPUT]
            return [part for part in (inputs, [node for node in batch if node not in inputs]) if part]
        return [batch] if batch else []

    def holds(self, image: str) -> bool:
        """Whether the engine has the very image that the last run that made it recorded."""
        facts = engine.inspect_image(self.engine, bake.image_tag(self.project.config, image, self.plan.profile_name))
        runs = (record for record in self.ledger.readable() if record.profile == self.plan.profile_name)
        made = next((row for run in runs for row in run.images if row.name == image), None)
        return facts is not None and made is not None and made.id == facts.id

    def prepare(self, node: Node) -> None:
        """Make an input that BuildKit does not make: a base system or a download."""
        makers: Mapping[Kind, Callable[[Node], tuple[str, str]]] = {
            Kind.BOOTSTRAP: self.bootstrap,
            Kind.DOWNLOAD: self.download,
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
        tag = bake.input_tag(self.project.config, self.plan, node.name)
        made = bootstrap.bootstrap_base(
            self.engine,
            name=tag,
            suite=suite,
            arch=architecture_of(bake.input_platform(self.plan, node.name)),
            environ=self.project.environ,
            say=self.progress.note,
        )
        if made.how != "present":
            file = self.folder / "events" / f"{node.target}-metadata.json"
            file.write_text(json.dumps(ownership.metadata(node.target, made.id)))
        return ("cached" if made.how == "present" else "cold"), made.how

    def download(self, node: Node) -> tuple[str, str]:
        context = self.plan.profile.contexts[node.name]
        folder = self.project.root / bake.download_folder(self.project.state, str(context.sha256))
        path, fetched = download.fetch(
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
            if node.kind is Kind.IMAGE:
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
        self.definition = bake.definition(self.project.config, self.plan, now)
        bake.write_definition(self.project.root, self.project.state, self.definition)
        for node in nodes:
            shutil.rmtree(self.project.root / bake.report_folder(self.project.state, node), ignore_errors=True)

    def baked_row(self, node: Node, call: _Call, *, ok: bool) -> StageRecord:
        timing = call.timing(node)
        report = self.keep_report(node)
        again = node.label in self.request.again and self.filled_caches(node)
        state, why = timeline.cache_state(timing, cache_counts(report), again=again)
        why = ", ".join([why, *fallback(report)])
        cached = state is timeline.CacheState.CACHED
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
            inputs=bake.inputs_digest(self.project.root, self.definition, node),
            tree_bytes=tree_bytes(report, node.name),
            telemetry=None if cached else self.measured(timing.started, timing.finished),
        )

    def filled_caches(self, node: Node) -> bool:
        """Whether an earlier run has built *node* beside the caches that all runs but the cold ones share."""
        runs = self.ledger.runs_of(profile=self.plan.profile_name, label=node.label)
        return any(row.status == ledger.OK and not run.cold for run, row in runs)

    def keep_report(self, node: Node) -> Path | None:
        """Move what the stage brought out into the run's folder."""
        exported = self.project.root / bake.report_folder(self.project.state, node)
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
            lines += [failure.error, *(f"  | {line}" for line in failure.tail[-timeline.TAIL_LINES :])]
        else:
            lines += [f"  | {line}" for line in call.decoder.text[-timeline.TAIL_LINES :]]
        lines.append(f"Full log: {self.shown(call.log_path(node))}")
        lines.append(f"Run just this stage again: {again_command(node.label, self.plan.profile_name)}")
        return "\n".join(lines)

    # --- the image

    def base_digest(self, base: str, seen: timeline.Timeline) -> str | None:
        """The digest of the base: the one in build.toml, else what BuildKit resolved, else the stand-in's id."""
        context = self.plan.profile.contexts[base]
        if context.digest or not context.image:
            tag = bake.input_tag(self.project.config, self.plan, base)
            facts = None if context.digest else engine.inspect_image(self.engine, tag)
            return context.digest or (facts.id if facts else None)
        return resolved_digest(context.image, (step.name for step in seen.steps))

    def finish_image(self, node: Node, call: _Call, metadata: Mapping[str, Any]) -> None:
        """Check the image that was built, and tag it only if it passes."""
        found = metadata.get(node.target, {})
        image_id = str(found.get("containerimage.digest") or found.get("containerimage.config.digest") or "")
        reference = bake.image_tag(self.project.config, node.group, self.plan.profile_name)
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
        facts = engine.inspect_image(self.engine, image_id)
        if facts is None:
            return {}
        merged = engine.merged_bytes(self.engine, image_id)
        return {"layers": facts.layer_count, "layers_bytes": facts.layers_bytes, "merged_bytes": merged}


def replace_tag(running: Engine, image_id: str, reference: str, *, state: Path) -> str:
    """Give the image the name *reference*, and remove the image that had it before if a run in *state* made that.

    It stays where something else holds it. Returns the id of an image that stays because no run in *state* made it, so
    most likely one of another checkout of this project, which a private engine cannot have; '' where there is none.
    """
    before = engine.inspect_image(running, reference)
    engine.tag_image(running, image_id, reference)
    if before is None or before.id == image_id:
        return ""
    if not running.private and before.id not in ownership.made_ids(state):
        return before.id
    with suppress(EngineError):  # a container uses it, or it has another name: it stays
        engine.remove_image(running, before.id)
    return ""


def resolved_digest(image: str, steps: Iterable[str]) -> str | None:
    """Return the digest to which BuildKit resolved the reference *image*, from the names of its *steps*.

    Those read '[stage 1/2] FROM docker.io/library/debian:12@sha256:…' or '[context base] docker-image://…@sha256:…'.
    """
    wanted = _full_name(image)
    for step in steps:
        for word in step.split():
            reference, _, digest = word.removeprefix("docker-image://").partition("@")
            known = re.fullmatch(r"sha256:[0-9a-f]{64}", digest) and IMAGE_REFERENCE.fullmatch(reference)
            if known and _full_name(reference) == wanted:
                return digest
    return None


def _full_name(reference: str) -> tuple[str, str, str]:
    """Return registry, path and tag of an image reference, with what it leaves out filled in."""
    from docker.auth import resolve_repository_name
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(reference)
    registry, path = resolve_repository_name(repository)
    return registry, path if "/" in path or registry != "docker.io" else f"library/{path}", tag or "latest"


class _Call:
    """One call of bake: its stream goes to the event file, the recorder, the logs and the progress view."""

    def __init__(self, *, run: _Run, nodes: Sequence[Node]) -> None:
        self.of, self.nodes = run, tuple(nodes)
        self.decoder = EventDecoder()
        self.recorder = Recorder(on_line=self.line)
        name = nodes[0].target if len(nodes) == 1 else "all"
        self.events_path = run.folder / "events" / f"{name}.jsonl"
        self.logs: dict[str, StageLog] = {}
        self.timeline = timeline.Timeline(steps=())
        self.failure: timeline.Failure | None = None
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
                self.status, metadata = bake.run(
                    bake.command(run.engine.docker, bake.definition_file(run.project.state), targets),
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
            self.failure = timeline.failure(self.timeline, self.decoder.text)
        for each in self.logs.values():
            each.finish(self.timeline)

    def take(self, events: Sequence[timeline.Event]) -> None:
        for event in events:
            self.recorder.add(event)
        for node in self.nodes:
            self.of.progress.update(node.label, self.recorder)

    def line(self, line: timeline.LogLine) -> None:
        for log in self.logs.values():
            log.line(line)

    def open_log(self, stack: ExitStack, node: Node) -> StageLog:
        # By lines: a log can be followed, and a run that is killed keeps what it said.
        file = stack.enter_context(self.log_path(node).open("w", buffering=1, encoding="utf-8"))
        if len(self.nodes) == 1:
            return StageLog(file)  # all that the call says
        return StageLog(file, target=node.target, stage=None if node.kind is Kind.INPUT else node.name)

    def log_path(self, node: Node) -> Path:
        return self.of.folder / "logs" / f"{node.target}.log"

    def timing(self, node: Node) -> StageTiming:
        # A target is what it had to make first, too; but not what is a stage, and so a row, of its own.
        others: set[str] = set()
        if node.kind is not Kind.INPUT:
            stages = self.of.plan.images[node.group].stages
            others = {name for stage in stages for name in (stage, f"{stage}-report")}
        return timeline.summary(self.timeline, stage=self.stage(node), target=node.target, others=others)

    def stage(self, node: Node) -> str:
        """The Dockerfile stage that *node* stands for."""
        context = self.of.plan.profile.contexts[node.name] if node.kind is Kind.INPUT else None
        return str(context.target) if context else node.name

    def failed_node(self) -> Node:
        """The node whose stage failed; the first one where BuildKit does not tell."""
        failure = self.failure
        if failure is not None:
            for node in self.nodes:
                targets = {node.target, f"{node.target}-report"}
                own_stage = node.kind is Kind.INPUT or failure.stage in {None, node.name}
                if own_stage and (not failure.targets or targets & set(failure.targets)):
                    return node
        return self.nodes[0]

    def beside(self) -> dict[str, float]:
        """Seconds in which the call was pulling, transferring, exporting; each counted once, whoever waited for it."""
        kinds = {
            "pull_seconds": timeline.Kind.PULL,
            "context_seconds": timeline.Kind.CONTEXT,
            "export_seconds": timeline.Kind.EXPORT,
        }
        steps = self.timeline.steps
        return {name: timeline.union_seconds(s for s in steps if s.kind is kind) for name, kind in kinds.items()}

    def critical_path(self) -> tuple[dict[str, Any], ...]:
        steps = timeline.critical_path(self.timeline)
        return tuple({"name": step.name, "target": step.target, "seconds": step.seconds} for step in steps)


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file that a stage brought out; empty where it is missing or no object."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def cache_counts(report: Path | None) -> tuple[int, int] | None:
    """Ccache's (hits, cacheable calls) of the run that made a stage, from its record."""
    counts = read_json(report / "gdal.json").get("ccache") if report else None
    if not isinstance(counts, dict):
        return None
    hits, misses = int(counts.get("hits") or 0), int(counts.get("misses") or 0)
    return hits, hits + misses


def tree_bytes(report: Path | None, stage: str) -> int | None:
    """The bytes of the tree that *stage* leaves, where its record tells."""
    found = read_json(report / f"{stage}.json").get("tree_bytes") if report else None
    return found if isinstance(found, int) else None


def fallback(report: Path | None) -> list[str]:
    """Why GDAL was not compiled as build.toml asks for, from the stage's record; mostly nothing."""
    found = read_json(report / "gdal.json") if report else {}
    return [f"{found.get('build')} build: {found['why']}"] if found.get("why") else []


def version_faults(measured: Mapping[str, str | None], expected: Mapping[str, str]) -> list[str]:
    """A line for every version that is not the expected one; what could not be measured is no fault here."""
    rows = version_rows(measured, expected)
    return [f"{row.component} is {row.measured}, expected {row.expected}" for row in rows if row.status == DIFFERS]


def check_faults(checks: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for every check that failed, and one where there is no report at all: silence is no success."""
    if not checks:
        return ["its checks left no report (/usr/share/jetpare/checks.json)"]
    return [f"{check.get('name')}: {check.get('detail')}" for check in checks if check.get("status") == "failed"]


def again_command(label: str, profile: str) -> str:
    """What to type to build one node again."""
    group, stage = label.split("/")
    tasks = {
        "cudnn": "extract-cudnn",
        "gdal": "compile-gdal",
        "python": "install-pytorch",
        "runtime": "assemble-runtime",
    }
    if group == INPUTS:
        return f"invoke build-all --profile {profile}"
    if stage not in tasks:
        return f"invoke build-all --image {group} --profile {profile}"
    return f"invoke {tasks[stage]} --image {group} --profile {profile}"


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


def _same(project: Project, content: Mapping[str, Any], node: Node, good: tuple[Record, StageRecord]) -> bool:
    """Whether *node* is what it was in its last good run, and nothing of it was to be built again since."""
    record, row = good
    return row.inputs == bake.inputs_digest(project.root, content, node) and (
        ledger.order(bake.newest_rebuild(content, node)) <= ledger.order(record.id)
    )


def stage_image(project: Project, plan: Plan, running: Engine, label: str, *, say: Callable[[str], None]) -> str:
    """The reference of an image that holds the stage *label*, built (mostly from the cache) to look around in.

    Raises BuildError when it does not build. A finished image is used as it is.
    """
    node = plan.node(label)
    tag = bake.image_tag(project.config, node.group, plan.profile_name)
    if node.kind is Kind.IMAGE:
        if engine.inspect_image(running, tag) is None:
            raise RecordError(f"{tag} is not built. `{again_command(label, plan.profile_name)}` builds it.")
        return tag
    # A name for this shell alone: another one in the same stage removes its own at its end, and not ours.
    reference = f"{bake.shell_tag(project.config, plan, node)}-{secrets.token_hex(4)}"
    facts = engine.facts(running)
    check_tools(facts)
    check_emulation(plan, running, facts, project.sysroot)
    request = Request(task="shell")
    content = bake.definition(project.config, plan, options(project, plan, request, run="shell", revision=None))
    target = content["target"][node.target]
    target |= {"target": node.name, "output": [f"type=docker,name={reference}"]}
    target["labels"] = {bake.LABEL_PROJECT: project.config.project.name, LABEL_SHELL: shell_label()}
    decoder, recorder = EventDecoder(), Recorder()

    def on_chunk(chunk: bytes) -> None:
        for event in decoder.feed(chunk):
            recorder.add(event)

    with ledger.exclusive(project.state_path), _removed_after_failure(running, reference):
        bake.write_definition(project.root, project.state, content)
        say(f"Building {label} as {reference}; what did not change comes from the cache.")
        with build_secrets(project, network.read_settings(project.environ, project.home)):
            status, _ = bake.run(
                bake.command(running.docker, bake.definition_file(project.state), (node.target,)),
                root=project.root,
                env=running.env,
                metadata=project.state_path / "shell-metadata.json",
                on_chunk=on_chunk,
            )
    if status != 0:
        failure = timeline.failure(recorder.timeline(), decoder.text)
        raise BuildError(
            f"{label} does not build: {failure.error if failure else f'exit status {status}'}\n"
            f"See why with: {again_command(label, plan.profile_name)}"
        )
    return reference


@contextmanager
def _removed_after_failure(running: Engine, reference: str) -> Iterator[None]:
    """Remove the image *reference* where the block raises, Ctrl-C included: nobody else knows its name."""
    try:
        yield
    except BaseException:
        with suppress(JetpareError):
            engine.remove_image(running, reference)
        raise


def shell_label() -> str:
    """Return the identity of this process, by which `clean` finds the image of a shell that has ended, or ''."""
    return engine.owner_label().get(engine.OWNER, "")

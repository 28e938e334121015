"""What each task does: open the project, find the engine, make one call, show one result.

Results go to stdout and can be piped; the narration goes to stderr. Modules are imported where they are used, so that
`invoke --list` answers at once.
"""

from __future__ import annotations

import io
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from jetpare.errors import AuditError, BudgetError, ConfigError, DoctorError, RecordError

if TYPE_CHECKING:
    from rich.console import Console

    from jetpare.audit import Audit
    from jetpare.compare import Comparison
    from jetpare.engine import Engine
    from jetpare.ledger import Record
    from jetpare.pipeline import Request
    from jetpare.plan import Plan
    from jetpare.project import Project


FILE_WIDTH = 100  # columns of a table in a file or a pipe
IN_THE_TREE = (
    "cd /opt/stage; PATH=/opt/stage/opt/venv/bin:/opt/stage/usr/local/bin:$PATH; "
    "LD_LIBRARY_PATH=/opt/stage/usr/local/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}; "
    "GDAL_DATA=/opt/stage/usr/local/share/gdal; export PATH LD_LIBRARY_PATH GDAL_DATA; "
)


@dataclass(frozen=True, kw_only=True)
class Session:
    """One command: where the project is, the environment, and the profile that was asked for."""

    root: Path
    environ: Mapping[str, str]
    profile: str | None = None

    # --- parts, made when they are first needed

    @cached_property
    def project(self) -> Project:
        """build.toml, read and validated."""
        from jetpare.project import open_project

        opened = open_project(self.root, self.environ)
        self.tell_pending(opened)
        return opened

    def tell_pending(self, project: Project) -> None:
        """Say what an interrupted run has not put back on the board; the next build, or `power --restore`, does it."""
        from jetpare import power
        from jetpare.host import LocalHost

        host = LocalHost(root=project.sysroot, environ=self.environ)
        pending = power.pending(state=project.state_path, host=host)
        if pending is not None and not pending.live:
            self.say(str(pending))

    @cached_property
    def engine(self) -> Engine:
        """The engine that answers. Raises EngineError where none does."""
        from jetpare import engine

        return engine.find(state=self.project.state_path, environ=self.environ)

    @cached_property
    def out(self) -> Console:
        """Where results go."""
        from rich.console import Console

        # A file or a pipe has no width of its own; tables there are not squeezed into 80 columns.
        return Console(highlight=False, width=None if _is_terminal(sys.stdout) else FILE_WIDTH)

    @cached_property
    def err(self) -> Console:
        """Where narration goes."""
        from rich.console import Console

        return Console(stderr=True, highlight=False, soft_wrap=not _is_terminal(sys.stderr))

    def say(self, line: str) -> None:
        """One line of narration."""
        self.err.print(line, markup=False)

    def plan_of(self, *, images: tuple[str, ...] = (), only: str | None = None, architecture: str) -> Plan:
        """The plan of this session's profile on *architecture*."""
        return self.project.plan(profile=self.profile, architecture=architecture, images=images, only=only)

    def engine_plan(self, *, images: tuple[str, ...] = (), only: str | None = None) -> Plan:
        """The plan on the engine's own architecture; the faults of build.toml are told before an engine is sought."""
        from jetpare import engine

        self.plan_of(images=images, only=only, architecture=_host())
        return self.plan_of(images=images, only=only, architecture=engine.facts(self.engine).arch)

    # --- building

    def build_all(self, *, images: tuple[str, ...], parallel: bool, cold: bool, power: str, dry_run: bool) -> None:
        """Build the images, show the times, and compare."""
        from jetpare.pipeline import Request

        request = Request(task="build-all", parallel=parallel, cold=cold, power=power)
        if dry_run:
            self.dry_run(self.plan_of(images=images, architecture=_host()), request)
            return
        plan = self.engine_plan(images=images)
        self.run(plan, request)
        self.compare(as_json=False, output=None)

    def stage(self, stage: str, *, image: str | None, power: str, no_cache: bool, dry_run: bool) -> None:
        """Build one stage and what it needs; say where its log, record and tree are."""
        from jetpare import bake, gather
        from jetpare.pipeline import Request
        from jetpare.plan import find_stage

        label = find_stage(self.project.config, stage, image)
        request = Request(task=stage, power=power, again=frozenset({label}) if no_cache else frozenset())
        if dry_run:
            self.dry_run(self.plan_of(only=label, architecture=_host()), request)
            return
        plan = self.engine_plan(only=label)
        record = self.run(plan, request)
        folder = self.project.state / "runs" / record.id
        row = record.stage(label)
        group, name = label.split("/")
        shell = f"invoke shell {name} --image {group}{self.profile_flag()}"
        self.out.print(f"log:    {folder / str(row.log if row else '')}", markup=False, soft_wrap=True)
        self.out.print(
            f"record: {folder / str(row.report if row and row.report else 'run.json')}", markup=False, soft_wrap=True
        )
        where = bake.image_tag(self.project.config, group, plan.profile_name)
        final = plan.images[group].final == name
        tree = f"in the image {where}" if final else "/opt/stage inside the stage"
        self.out.print(f"tree:   {tree}; look around with `{shell}`", markup=False, soft_wrap=True)
        if final:
            self.check_budgets(gather.comparison(self.project, plan, self.engine))

    def run(self, plan: Plan, request: Request) -> Record:
        """Build *plan* with a progress view and show the times."""
        from jetpare import pipeline
        from jetpare.views import terminal
        from jetpare.views.progress import make_progress

        progress = make_progress(self.err, plain=not self.err.is_terminal)
        record = pipeline.build(self.project, plan, self.engine, request, progress)
        terminal.show(self.out, terminal.timing(record), "")
        return record

    def dry_run(self, plan: Plan, request: Request) -> None:
        """Print what would be handed to bake, and the command; write it where the command finds it."""
        from jetpare import bake, network, pipeline, process
        from jetpare.errors import JetpareError
        from jetpare.plan import Kind
        from jetpare.project import source_revision

        try:
            docker, overrides = self.engine.docker, self.engine.overrides
        except JetpareError:
            docker, overrides = "docker", {}
        root, state = self.project.root, self.project.state
        revision = source_revision(root, self.environ)
        chosen = pipeline.options(self.project, plan, request, run="dry-run", revision=revision)
        definition = bake.definition(self.project.config, plan, chosen)
        names = "-".join([request.task, *plan.images, plan.profile_name])
        file = bake.write_definition(root, state, definition, name=f"dry-run-{names}")
        network.write_secrets(network.read_settings(self.environ, self.project.home), root=root, state=state)
        self.out.print_json(json.dumps(definition))
        goals = [node for node in plan.nodes if node.kind is Kind.IMAGE] or [plan.nodes[-1]]
        for node in plan.nodes:
            if not node.baked:
                self.say(f"{node.label} ({node.kind.value}) is made by jetpare itself, and has to be there.")
        self.say("The image that the command exports has no name: jetpare checks it before it tags it. The command:")
        targets = tuple(target for node in goals for target in bake.call_targets(node))
        words = [f"{name}={shlex.quote(value)}" for name, value in {**overrides, **bake.ENVIRONMENT}.items()]
        command = " ".join([*words, process.render(bake.command(docker, file, targets))])
        self.out.print(f"cd {shlex.quote(str(root))} && {command}", markup=False, soft_wrap=True)

    # --- looking

    def compare(self, *, as_json: bool, output: str | None) -> None:
        """Show the comparison. Raises BudgetError, after it was shown, where an image is too large."""
        from jetpare import gather

        plan = self.engine_plan()
        result = gather.comparison(self.project, plan, self.engine)
        self.show_comparison(result, as_json=as_json, output=output)
        self.check_budgets(result)

    def check_budgets(self, result: Comparison) -> None:
        """Raise BudgetError where an image is larger than build.toml allows."""
        from jetpare.compare import gigabytes

        if result.over_budget:
            over = [
                f"{image.name} takes {gigabytes(image.sizes.get('layers'))} of {gigabytes(image.budget)}"
                for image in result.over_budget
            ]
            raise BudgetError(
                f"over budget: {', '.join(over)}. Find what grew, or raise [profiles.{result.profile}.budget_gb]."
            )

    def show_comparison(self, result: Comparison, *, as_json: bool, output: str | None) -> None:
        """Write the comparison to stdout or to a file."""
        from jetpare.views import terminal

        def show(console: Console) -> None:
            if as_json:
                console.print_json(json.dumps(result.as_dict()))
            else:
                terminal.show(console, terminal.comparison(result))

        self.write(show, output, "The comparison")

    def write(self, show: Callable[[Console], None], output: str | None, what: str) -> None:
        """Show *what* on stdout, or write it to a file and say so."""
        from rich.console import Console

        if output is None:
            show(self.out)
            return
        try:
            with Path(output).open("w", encoding="utf-8") as file:
                show(Console(file=file, width=FILE_WIDTH))
        except OSError as error:
            raise ConfigError(f"{output}: cannot be written: {error.strerror}.") from None
        self.say(f"{what} is in {output}.")

    def audit(self, *, images: tuple[str, ...], forms: Mapping[str, bool], output: str | None) -> None:
        """Audit images; at most one of *forms* (json, sarif, prune-plan). Raises AuditError by [audit] fail_on."""
        from jetpare import audit

        chosen = [name for name, wanted in forms.items() if wanted]
        if len(chosen) > 1:
            raise ConfigError(f"--{' and --'.join(chosen)}: one of them is wanted.")
        form = chosen[0] if chosen else "table"
        result = audit.run(self.project, self.engine_plan(), self.engine, images=images, say=self.say)
        self.write(lambda console: _show_audit(console, result, form), output, "The audit")
        if form != "prune-plan":
            self.check_audit(result)

    def check_audit(self, result: Audit) -> None:
        """Raise AuditError where findings make the audit fail, RecordError where there was nothing to audit."""
        if result.failed:
            ids = dict.fromkeys(f"{each.id} ({each.image})" if each.image else each.id for each in result.failed)
            raise AuditError(
                f"{len(result.failed)} findings: {', '.join(ids)}. What to do stands with each; what may be stays "
                "as it is with a reason in build.toml, [[audit.waivers]]."
            )
        if not result.images:
            raise RecordError("No image is built. `invoke build-all` builds them.")

    def plan(self, *, images: tuple[str, ...]) -> None:
        """Show the plan."""
        from jetpare import pipeline
        from jetpare.views import terminal

        plan = self.plan_of(images=images, architecture=_host())
        terminal.show(self.out, terminal.plan_table(plan, pipeline.expectations(self.project, plan)))

    def logs(self, stage: str, *, image: str | None) -> None:
        """Print the newest full log of a stage."""
        from jetpare import gather
        from jetpare.plan import find_stage

        label = find_stage(self.project.config, stage, image)
        plan = self.plan_of(only=label, architecture=_host())
        path = gather.log_file(self.project, label, plan.profile_name)
        if path is None:
            raise RecordError(f"{label} has no log in profile '{plan.profile_name}': it was never built here.")
        self.say(f"{path.relative_to(self.project.root)}:")
        sys.stdout.write(path.read_text(errors="replace"))

    def history(self, *, stages: tuple[str, ...], last: int, form: str) -> None:
        """Show the runs that compare, stage by stage; *form* is table, json or csv."""
        from jetpare import history
        from jetpare.ledger import Ledger
        from jetpare.views import history as view
        from jetpare.views import terminal

        if last < 0:
            raise ConfigError(f"--last {last}: a number of runs is wanted, or 0 for all.")
        records = history.readable(Ledger(self.project.state_path).records(), warn=self.say)
        labels = [
            f"{group}/{stage}"
            for stage in stages
            for group, image in self.project.config.images.items()
            if stage in image.stages
        ]
        unknown = [stage for stage in stages if not any(label.endswith(f"/{stage}") for label in labels)]
        if unknown:
            raise ConfigError(f"there is no stage '{unknown[0]}'. `invoke plan` shows them.")
        found = history.groups(records, labels=labels, last=last or None)
        if form == "json":
            self.out.print_json(json.dumps(history.as_dict(found)))
        elif form == "csv":
            sys.stdout.write(history.as_csv(found))
        elif found:
            terminal.show(self.out, view.history(found))
        else:
            raise RecordError("No run of this project is recorded. `invoke build-all` makes one.")

    def timings(self, run: str, *, trace_file: str) -> None:
        """Show one run in detail; write its trace where a file is named."""
        from jetpare import ledger, trace
        from jetpare.views import history as view
        from jetpare.views import terminal

        kept = ledger.Ledger(self.project.state_path)
        folders = [folder for record, folder in kept.records() if record is not None and run in {"", record.id}]
        record = ledger.read(folders[0]) if folders else None
        if record is None:
            what = f"run '{run}' is not recorded or cannot be read" if run else "no run is recorded"
            raise RecordError(f"{what}: {kept.folder.relative_to(self.project.root)} holds the runs.")
        loaded = trace.load(record, folders[0])
        terminal.show(self.out, view.timings(loaded))
        if trace_file:
            Path(trace_file).write_text(json.dumps(trace.chrome(loaded)))
            self.say(f"The trace is in {trace_file}; ui.perfetto.dev or chrome://tracing opens it.")

    def shell(self, stage: str, *, image: str | None, command: str) -> None:
        """Run a shell in a stage's result; its exit status becomes ours."""
        from jetpare import engine, pipeline
        from jetpare.plan import Kind, find_stage

        label = find_stage(self.project.config, stage, image)
        plan = self.engine_plan(only=label)
        reference = pipeline.stage_image(self.project, plan, self.engine, label, say=self.say)
        final = plan.node(label).kind is Kind.IMAGE
        # A stage's tree is not where its programs expect it yet.
        setup = "" if final else IN_THE_TREE
        if not final:
            self.say("The stage's tree is /opt/stage; PATH and LD_LIBRARY_PATH point into it.")
        try:
            status = engine.run_shell(self.engine, reference, ["/bin/sh", "-c", setup + (command or "exec /bin/sh")])
        finally:
            if not final:  # its layers stay in the build cache
                engine.remove_image(self.engine, reference)
        if status:
            raise SystemExit(status)

    def power(self, *, restore: bool) -> None:
        """Show the power mode and the clocks, or put back what an interrupted run left."""
        from jetpare import power, power_status
        from jetpare.host import LocalHost
        from jetpare.views import power as view
        from jetpare.views import terminal

        state, host = self.project.state_path, LocalHost(root=self.project.sysroot, environ=self.environ)
        if restore:
            if not power.restore(state=state, host=host, say=self.say):
                self.say("There is nothing to put back.")
            return
        terminal.show(self.out, view.power(power_status.status(state=state, host=host)))

    def doctor(self) -> None:
        """Show the findings. Raises DoctorError where one failed."""
        from jetpare import preflight
        from jetpare.views import terminal

        findings = preflight.findings(self.project, self.plan_of(architecture=_host()))
        terminal.show(self.out, terminal.findings(findings))
        failed = [row.name for row in findings if row.status == "failed"]
        if failed:
            raise DoctorError(f"{len(failed)} failed: {', '.join(failed)}. What to do stands beside each.")

    # --- the engine, and cleaning up

    def engine_up(self, *, store: str) -> None:
        """Start a private engine unless an engine answers."""
        from jetpare import engine, private_engine
        from jetpare.errors import EngineError

        wanted = _store(store)
        try:
            found = engine.find(state=self.project.state_path, environ=self.environ)
        except EngineError:
            if self.environ.get("DOCKER_HOST") or self.environ.get("DOCKER_CONTEXT"):
                raise  # an engine was named: starting another one beside it would not help
            found = private_engine.up(state=self.project.state_path, environ=self.environ, store=wanted, say=self.say)
        facts = engine.facts(found)
        whose = "private engine of this project" if found.private else "engine"
        self.say(f"The {whose} at {found.host} runs: Docker {facts.version_text}, {facts.store} store.")

    def engine_down(self, *, purge: bool) -> None:
        """Stop the private engine."""
        from jetpare import private_engine

        private_engine.down(state=self.project.state_path, purge=purge, say=self.say)

    def clean(self, *, cache: bool) -> None:
        """Remove what this project made."""
        from jetpare import cleaning

        for line in cleaning.clean(self.project, self.engine, cache=cache):
            self.say(line)

    def profile_flag(self) -> str:
        """' --profile NAME' where one was given."""
        return f" --profile {shlex.quote(self.profile)}" if self.profile else ""


def _show_audit(console: Console, result: Audit, form: str) -> None:
    from jetpare import prune_plan
    from jetpare.views import audit, sarif, terminal

    if form == "prune-plan":
        plan = [item for subject in result.subjects for item in prune_plan.items(subject)]
        terminal.show(console, audit.prune_plan(plan))
        toml = prune_plan.as_toml(plan).encode(errors="backslashreplace").decode()
        console.print(toml, markup=False, soft_wrap=True)
    elif form == "table":
        terminal.show(console, audit.audit(result))
    else:
        content = sarif.sarif(result) if form == "sarif" else result.as_dict()
        console.print_json(json.dumps(content), ensure_ascii=True)


def _store(name: str) -> Literal["overlay2", "containerd"]:
    stores: dict[str, Literal["overlay2", "containerd"]] = {"overlay2": "overlay2", "containerd": "containerd"}
    if name not in stores:
        raise ConfigError(f"there is no image store '{name}': {' or '.join(stores)} is wanted.")
    return stores[name]


def _is_terminal(stream: TextIO | None) -> bool:
    """Whether a person watches; what cannot be shown in the stream's encoding is escaped from now on."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream is not None and stream.isatty()


def _host() -> str:
    from jetpare.project import host_architecture

    return host_architecture()

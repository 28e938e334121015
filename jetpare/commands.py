"""What each task does: open the project, find the engine, make one call, show one result.

Results go to stdout and can be piped; the narration goes to stderr. Modules are imported where they are used, so that
`invoke --list` answers at once.
"""

from __future__ import annotations

import io
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from jetpare.errors import (
    AuditError,
    BudgetError,
    ConfigError,
    DoctorError,
    RecordError,
    UnknownNameError,
    VerifyError,
)
from jetpare.text import plain_lines

if TYPE_CHECKING:
    from rich.console import Console

    from jetpare.audit import Audit
    from jetpare.base_settings import Settings
    from jetpare.compare import Comparison
    from jetpare.engine import Engine
    from jetpare.gather import Gathered
    from jetpare.ledger import Record, StageRecord
    from jetpare.needs import Image
    from jetpare.pipeline import Request
    from jetpare.plan import Plan
    from jetpare.project import Project
    from jetpare.pull_size import Method


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
    platform: str | None = None  # in place of the profile's own

    def __enter__(self) -> Session:  # noqa: PYI034 - typing.Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        """Close the engine, if it was opened."""
        if "engine" in self.__dict__:
            self.engine.close()

    # --- parts, made when they are first needed

    @cached_property
    def project(self) -> Project:
        """build.toml, read and validated."""
        from jetpare.project import open_project

        opened = open_project(self.root, self.environ)
        self.tell_pending(opened)
        self.tell_damaged(opened)
        return opened

    def tell_pending(self, project: Project) -> None:
        """Say what an interrupted run has not put back on the board; the next build, or `power --restore`, does it."""
        from jetpare import power

        pending = power.pending(state=project.state_path, host=project.host)
        if pending is not None and not pending.live:
            self.say(str(pending))

    def tell_damaged(self, project: Project) -> None:
        """Name the records that no figure comes from, because they cannot be read."""
        for record, folder in project.ledger.records():
            if record is None:
                path = (folder / "run.json").relative_to(project.root)
                self.say(f"{path} is damaged or of another version, and is left out. To remove it: rm -r {path.parent}")

    @cached_property
    def engine(self) -> Engine:
        """The engine that answers, found once and used by the whole command. Raises EngineError where none does."""
        from jetpare import engine

        return engine.find(state=self.project.state_path, environ=self.environ)

    @cached_property
    def architecture(self) -> str:
        """The engine's architecture; this machine's where none answers."""
        from jetpare import engine
        from jetpare.errors import JetpareError

        try:
            return engine.facts(self.engine).arch
        except JetpareError:
            return _host()

    @cached_property
    def out(self) -> Console:
        """Where results go."""
        from rich.console import Console

        from jetpare.views.terminal import FILE_WIDTH

        # A file or a pipe has no width of its own; tables there are not squeezed into 80 columns.
        return Console(highlight=False, width=None if _is_terminal(sys.stdout) else FILE_WIDTH)

    @cached_property
    def err(self) -> Console:
        """Where narration goes."""
        from rich.console import Console

        return Console(stderr=True, highlight=False, soft_wrap=not _is_terminal(sys.stderr))

    def say(self, line: str) -> None:
        """One line of narration."""
        self.err.print(plain_lines(line), markup=False)

    def plan_of(self, *, images: tuple[str, ...] = (), only: str | None = None, architecture: str) -> Plan:
        """The plan of this session's profile on *architecture*."""
        return self.project.plan(
            profile=self.profile, architecture=architecture, platform=self.platform, images=images, only=only
        )

    def engine_plan(self, *, images: tuple[str, ...] = (), only: str | None = None) -> Plan:
        """The plan on the engine's own architecture; the faults of build.toml are told before an engine is sought."""
        from jetpare import engine

        self.plan_of(images=images, only=only, architecture=_host())
        return self.plan_of(images=images, only=only, architecture=engine.facts(self.engine).arch)

    # --- building

    def build_all(self, request: Request, *, images: tuple[str, ...], repeat: int, dry_run: bool) -> None:
        """Build the images, show the times, and compare; with *repeat*, that many times.

        What is repeated without empty caches is built again each time: the layer cache would leave nothing to measure.
        """
        if repeat < 1:
            raise ConfigError(f"--repeat {repeat}: a number of runs is wanted, 1 or more.")
        plan = (
            self.plan_of(images=images, architecture=self.architecture) if dry_run else self.engine_plan(images=images)
        )
        if repeat > 1 and not request.cold:
            again = frozenset(node.label for node in plan.nodes if node.group in plan.images)
            request = replace(request, again=again)
        if dry_run:
            self.dry_run(plan, request)
            return
        rows = self.run(plan, request).stages if repeat == 1 else self.repeat(plan, request, times=repeat)
        self.compare(rows=rows)

    def repeat(self, plan: Plan, request: Request, *, times: int) -> tuple[StageRecord, ...]:
        """Build *plan* several times and show what is usual; the rows of the last run, with the medians as times.

        Whatever ends it before its time, what was measured until then is shown.
        """
        from rich.text import Text

        from jetpare import doctor, engine, history, ledger, process
        from jetpare.repeat import Machine, hottest_zone, repeat
        from jetpare.views import history as view
        from jetpare.views import terminal

        kept, facts = self.project.ledger, engine.facts(self.engine)
        before = {folder for _, folder in kept.records()}
        local = doctor.is_local(self.engine)
        machine = Machine(
            hottest=lambda: hottest_zone(self.project.sysroot) if local else None,
            free=lambda: doctor.free_bytes(self.engine, facts, self.project.state_path),
        )
        with process.signals_as_interrupt():
            try:
                repeat(times, lambda: self.run(plan, request), machine=machine, say=self.say)
            finally:
                new = [record for record, folder in kept.records() if record and folder not in before]
                made = [record for record in new if record.pid == ledger.own_pid()]
                if made:
                    done = sum(record.status == ledger.SUCCEEDED for record in made)
                    heading = Text(f"{done} of {times} runs succeeded", style="bold")
                    terminal.show(self.out, heading, view.history(history.groups(made)), "")
        return history.medians(made)

    def stage(self, stage: str, *, image: str | None, power: str, no_cache: bool, dry_run: bool) -> None:
        """Build one stage and what it needs; say where its log, record and tree are."""
        from jetpare import bake, gather
        from jetpare.pipeline import Request
        from jetpare.plan import find_stage

        label = find_stage(self.project.config, stage, image)
        request = Request(task=stage, power=power, again=frozenset({label}) if no_cache else frozenset())
        if dry_run:
            self.dry_run(self.plan_of(only=label, architecture=self.architecture), request)
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
        result = gather.comparison(self.project, self.engine, gather.of_profile(self.project, plan), plan=plan)
        self.check_budget(plan, result.comparison if final else None, record.stages)

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

        docker: str = "docker"
        overrides: Mapping[str, str] = {}
        settings: Mapping[str, Settings] = {}
        try:
            docker, overrides = self.engine.docker, self.engine.overrides
            settings = pipeline.settings_of_bases(self.project, plan, self.engine, plan.nodes)
        except JetpareError as error:
            if any(bake.starts_from_settings(plan, node) for node in plan.nodes):
                self.say(f"The definition lacks the settings of the base, which cannot be read yet: {error}")
        root, state = self.project.root, self.project.state
        revision = source_revision(root, self.environ)
        chosen = pipeline.options(self.project, plan, request, run="dry-run", revision=revision)
        chosen = replace(chosen, base_settings=settings)
        definition = pipeline.without_secrets(bake.definition(self.project.config, plan, chosen))
        names = "-".join([request.task, *plan.images, plan.profile_name])
        file = bake.write_definition(root, state, definition, name=f"dry-run-{names}")
        write_data(to_json(definition))
        goals = [node for node in plan.nodes if node.kind is Kind.IMAGE] or [plan.nodes[-1]]
        for node in plan.nodes:
            if not node.baked:
                self.say(f"{node.label} ({node.kind.value}) is made by jetpare itself, and has to be there.")
        of_host = network.read_settings(self.environ, self.project.home)
        if of_host.variables or of_host.ca_bundle:
            self.say(
                "The command does not use this host's package indexes, proxies and certificates: jetpare hands them to "
                "its own builds as secrets, which are on disk only while they run."
            )
        self.say("The image that the command exports has no name: jetpare checks it before it tags it. The command:")
        targets = tuple(target for node in goals for target in bake.call_targets(node))
        words = [f"{name}={shlex.quote(value)}" for name, value in {**overrides, **bake.ENVIRONMENT}.items()]
        command = " ".join([*words, process.render(bake.command(docker, file, targets))])
        write_data(f"cd {shlex.quote(str(root))} && {command}\n")

    # --- looking

    def compare(
        self,
        *,
        images: tuple[str, ...] = (),
        form: str = "",
        output: str = "",
        compress: str = "",
        rows: Sequence[StageRecord] | None = None,
    ) -> None:
        """Show the comparison of *images*; of all that the profile has, where none is named.

        *compress*: gzip or zstd, to work out the compressed sizes by. Raises BudgetError, after it was shown, where a
        budget was passed; times are judged by *rows*, those of a run just made, else by each stage's newest build.
        """
        from jetpare.views import formats

        chosen = formats.pick(form, output)
        _check_folder(output)
        method = _method(compress)
        plan = None if images else self.comparable_plan()
        found = self.gathered(images, plan, compress=method)
        self.write(formats.FORMATS[chosen](found) if output or chosen != formats.TEXT else None, found, output)
        self.summarise(found)
        if plan is not None:
            self.check_budget(plan, found.comparison, rows)

    def comparable_plan(self) -> Plan:
        """The plan of all images that are not optional, and of those optional ones that are built."""
        from jetpare import bake, engine

        usual = self.engine_plan()
        every = self.engine_plan(images=tuple(self.project.config.images))
        tags = {name: bake.image_tag(self.project.config, name, every.profile_name) for name in every.images}
        names = [
            name
            for name, tag in tags.items()
            if name in usual.images or engine.inspect_image(self.engine, tag) is not None
        ]
        return every if len(names) == len(tags) else self.engine_plan(images=tuple(names))

    def gathered(self, images: tuple[str, ...], plan: Plan | None, *, compress: Method | None = None) -> Gathered:
        """The comparison of *images*, or of those of *plan*, with what is in them."""
        from jetpare import gather

        looking = gather.Looking(say=self.say, compress=compress)
        if plan is None:
            wanted = gather.of_references(self.project, images, self.engine_plan)
            return gather.comparison(self.project, self.engine, wanted, looking=looking)
        wanted = gather.of_profile(self.project, plan)
        return gather.comparison(self.project, self.engine, wanted, plan=plan, looking=looking)

    def write(self, text: str | None, found: Gathered, output: str) -> None:
        """Write *text* to a file or to stdout; None: the tables, as the terminal can show them."""
        from jetpare.views.comparison import View

        if text is None:
            self.out.print(View(found.comparison))
        else:
            self.deliver(text, output, "The comparison")

    def write_file(self, output: str, text: str) -> None:
        """Write *text* to a file that a flag names; one that is there keeps its content where that fails."""
        from jetpare import files

        try:
            files.write_out(Path(output), text.encode("utf-8", errors="backslashreplace"))
        except OSError as error:
            raise ConfigError(f"{output}: cannot be written: {error.strerror}.") from None

    def summarise(self, found: Gathered) -> None:
        """In GitHub Actions, add the Markdown to the step's summary; a summary that cannot be written fails nothing."""
        from jetpare.views import formats

        summary = self.environ.get("GITHUB_STEP_SUMMARY")
        if not summary:
            return
        try:
            with Path(summary).open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(formats.markdown(found))
        except OSError as error:
            self.say(f"GITHUB_STEP_SUMMARY={summary}: cannot be written: {error.strerror}.")

    def check_budget(self, plan: Plan, result: Comparison | None, rows: Sequence[StageRecord] | None) -> None:
        """Raise BudgetError where an image or a stage takes more than build.toml allows; tell what was not judged."""
        from jetpare import budget, gather

        labels = [node.label for node in plan.nodes]
        stages = (
            gather.built_stages(self.project, profile=plan.profile_name, labels=labels)
            if rows is None
            else {row.label: row for row in rows}
        )
        sizes = {image.name: image.sizes.get("layers") for image in result.images} if result else {}
        lines = budget.judge(plan.profile.budget, sizes=sizes, stages=stages)
        for line in lines:
            if line.why:
                self.say(str(line))
        over = [line for line in lines if line.passed]
        if over:
            raise BudgetError(budget.message(over, table=self.project.config.table_of(plan.profile_name)))

    def verify(self, *, images: tuple[str, ...], as_json: bool) -> None:
        """Run the images and show what works. Raises VerifyError, after it was shown, where something does not."""
        from jetpare import engine, verify
        from jetpare.views import terminal
        from jetpare.views import verify as view

        found = {name: engine.inspect_image(self.engine, tag) for name, tag in self.built(images).items()}

        outcome = verify.run(
            self.engine,
            {name: facts.id for name, facts in found.items() if facts},
            state=self.project.state_path,
            accepted=self.project.config.verify.accept,
            say=self.say,
        )
        if as_json:
            write_data(to_json(outcome.as_dict()))
        else:
            terminal.show(self.out, view.outcome(outcome))
        if not outcome.works:
            raise VerifyError(f"{view.verdict(outcome)} What failed, and why, stands in the table.")

    def explain(self, word: str, *, images: tuple[str, ...], layers: bool) -> None:
        """Say why *word* is in each of the images. Raises UnknownNameError where none has it."""
        from jetpare import explain
        from jetpare.views import explain as view
        from jetpare.views import terminal

        close: list[str] = []
        lacking = []
        built = self.built(images)
        for name, reference in built.items():
            image = self.look_into(reference, stream=layers)
            subjects = explain.explain(image, word)
            if subjects:
                terminal.show(self.out, view.explanation(name, subjects, image_bytes=image.inventory.bytes), "")
            else:
                lacking.append(name)
                close += explain.similar(image, word)
        if len(lacking) == len(built):
            hint = f" Did you mean {' or '.join(dict.fromkeys(close))}?" if close else ""
            raise UnknownNameError(
                f"'{word}' is no path, package, distribution, component or group of {' or '.join(lacking)}.{hint}"
            )
        for name in lacking:
            self.out.print(f"{name} has no '{word}'.", markup=False, soft_wrap=True)

    def built(self, images: tuple[str, ...]) -> dict[str, str]:
        """Name -> reference of *images*, of build.toml or references; where none is named, of all that are built."""
        from jetpare import bake, engine

        known = self.project.config.images
        names = images or tuple(known)
        tags = {}
        if not known.keys().isdisjoint(names):
            profile = self.engine_plan().profile_name
            tags = {name: bake.image_tag(self.project.config, name, profile) for name in names if name in known}
        found = {name: tags.get(name, name) for name in names}
        there = {name: tag for name, tag in found.items() if engine.inspect_image(self.engine, tag) is not None}
        missing = [found[name] for name in images if name not in there] or ([] if there else list(found.values()))
        if missing:
            raise RecordError(
                f"the engine has no image {' or '.join(missing)}. Build it "
                f"(`invoke build-all{self.profile_flag()}`) or pull it."
            )
        return there

    def look_into(self, reference: str, *, stream: bool) -> Image:
        """What is in an image, whose it is, and its layers; those from the engine's stream only if *stream*."""
        from rich.progress import Progress

        from jetpare import attribution, host_libraries, layers, needs, xray

        state, config = self.project.state_path, self.project.config
        inventory = xray.take(self.engine, reference, state=state, say=self.say)
        total = sum(layer.size or 0 for layer in inventory.layers)
        with Progress(console=self.err, transient=True, disable=not (stream and self.err.is_terminal)) as progress:
            bar = progress.add_task(f"reading the layers of {reference}", total=total or None)
            told = (lambda done: progress.update(bar, completed=done)) if stream else None
            listing = layers.take(self.engine, inventory.image_id, state=state, stream=told)
        owned = attribution.attribute(inventory, groups=config.groups)
        asked = needs.sources(config, inventory.settings.labels)
        return needs.Image(inventory, owned, listing, asked, host_libraries.allowed(config.audit.host_libraries))

    def deliver(self, text: str, output: str, what: str) -> None:
        """Write *text* to stdout, or to the file *output* and say so."""
        if not output:
            write_data(text)
            return
        self.write_file(output, text)
        self.say(f"{what} is in {output}.")

    def audit(self, *, images: tuple[str, ...], forms: Mapping[str, bool], output: str | None) -> None:
        """Audit images; at most one of *forms* (json, sarif, prune-plan). Raises AuditError by [audit] fail_on."""
        from jetpare import audit
        from jetpare.views import audit as view
        from jetpare.views import terminal

        chosen = [name for name, wanted in forms.items() if wanted]
        if len(chosen) > 1:
            raise ConfigError(f"--{' and --'.join(chosen)}: one of them is wanted.")
        form = chosen[0] if chosen else "table"
        _check_folder(output or "")
        result = audit.run(self.project, self.comparable_plan(), self.engine, images=images, say=self.say)
        if form == "table" and not output:
            terminal.show(self.out, view.audit(result))
        else:
            self.deliver(_audit_text(result, form), output or "", "The audit")
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
            raise RecordError(f"No image is built. `invoke build-all{self.profile_flag()}` builds them.")

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
        write_data(path.read_text(errors="replace"))

    def history(self, *, stages: tuple[str, ...], last: int, form: str) -> None:
        """Show the runs that compare, stage by stage; *form* is table, json or csv."""
        from jetpare import history
        from jetpare.views import history as view
        from jetpare.views import terminal

        if last < 0:
            raise ConfigError(f"--last {last}: a number of runs is wanted, or 0 for all.")
        labels = [
            f"{group}/{stage}"
            for stage in stages
            for group, image in self.project.config.images.items()
            if stage in image.stages
        ]
        unknown = [stage for stage in stages if not any(label.endswith(f"/{stage}") for label in labels)]
        if unknown:
            raise ConfigError(f"there is no stage '{unknown[0]}'. `invoke plan` shows them.")
        found = history.groups(self.project.ledger.readable(), labels=labels, last=last or None)
        if form == "json":
            write_data(to_json(history.as_dict(found)))
        elif form == "csv":
            write_data(history.as_csv(found))
        elif found:
            terminal.show(self.out, view.history(found))
        else:
            raise RecordError("No run of this project is recorded. `invoke build-all` makes one.")

    def timings(self, run: str, *, trace_file: str) -> None:
        """Show one run in detail; write its trace where a file is named."""
        from jetpare import files, trace
        from jetpare.views import history as view
        from jetpare.views import terminal

        kept = self.project.ledger
        record = next((each for each in kept.readable() if run in {"", each.id}), None)
        if record is None:
            what = f"run '{run}' is not recorded or cannot be read" if run else "no run is recorded"
            raise RecordError(f"{what}: {kept.folder.relative_to(self.project.root)} holds the runs.")
        loaded = trace.load(record, kept.path(record.id))
        terminal.show(self.out, view.timings(loaded))
        if trace_file:
            files.write_out(Path(trace_file), json.dumps(trace.chrome(loaded)).encode())
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
        from jetpare.views import power as view
        from jetpare.views import terminal

        state, host = self.project.state_path, self.project.host
        if restore:
            if not power.restore(state=state, host=host, say=self.say):
                self.say("There is nothing to put back.")
            return
        terminal.show(self.out, view.power(power_status.status(state=state, host=host)))

    def doctor(self) -> None:
        """Show the findings. Raises DoctorError where one failed."""
        from jetpare import preflight
        from jetpare.views import terminal

        plan = self.plan_of(architecture=self.architecture)
        findings = preflight.findings(self.project, plan, lambda: self.engine)
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
            found = self.engine
        except EngineError:
            if self.environ.get("DOCKER_HOST") or self.environ.get("DOCKER_CONTEXT"):
                raise  # an engine was named: starting another one beside it would not help
            found = private_engine.up(state=self.project.state_path, environ=self.environ, store=wanted, say=self.say)
        with found:
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


def _check_folder(output: str) -> None:
    """Raise ConfigError where a file could not be written for want of its folder, before any work is done for it."""
    if output and not Path(output).parent.is_dir():
        raise ConfigError(f"{output}: cannot be written: there is no folder {Path(output).parent}.")
    if output and Path(output).is_dir():
        raise ConfigError(f"{output}: cannot be written: it is a folder.")


def _method(name: str) -> Method | None:
    methods: dict[str, Method | None] = {"": None, "gzip": "gzip", "zstd": "zstd"}
    if name not in methods:
        raise ConfigError(f"--compress {name}: gzip or zstd is wanted.")
    return methods[name]


def _audit_text(result: Audit, form: str) -> str:
    """Return the audit as text: the tables, the documented JSON, SARIF, or what could go, with rules for build.toml."""
    from jetpare import prune_plan
    from jetpare.views import audit, sarif, terminal

    if form == "prune-plan":
        plan = [item for subject in result.subjects for item in prune_plan.items(subject)]
        return f"{terminal.text(audit.prune_plan(plan))}{prune_plan.as_toml(plan)}\n"
    if form == "table":
        return terminal.text(audit.audit(result))
    return to_json(sarif.sarif(result) if form == "sarif" else result.as_dict())


def to_json(content: object) -> str:
    """Return *content* as JSON in ASCII, so that names that are not UTF-8 survive, with a line feed at its end."""
    return json.dumps(content, indent=2) + "\n"


def write_data(text: str) -> None:
    """Write *text* to stdout as it is: what another program reads (JSON, CSV, SARIF, TOML, a log) has no colour."""
    _is_terminal(sys.stdout)
    sys.stdout.write(text)


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

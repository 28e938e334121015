"""The tasks that build: the whole chain, one stage, a dry run, a shell in a stage."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jetpare.base.errors import ConfigError
from jetpare.cli import image_tasks, results, run_tasks
from jetpare.cli.session import Session, engine_architecture

if TYPE_CHECKING:
    from jetpare.build.base_settings import BaseSettings
    from jetpare.build.request import Request
    from jetpare.project.plan import Plan
    from jetpare.records.ledger import Record, StageRecord


IN_THE_TREE = (
    "cd /opt/stage; PATH=/opt/stage/opt/venv/bin:/opt/stage/usr/local/bin:$PATH; "
    "LD_LIBRARY_PATH=/opt/stage/usr/local/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}; "
    "GDAL_DATA=/opt/stage/usr/local/share/gdal; export PATH LD_LIBRARY_PATH GDAL_DATA; "
)


def build_all(
    session: Session,
    *,
    images: tuple[str, ...] = (),
    parallel: bool = False,
    cold: bool = False,
    repeat: int = 1,
    power: str = "",
    dry_run: bool = False,
) -> None:
    """Build the images, show the times, and compare; with *repeat*, that many times.

    Repeated runs that are not *cold* build every stage again: with the layer cache there would be nothing to measure.
    """
    from jetpare.build.request import Request

    if repeat < 1:
        raise ConfigError(f"--repeat {repeat} is not a valid number of runs; expected 1 or more.")
    plan = (
        session.plan_of(images=images, architecture=engine_architecture(session))
        if dry_run
        else session.engine_plan(images=images)
    )
    every = [node.label for node in plan.nodes if node.group in plan.images]
    again = frozenset(every if repeat > 1 and not cold else ())
    request = Request(task="build-all", parallel=parallel, cold=cold, power=power, again=again)
    if dry_run:
        show_dry_run(session, plan, request)
        return
    rows = (
        run_plan(session, plan, request).stages
        if repeat == 1
        else build_repeatedly(session, plan, request, times=repeat)
    )
    image_tasks.compare(session, rows=rows)


def build_repeatedly(session: Session, plan: Plan, request: Request, *, times: int) -> tuple[StageRecord, ...]:
    """Build *plan* several times, show the medians, and return the rows of the last run with the medians as times.

    If something ends it early, the runs until then are still shown.
    """
    from rich.text import Text

    from jetpare.base import process
    from jetpare.build.repeat import Machine, hottest_zone, repeat
    from jetpare.engine import api, disk
    from jetpare.records import history, ledger
    from jetpare.views import history_text, terminal

    kept, facts = session.project.ledger, api.facts(session.engine)
    before = {folder for _, folder in kept.records()}
    local = disk.is_local(session.engine)
    machine = Machine(
        hottest=lambda: hottest_zone(session.project.sysroot) if local else None,
        free=lambda: disk.free_bytes(session.engine, facts, session.project.state_path),
    )
    with process.signals_as_interrupt():
        try:
            repeat(times, lambda: run_plan(session, plan, request), machine=machine, say=session.say)
        finally:
            new = [record for record, folder in kept.records() if record and folder not in before]
            made = [record for record in new if record.pid == ledger.own_pid()]
            if made:
                done = sum(record.status == ledger.SUCCEEDED for record in made)
                heading = Text(f"{done} of {times} runs succeeded", style="bold")
                terminal.show(session.out, heading, history_text.history(history.groups(made)), "")
    return history.medians(made)


def build_stage(
    session: Session, stage: str, *, image: str = "", power: str = "", no_cache: bool = False, dry_run: bool = False
) -> None:
    """Build one stage and the stages that it needs; say where its log, record and tree are."""
    from jetpare.build.request import Request
    from jetpare.compare import gather
    from jetpare.project import naming
    from jetpare.project.plan import find_stage

    label = find_stage(session.project.config, stage, image or None)
    request = Request(task=stage, power=power, again=frozenset({label}) if no_cache else frozenset())
    if dry_run:
        show_dry_run(session, session.plan_of(only=label, architecture=engine_architecture(session)), request)
        return
    plan = session.engine_plan(only=label)
    record = run_plan(session, plan, request)
    folder = session.project.state / "runs" / record.id
    row = record.stage(label)
    group, name = label.split("/")
    shell = f"invoke shell {name} --image {group}{session.profile_flag()}"
    session.out.print(f"log:    {folder / str(row.log if row else '')}", markup=False, soft_wrap=True)
    session.out.print(
        f"record: {folder / str(row.report if row and row.report else 'run.json')}", markup=False, soft_wrap=True
    )
    where = naming.image_tag(session.project.config, group, plan.profile_name)
    final = plan.images[group].final == name
    tree = f"in the image {where}" if final else "/opt/stage inside the stage"
    session.out.print(f"tree:   {tree}; look around with `{shell}`", markup=False, soft_wrap=True)
    result = gather.comparison(session.project, session.engine, gather.of_profile(session.project, plan), plan=plan)
    run_tasks.check_budget(session, plan, result.comparison if final else None, record.stages)


def run_plan(session: Session, plan: Plan, request: Request) -> Record:
    """Build *plan* with a progress view and show the times."""
    from jetpare.build import pipeline
    from jetpare.views import terminal
    from jetpare.views.live import make_progress

    progress = make_progress(session.err, plain=not session.err.is_terminal)
    record = pipeline.build(session.project, plan, session.engine, request, progress)
    terminal.show(session.out, terminal.timing(record), "")
    return record


def show_dry_run(session: Session, plan: Plan, request: Request) -> None:
    """Print the bake definition and the command that runs it, and write the file that the command names."""
    from jetpare.base import process
    from jetpare.build import bake, buildx, network
    from jetpare.project.plan import NodeKind

    docker, overrides = tools(session)
    definition = dry_definition(session, plan, request)
    names = "-".join([request.task, *plan.images, plan.profile_name])
    root = session.project.root
    file = buildx.write_definition(root, session.project.state, definition, name=f"dry-run-{names}")
    results.write_data(results.to_json(definition))
    for node in plan.nodes:
        if not node.baked:
            session.say(
                f"jetpare makes {node.label} ({node.kind.value}) itself: it must exist before the command runs."
            )
    of_host = network.read_settings(session.environ, session.project.home)
    if of_host.variables or of_host.ca_bundle:
        session.say(
            "The command does not use this host's package indexes, proxies and certificates: jetpare hands them to "
            "its own builds as secrets, which are on disk only while they run."
        )
    session.say("The command exports its image without a name: jetpare checks an image before it tags it. The command:")
    goals = [node for node in plan.nodes if node.kind is NodeKind.IMAGE] or [plan.nodes[-1]]
    targets = tuple(target for node in goals for target in bake.call_targets(node))
    command = process.render(buildx.command(docker, file, targets), {**overrides, **buildx.ENVIRONMENT})
    results.write_data(f"cd {shlex.quote(str(root))} && {command}\n")


def tools(session: Session) -> tuple[str, Mapping[str, str]]:
    """Return the Docker CLI of the engine and the variables that it needs; plain `docker` if no engine answers."""
    from jetpare.base.errors import JetpareError

    try:
        return session.engine.docker, session.engine.overrides
    except JetpareError:
        return "docker", {}


def dry_definition(session: Session, plan: Plan, request: Request) -> Mapping[str, Any]:
    """Return the bake definition without secrets. Says so if settings of a base are missing."""
    from jetpare.base.errors import JetpareError
    from jetpare.build import bake, secret_files
    from jetpare.build.request import options, settings_of_bases
    from jetpare.project.project import source_revision

    settings: Mapping[str, BaseSettings] = {}
    if any(bake.starts_from_settings(plan, node) for node in plan.nodes):
        try:
            settings = settings_of_bases(session.project, plan, session.engine, plan.nodes)
        except JetpareError as error:
            session.say(f"The definition lacks the settings of the base, which cannot be read yet: {error}")
    revision = source_revision(session.project.root, session.environ)
    chosen = options(session.project, plan, request, run="dry-run", revision=revision)
    content = bake.definition(session.project.config, plan, replace(chosen, base_settings=settings))
    return secret_files.without_secrets(content)


def shell(session: Session, stage: str, *, image: str = "", command: str = "") -> None:
    """Run a shell in a stage's result, and exit with its status."""
    from jetpare.base.process import command_line
    from jetpare.build.shell import stage_image
    from jetpare.engine import containers, image_store
    from jetpare.project.plan import NodeKind, find_stage

    label = find_stage(session.project.config, stage, image or None)
    plan = session.engine_plan(only=label)
    reference = stage_image(session.project, plan, session.engine, label, say=session.say, echo=session.echo)
    final = plan.node(label).kind is NodeKind.IMAGE
    # Only the last stage puts the tree where its programs expect it.
    setup = "" if final else IN_THE_TREE
    if not final:
        session.say("The stage's tree is /opt/stage; PATH and LD_LIBRARY_PATH point into it.")
    argv = ["/bin/sh", "-c", setup + (command or "exec /bin/sh")]
    try:
        session.echo(command_line(containers.shell_command(session.engine, reference, argv), session.engine.overrides))
        status = containers.run_shell(session.engine, reference, argv)
    finally:
        if not final:  # the layers stay in the build cache
            image_store.remove_image(session.engine, reference)
    if status:
        raise SystemExit(status)

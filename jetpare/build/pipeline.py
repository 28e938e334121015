"""Build a plan: one call of bake after the other (or one for all), with a record that is true at every moment."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from jetpare.base import process
from jetpare.base.errors import BuildError, Interrupted, JetpareError, StrictPowerError
from jetpare.board.nvpmodel import Present
from jetpare.build import buildx, cudnn, inputs, journal, network, prepare, schedule, stage_rows, tagging, watch
from jetpare.build.bake import definition
from jetpare.build.call import BakeCall
from jetpare.build.estimate import usual_times
from jetpare.build.guards import check_engine, check_space
from jetpare.build.journal import Journal
from jetpare.build.request import Request, keep_rebuilds, options, settings_of_bases, unchanged_labels
from jetpare.build.run import BuildRun
from jetpare.build.secret_files import build_secrets
from jetpare.build.watch import HostWatch
from jetpare.engine import api
from jetpare.engine.model import Engine
from jetpare.events.progress import Progress
from jetpare.project import naming
from jetpare.project.plan import CUDNN, Node, NodeKind, Plan
from jetpare.project.project import Project
from jetpare.records import ledger
from jetpare.records.ledger import Record


def build(project: Project, plan: Plan, engine_: Engine, request: Request, progress: Progress) -> Record:
    """Build *plan* and return its record, which is on disk at every moment.

    Raises BuildError or CheckError when a node fails, ConfigError when cuDNN does not fit PyTorch, Interrupted on
    Ctrl-C or SIGTERM, BusyError when another run is under way, SpaceError before anything starts when the disk is too
    small.
    """
    with ExitStack() as stack:
        stack.enter_context(ledger.exclusive(project.state_path))
        stack.enter_context(process.signals_as_interrupt())
        held = stack.enter_context(watch.power_session(project, engine_, request, say=progress.note))
        facts = api.facts(engine_)  # after the switch: low power modes take cores offline
        check_engine(project, plan, engine_, facts)
        check_space(project, plan, engine_, facts)
        fit = cudnn.check(project, plan)
        if fit and fit.unknown:
            progress.note(f"Only the end of the build shows whether cuDNN fits PyTorch: {fit.unknown}.")
        kept = journal.begin(project, plan, request, facts=facts, host=watch.host_facts(project, held))
        with _closed(project, kept, progress):
            sampler = stack.enter_context(
                watch.sampling(project, engine_, facts, folder=kept.folder, say=progress.note)
            )
            stack.enter_context(progress)
            run = BuildRun(
                project=project,
                plan=plan,
                engine=engine_,
                request=request,
                settings=network.read_settings(project.environ, project.home),
                journal=kept,
                watch=HostWatch(held=held, sampler=sampler),
                progress=progress,
                fit=fit,
            )
            _make(run)
    return kept.record


@contextmanager
def _closed(project: Project, kept: Journal, progress: Progress) -> Iterator[None]:
    """Write the last record when the block ends, however it ends; what it raises stays the failure that is raised."""
    try:
        yield
    except KeyboardInterrupt:
        trouble = kept.close_after_failure(ledger.INTERRUPTED, "interrupted")
        raise Interrupted(
            "Interrupted. What was finished is kept in the cache; the record is "
            f"{(kept.folder / 'run.json').relative_to(project.root)}.{trouble}"
        ) from None
    except JetpareError as error:
        error.message = f"{error}{kept.close_after_failure(ledger.FAILED, str(error))}"
        raise
    except BaseException as error:  # whatever it was: the record must not say that it still runs
        trouble = kept.close_after_failure(ledger.FAILED, str(error) or type(error).__name__)
        if trouble:
            progress.note(trouble.strip())
        raise
    else:
        kept.close(ledger.SUCCEEDED)
    finally:  # after the record was written: the terminal may be gone
        shutil.rmtree(project.state_path / "reports", ignore_errors=True)
        for row in kept.record.stages:
            if row.status in {ledger.SKIPPED, ledger.INTERRUPTED}:
                progress.finish(row.label, row.status, row.reason)


def _make(run: BuildRun) -> None:
    """Make every node of the plan: first what BuildKit does not make, then the rest, call by call."""
    unchanged = unchanged_labels(run.project, run.plan)
    run.progress.plan([node.label for node in run.plan.nodes], usual_times(run, unchanged))
    for node in run.plan.nodes:
        if not node.baked:
            prepare.make_input(run, node)
    with build_secrets(run.project, run.settings):
        for batch in schedule.batches(run, unchanged):
            _bake(run, batch)


def _bake(run: BuildRun, nodes: Sequence[Node]) -> None:
    """Build *nodes* in one call of bake, write a row for each, and finish the images among them."""
    content = _write_definition(run, nodes)
    _tell_what_is_left_out(run, nodes)
    call = BakeCall(
        project=run.project,
        engine=run.engine,
        folder=run.journal.folder,
        nodes=nodes,
        own_stages=inputs.own_stages(run.project.root, content, [node for node in run.plan.nodes if node.baked]),
        progress=run.progress,
        on_row=run.journal.put_stage,
    )
    before, trouble = run.watch.present(), ""
    run.watch.take_sample()
    try:
        call.run()
    except OSError as error:
        if not call.has_failed:  # else the stage failed first, as on a disk that is full for both
            raise
        trouble = f"\nBesides, its log is not whole: {error}"
    run.journal.has_failed = call.has_failed
    marked = _put_rows(run, call, content, before)
    if call.has_failed:
        raise BuildError(stage_rows.failure_message(run, call) + trouble)
    keep_rebuilds(run.project, run.plan, run.request, nodes, run=run.journal.record.id)
    _check_power(run, marked)
    for node in nodes:
        _check_cudnn(run, node)
        if node.kind is NodeKind.IMAGE:
            tagging.finish_image(run, node, call)


def _write_definition(run: BuildRun, nodes: Sequence[Node]) -> dict[str, Any]:
    """Write and return the definition for the call that builds *nodes*, and remove what they exported before."""
    project, record = run.project, run.journal.record
    chosen = options(project, run.plan, run.request, run=record.id, revision=record.revision)
    # A node that was built fresh in an earlier call of this run must be found in the cache by this one.
    now = replace(
        chosen,
        fresh=chosen.fresh & {node.label for node in nodes},
        base_settings=settings_of_bases(project, run.plan, run.engine, nodes),
    )
    content = definition(project.config, run.plan, now)
    buildx.write_definition(project.root, project.state, content)
    for node in nodes:
        shutil.rmtree(project.root / naming.report_folder(project.state, node), ignore_errors=True)
    return content


def _tell_what_is_left_out(run: BuildRun, nodes: Sequence[Node]) -> None:
    """Say, before stage python is built, which folders of this host its settings name in vain."""
    if run.settings.left_out and [node.name for node in nodes] == ["python"]:
        run.progress.note(
            "Builds do not see what pip's or uv's settings name on this host's disk "
            f"({', '.join(run.settings.left_out)}); [python] wheels in build.toml takes folders of wheels."
        )


def _put_rows(run: BuildRun, call: BakeCall, content: Mapping[str, Any], before: Present | None) -> list[str]:
    """Record each node of *call*. Return why their times do not count for the power mode, a line for each reason."""
    after, marked = run.watch.present(), []
    for node in call.nodes:
        row = stage_rows.stage_row(run, node, call, content)
        marks = run.watch.marks(before, after, row.telemetry)
        marked += [f"{row.label}: {mark}" for mark in marks]
        foreign = stage_rows.foreign(run, node, content) if row.cache != "cached" else ()
        row = row.model_copy(update={"marks": (*marks, *foreign)})
        run.journal.put_stage(row)
        state = "cached" if row.cache == "cached" else row.status
        run.progress.finish(node.label, state, row.why or row.reason)
    shared = stage_rows.shared_seconds(call.timeline)
    run.journal.put(**{name: getattr(run.journal.record, name) + seconds for name, seconds in shared.items()})
    if run.request.parallel:
        run.journal.put(critical_path=stage_rows.critical_path(call.timeline))
    return marked


def _check_power(run: BuildRun, marked: Sequence[str]) -> None:
    """Raise StrictPowerError where build.toml is strict and *marked* has times that do not count for the mode."""
    if marked and run.project.config.power.strict:
        raise StrictPowerError(
            "[power] strict: these times do not count for the power mode:\n" + "\n".join(f"  {mark}" for mark in marked)
        )


def _check_cudnn(run: BuildRun, node: Node) -> None:
    """Raise ConfigError where what stage cudnn collected is not what goes with PyTorch."""
    if node.name == CUDNN and run.fit:
        have = cudnn.collected_version(run.journal.folder / "reports" / node.target / "cudnn.tsv")
        if have:
            run.fit.raise_for(have, where=node.label)

"""Make the inputs that BuildKit does not make: base systems and downloads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping

from jetpare.base.errors import JetpareError
from jetpare.base.files import write_atomically
from jetpare.build import bootstrap, download, ownership
from jetpare.build.journal import first_line
from jetpare.build.run import BuildRun
from jetpare.config.values import architecture_of
from jetpare.project import naming
from jetpare.project.plan import Node, NodeKind
from jetpare.records import ledger
from jetpare.records.ledger import StageRecord


def make_input(run: BuildRun, node: Node) -> None:
    """Make *node* and record it. Raises what its maker raises, with the row written as failed."""
    makers: Mapping[NodeKind, Callable[[BuildRun, Node], tuple[str, str]]] = {
        NodeKind.BOOTSTRAP: _bootstrap,
        NodeKind.DOWNLOAD: _download,
    }
    started, clock = time.time(), time.monotonic()
    row = StageRecord(label=node.label, status=ledger.RUNNING, started=started)
    run.journal.put_stage(row)
    run.watch.take_sample()
    run.progress.begin(node.label)
    try:
        cache, why = makers[node.kind](run, node)
    except JetpareError as error:
        reason = first_line(str(error))
        run.journal.has_failed = True
        run.journal.put_stage(row.model_copy(update={"status": ledger.FAILED, "reason": reason}))
        run.progress.finish(node.label, ledger.FAILED, reason)
        raise
    seconds, finished = time.monotonic() - clock, time.time()
    done = {"status": ledger.OK, "seconds": seconds, "work": seconds, "cache": cache, "why": why}
    done["marks"] = _foreign(run, node) if cache != "cached" else ()
    sensors = {"finished": finished, "telemetry": run.watch.measured(started, finished)}
    run.journal.put_stage(row.model_copy(update=done | sensors))
    run.progress.finish(node.label, cache if cache == "cached" else ledger.OK, why)


def _bootstrap(run: BuildRun, node: Node) -> tuple[str, str]:
    """Have a base system in the engine. Return the state of the cache, and why."""
    plan = run.plan
    made = bootstrap.bootstrap_base(
        run.engine,
        name=naming.input_tag(run.project.config, plan, node.name),
        suite=str(plan.profile.contexts[node.name].suite),
        arch=architecture_of(naming.input_platform(plan, node.name)),
        environ=run.project.environ,
        say=run.progress.note,
        echo=run.progress.echo,
    )
    if made.how != "present":
        file = run.journal.folder / "events" / f"{node.target}-metadata.json"
        write_atomically(file, json.dumps(ownership.metadata(node.target, made.id)))
    return ("cached" if made.how == "present" else "cold"), made.how


def _download(run: BuildRun, node: Node) -> tuple[str, str]:
    """Have an archive on disk. Return the state of the cache, and why."""
    context = run.plan.profile.contexts[node.name]
    path, fetched = download.fetch(
        context.urls,
        sha256=str(context.sha256),
        folder=run.project.root / naming.download_folder(run.project.state, str(context.sha256)),
        settings=run.settings,
        tell=lambda done, total: run.progress.transfer(node.label, done, total),
    )
    return ("cold", f"downloaded {path.name}") if fetched else ("cached", f"{path.name} was downloaded before")


def _foreign(run: BuildRun, node: Node) -> tuple[str, ...]:
    """Return a mark where *node* is a base system whose programs this machine had to emulate."""
    plan = run.plan
    emulated = plan.emulated and node.kind is NodeKind.BOOTSTRAP
    if emulated and naming.input_platform(plan, node.name) != plan.host:
        return (f"{ledger.EMULATED} on {plan.host}",)
    return ()

"""The tasks that look at runs: plan, logs, history, timings, and budgets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jetpare.base.errors import BudgetError, ConfigError, RecordError
from jetpare.cli import results
from jetpare.cli.session import Session, host_architecture

if TYPE_CHECKING:
    from jetpare.compare.comparison import Comparison
    from jetpare.project.plan import Plan
    from jetpare.records.ledger import StageRecord


def check_budget(session: Session, plan: Plan, result: Comparison | None, rows: Sequence[StageRecord] | None) -> None:
    """Raise BudgetError if an image or a stage takes more than build.toml allows; say which budgets were not judged."""
    from jetpare.build.past_stages import built_stages
    from jetpare.records import budget

    labels = [node.label for node in plan.nodes]
    stages = (
        built_stages(session.project, profile=plan.profile_name, labels=labels)
        if rows is None
        else {row.label: row for row in rows}
    )
    sizes = {image.name: image.sizes.get("layers") for image in result.images} if result else {}
    lines = budget.judge(plan.profile.budget, sizes=sizes, stages=stages)
    for line in lines:
        if line.why:
            session.say(str(line))
    over = [line for line in lines if line.passed]
    if over:
        raise BudgetError(budget.message(over, table=session.project.config.table_of(plan.profile_name)))


def plan(session: Session, *, images: tuple[str, ...]) -> None:
    """Show the plan of a build."""
    from jetpare.build.request import expectations
    from jetpare.views import terminal

    plan = session.plan_of(images=images, architecture=host_architecture())
    terminal.show(session.out, terminal.plan_table(plan, expectations(session.project, plan)))


def logs(session: Session, stage: str, *, image: str = "") -> None:
    """Print the newest full log of a stage."""
    from jetpare.build import past_stages
    from jetpare.project.plan import find_stage

    label = find_stage(session.project.config, stage, image or None)
    plan = session.plan_of(only=label, architecture=host_architecture())
    path = past_stages.log_file(session.project, label, plan.profile_name)
    if path is None:
        raise RecordError(
            f"{label} has no log in profile '{plan.profile_name}': it was never built here. "
            f"To build it: `invoke build-all{session.profile_flag()}`."
        )
    session.say(f"{path.relative_to(session.project.root)}:")
    results.write_data(path.read_text(errors="replace"))


def history(session: Session, *, stages: tuple[str, ...], last: int, forms: Mapping[str, bool]) -> None:
    """Show the runs that can be compared, stage by stage, in the one of *forms* (json, csv) that is on, or a table."""
    from jetpare.records import history
    from jetpare.views import history_text, terminal

    form = results.one_form(forms)
    if last < 0:
        raise ConfigError(f"--last {last} is not a valid number of runs; expected 1 or more, or 0 for all.")
    labels = [
        f"{group}/{stage}"
        for stage in stages
        for group, image in session.project.config.images.items()
        if stage in image.stages
    ]
    unknown = [stage for stage in stages if not any(label.endswith(f"/{stage}") for label in labels)]
    if unknown:
        raise ConfigError(f"There is no stage '{unknown[0]}'. `invoke plan` lists the stages.")
    found = history.groups(session.project.ledger.readable(), labels=labels, last=last or None)
    if form == "json":
        results.write_data(results.to_json(history.as_dict(found)))
    elif form == "csv":
        results.write_data(history.as_csv(found))
    elif found:
        terminal.show(session.out, history_text.history(found))
    else:
        raise RecordError("No run of this project is recorded. To make one: `invoke build-all`.")


def timings(session: Session, run: str, *, trace_file: str) -> None:
    """Show one run in detail; write its trace to *trace_file* if one is named."""
    from jetpare.records import trace
    from jetpare.views import history_text, terminal

    results.check_folder(trace_file)
    kept = session.project.ledger
    record = next((each for each in kept.readable() if run in {"", each.id}), None)
    if record is None:
        folder = kept.folder.relative_to(session.project.root)
        if not run:
            raise RecordError(f"No run is recorded in {folder}. To make one: `invoke build-all`.")
        raise RecordError(f"Run '{run}' is not recorded, or cannot be read. To list the runs: `ls {folder}`.")
    loaded = trace.load(record, kept.path(record.id))
    terminal.show(session.out, history_text.timings(loaded))
    if trace_file:
        results.deliver(session, json.dumps(trace.chrome(loaded)), trace_file, "The trace")
        session.say("To look at it, open it in ui.perfetto.dev or chrome://tracing.")

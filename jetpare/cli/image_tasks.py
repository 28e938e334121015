"""The tasks that look at finished images: compare, audit, verify, explain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jetpare.base.errors import (
    AuditError,
    ConfigError,
    RecordError,
    UnknownNameError,
    VerifyError,
)
from jetpare.cli import results, run_tasks
from jetpare.cli.session import Session

if TYPE_CHECKING:
    from jetpare.audit.audit import Audit
    from jetpare.compare.gather import Gathered
    from jetpare.compare.pull_size import Method
    from jetpare.engine.model import ImageFacts
    from jetpare.image.ask import Explanation
    from jetpare.project.plan import Plan
    from jetpare.records.ledger import StageRecord


def compare(
    session: Session,
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
    results.check_folder(output)
    method = _method(compress)
    plan = None if images else comparable_plan(session)
    found = gathered(session, images, plan, compress=method)
    write_comparison(
        session, formats.FORMATS[chosen](found) if output or chosen != formats.TEXT else None, found, output
    )
    summarize(session, found)
    if plan is not None:
        run_tasks.check_budget(session, plan, found.comparison, rows)


def comparable_plan(session: Session) -> Plan:
    """The plan of all images that are not optional, and of those optional ones that are built."""
    from jetpare.engine import image_store
    from jetpare.project import naming

    usual = session.engine_plan()
    every = session.engine_plan(images=tuple(session.project.config.images))
    tags = {name: naming.image_tag(session.project.config, name, every.profile_name) for name in every.images}
    names = [
        name
        for name, tag in tags.items()
        if name in usual.images or image_store.inspect_image(session.engine, tag) is not None
    ]
    return every if len(names) == len(tags) else session.engine_plan(images=tuple(names))


def gathered(
    session: Session, images: tuple[str, ...], plan: Plan | None, *, compress: Method | None = None
) -> Gathered:
    """The comparison of *images*, or of those of *plan*, with what is in them."""
    from jetpare.compare import gather

    looking = gather.Looking(say=session.say, compress=compress)
    if plan is None:
        wanted = gather.of_references(session.project, images, session.engine_plan)
        return gather.comparison(session.project, session.engine, wanted, looking=looking)
    wanted = gather.of_profile(session.project, plan)
    return gather.comparison(session.project, session.engine, wanted, plan=plan, looking=looking)


def write_comparison(session: Session, text: str | None, found: Gathered, output: str) -> None:
    """Write *text* to a file or to stdout; None: the tables, as the terminal can show them."""
    from jetpare.views.comparison_text import View

    if text is None:
        session.out.print(View(found.comparison))
    else:
        results.deliver(session, text, output, "The comparison")


def summarize(session: Session, found: Gathered) -> None:
    """In GitHub Actions, add the Markdown to the step's summary; a summary that cannot be written fails nothing."""
    from jetpare.views import formats

    summary = session.environ.get("GITHUB_STEP_SUMMARY")
    if not summary:
        return
    try:
        with Path(summary).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(formats.markdown(found))
    except OSError as error:
        session.say(f"GITHUB_STEP_SUMMARY={summary}: cannot be written: {error.strerror}.")


def verify(session: Session, *, images: tuple[str, ...], as_json: bool) -> None:
    """Run the images and show what works. Raises VerifyError, after it was shown, where something does not."""
    from jetpare.audit import verify
    from jetpare.engine import image_store
    from jetpare.views import terminal, verification_text

    found = {
        name: image_store.inspect_image(session.engine, tag) for name, tag in built_images(session, images).items()
    }

    outcome = verify.run(
        session.engine,
        {name: facts.id for name, facts in found.items() if facts},
        state=session.project.state_path,
        accepted=session.project.config.verify.accept,
        say=session.say,
    )
    if as_json:
        results.write_data(results.to_json(outcome.as_dict()))
    else:
        terminal.show(session.out, verification_text.outcome(outcome))
    if not outcome.works:
        raise VerifyError(f"{verification_text.verdict(outcome)} What failed, and why, stands in the table.")


def explain(session: Session, word: str, *, images: tuple[str, ...], layers: bool) -> None:
    """Say why *word* is in each of the images. Raises UnknownNameError where none has it."""
    from jetpare.views import explanation_text, terminal

    close: list[str] = []
    lacking = []
    built = built_images(session, images)
    for name, reference in built.items():
        found = look_into(session, reference, word, stream=layers)
        if found.subjects:
            terminal.show(
                session.out, explanation_text.explanation(name, found.subjects, image_bytes=found.image_bytes), ""
            )
        else:
            lacking.append(name)
            close += found.close
    if len(lacking) == len(built):
        hint = f" Did you mean {' or '.join(dict.fromkeys(close))}?" if close else ""
        raise UnknownNameError(
            f"'{word}' is no path, package, distribution, component or group of {' or '.join(lacking)}.{hint}"
        )
    for name in lacking:
        session.out.print(f"{name} has no '{word}'.", markup=False, soft_wrap=True)


def built_images(session: Session, images: tuple[str, ...]) -> dict[str, str]:
    """Name -> reference of *images*, of build.toml or references; where none is named, of all that are built."""
    from jetpare.engine import image_store
    from jetpare.project import naming

    known = session.project.config.images
    names = images or tuple(known)
    tags = {}
    if not known.keys().isdisjoint(names):
        profile = session.engine_plan().profile_name
        tags = {name: naming.image_tag(session.project.config, name, profile) for name in names if name in known}
    found = {name: tags.get(name, name) for name in names}
    there = {name: tag for name, tag in found.items() if image_store.inspect_image(session.engine, tag) is not None}
    missing = [found[name] for name in images if name not in there] or ([] if there else list(found.values()))
    if missing:
        raise RecordError(
            f"the engine has no image {' or '.join(missing)}. Build it "
            f"(`invoke build-all{session.profile_flag()}`) or pull it."
        )
    return there


def look_into(session: Session, reference: str, word: str, *, stream: bool) -> Explanation:
    """Explain *word* in an image; its layers are read from the engine's stream only if *stream*."""
    from jetpare.engine import image_store
    from jetpare.image import ask
    from jetpare.image.read import inventory_reader, layer_reader

    state = session.project.state_path
    facts = image_store.inspect_image(session.engine, reference)
    if facts is None:
        raise RecordError(f"{reference}: the image was removed meanwhile. `docker images` lists those that are left.")
    inventory = inventory_reader.hold(session.engine, facts.id, state=state, say=session.say)
    with stream_progress(session, facts, shown=stream) as told:
        listing = layer_reader.hold(session.engine, facts.id, state=state, stream=told)
    return ask.explanation(word, inventory, listing, session.project.config, state=state)


@contextmanager
def stream_progress(session: Session, facts: ImageFacts, *, shown: bool) -> Iterator[Callable[[int], None] | None]:
    """Give what a stream of the image's layers tells its bytes to, a bar on a terminal; None where *shown* is False."""
    if not shown:
        yield None
        return
    from rich.progress import Progress

    with Progress(console=session.err, transient=True, disable=not session.err.is_terminal) as progress:
        bar = progress.add_task(f"reading the layers of {facts.reference}", total=facts.layers_bytes or None)
        yield lambda done: progress.update(bar, completed=done)


def audit(session: Session, *, images: tuple[str, ...], forms: Mapping[str, bool], output: str | None) -> None:
    """Audit images; at most one of *forms* (json, sarif, prune-plan). Raises AuditError by [audit] fail_on."""
    from jetpare.audit import audit
    from jetpare.views import audit_text, terminal

    form = results.one_form(forms) or "table"
    results.check_folder(output or "")
    if form == "prune-plan":
        results.deliver(session, prune_plan_text(session, images), output or "", "The audit")
        return
    result = audit.run(session.project, comparable_plan(session), session.engine, images=images, say=session.say)
    if form == "table" and not output:
        terminal.show(session.out, audit_text.audit(result))
    else:
        results.deliver(session, _audit_text(result, form), output or "", "The audit")
    check_audit(session, result)


def prune_plan_text(session: Session, images: tuple[str, ...]) -> str:
    """Return what could go from the images, with rules for build.toml."""
    from jetpare.audit import prune_plan, subjects
    from jetpare.views import audit_text, terminal

    found, _ = subjects.candidates(session.project, comparable_plan(session), session.engine, images, say=session.say)
    plan = [item for each in found for item in prune_plan.items(each.subject)]
    return f"{terminal.text(audit_text.prune_plan(plan))}{prune_plan.as_toml(plan)}\n"


def check_audit(session: Session, result: Audit) -> None:
    """Raise AuditError where findings make the audit fail, RecordError where there was nothing to audit."""
    if result.failed:
        ids = dict.fromkeys(f"{each.id} ({each.image})" if each.image else each.id for each in result.failed)
        raise AuditError(
            f"{len(result.failed)} findings: {', '.join(ids)}. What to do stands with each; what may be stays "
            "as it is with a reason in build.toml, [[audit.waivers]]."
        )
    if not result.images:
        raise RecordError(f"No image is built. `invoke build-all{session.profile_flag()}` builds them.")


def _method(name: str) -> Method | None:
    methods: dict[str, Method | None] = {"": None, "gzip": "gzip", "zstd": "zstd"}
    if name not in methods:
        raise ConfigError(f"--compress {name} is not valid; expected gzip or zstd.")
    return methods[name]


def _audit_text(result: Audit, form: str) -> str:
    """Return the audit as text: the tables, the documented JSON, or SARIF."""
    from jetpare.views import audit_text, sarif, terminal

    if form == "table":
        return terminal.text(audit_text.audit(result))
    return results.to_json(sarif.sarif(result) if form == "sarif" else result.as_dict())

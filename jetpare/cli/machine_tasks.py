"""The tasks about the machine: power, doctor, the private engine, cleaning up."""

from __future__ import annotations

from typing import Literal

from jetpare.base.errors import ConfigError, DoctorError
from jetpare.cli.session import Session, engine_architecture


def power(session: Session, *, restore: bool) -> None:
    """Show the power mode and the clocks, or restore those that an interrupted run changed."""
    from jetpare.board import power, power_status
    from jetpare.views import power_text, terminal

    state, host = session.project.state_path, session.project.host
    if restore:
        if not power.restore(state=state, host=host, say=session.say):
            session.say("There is nothing to restore.")
        return
    terminal.show(session.out, power_text.power(power_status.status(state=state, host=host)))


def doctor(session: Session) -> None:
    """Show the findings. Raises DoctorError if one failed."""
    from jetpare.build import preflight
    from jetpare.views import terminal

    plan = session.plan_of(architecture=engine_architecture(session))
    findings = preflight.findings(session.project, plan, lambda: session.engine)
    terminal.show(session.out, terminal.findings(findings))
    failed = [row.name for row in findings if row.status == "failed"]
    if failed:
        raise DoctorError(f"{len(failed)} failed: {', '.join(failed)}. Each row says how to fix it.")


def engine_up(session: Session, *, store: str) -> None:
    """Start a private engine unless an engine answers."""
    from jetpare.base.errors import EngineError
    from jetpare.engine import api, private

    wanted = _store(store)
    try:
        running = session.engine
    except EngineError:
        if session.environ.get("DOCKER_HOST") or session.environ.get("DOCKER_CONTEXT"):
            raise  # jetpare would go on using the engine that was named, not a private one
        running = private.up(state=session.project.state_path, environ=session.environ, store=wanted, say=session.say)
    with running:
        facts = api.facts(running)
    whose = "private engine of this project" if running.private else "engine"
    session.say(f"The {whose} at {running.host} runs: Docker {facts.version_text}, {facts.store} store.")


def engine_down(session: Session, *, purge: bool) -> None:
    """Stop the private engine."""
    from jetpare.engine import private

    private.down(state=session.project.state_path, purge=purge, say=session.say)


def clean(session: Session, *, cache: bool) -> None:
    """Remove the images that this project made; with *cache*, its caches and downloads too."""
    from jetpare.build import cleaning

    for line in cleaning.clean(session.project, session.engine, cache=cache):
        session.say(line)


def _store(name: str) -> Literal["overlay2", "containerd"]:
    stores: dict[str, Literal["overlay2", "containerd"]] = {"overlay2": "overlay2", "containerd": "containerd"}
    if name not in stores:
        raise ConfigError(f"--store {name} is not a valid image store; expected {' or '.join(stores)}.")
    return stores[name]

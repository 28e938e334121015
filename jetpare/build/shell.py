"""Make a stage's result available to look around in."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from jetpare.base.errors import BuildError, JetpareError, RecordError
from jetpare.build import bake, buildx, network
from jetpare.build.guards import check_engine
from jetpare.build.request import Request, options
from jetpare.build.secret_files import build_secrets
from jetpare.config.values import INPUTS, LABEL_PROJECT
from jetpare.engine import api, containers, image_store
from jetpare.engine.model import Engine
from jetpare.events import figures
from jetpare.events.decode import EventDecoder
from jetpare.events.recorder import Recorder
from jetpare.project import naming
from jetpare.project.plan import Node, NodeKind, Plan
from jetpare.project.project import Project
from jetpare.records import ledger

LABEL_SHELL = "jetpare.shell"  # names the process that made an image for one shell


def again_command(label: str, profile: str) -> str:
    """Return the command that builds one node again."""
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


def stage_image(
    project: Project,
    plan: Plan,
    running: Engine,
    label: str,
    *,
    say: Callable[[str], None],
    echo: Callable[[str], None] = lambda _line: None,
) -> str:
    """Return the name of an image that holds the stage *label*, built (mostly from the cache) to look around in.

    A finished image is used as it is. *echo* gets the command line of the build. Raises RecordError where the image is
    not built, BuildError where the stage does not build.
    """
    node = plan.node(label)
    if node.kind is NodeKind.IMAGE:
        tag = naming.image_tag(project.config, node.group, plan.profile_name)
        if image_store.inspect_image(running, tag) is None:
            raise RecordError(f"{tag} is not built. `{again_command(label, plan.profile_name)}` builds it.")
        return tag
    # A name for this shell alone: another one in the same stage removes its own at its end, and not ours.
    reference = f"{naming.shell_tag(project.config, plan, node)}-{secrets.token_hex(4)}"
    check_engine(project, plan, running, api.facts(running))
    with ledger.exclusive(project.state_path), _removed_after_failure(running, reference):
        buildx.write_definition(project.root, project.state, _definition(project, plan, node, reference))
        say(f"Building {label} as {reference}; what did not change comes from the cache.")
        with build_secrets(project, network.read_settings(project.environ, project.home)):
            fault = _bake(project, running, node, echo=echo)
    if fault:
        raise BuildError(f"{label} does not build: {fault}\nSee why with: {again_command(label, plan.profile_name)}")
    return reference


def _definition(project: Project, plan: Plan, node: Node, reference: str) -> dict[str, Any]:
    """Return the definition in which the target of *node* exports the stage itself, as the image *reference*."""
    chosen = options(project, plan, Request(task="shell"), run="shell", revision=None)
    content = bake.definition(project.config, plan, chosen)
    content["target"][node.target] |= {
        "target": node.name,
        "output": [f"type=docker,name={reference}"],
        "labels": {LABEL_PROJECT: project.config.project.name, LABEL_SHELL: shell_label()},
    }
    return content


def _bake(project: Project, running: Engine, node: Node, *, echo: Callable[[str], None]) -> str:
    """Build the target of *node*. Return what failed; '' where nothing did."""
    decoder, recorder = EventDecoder(), Recorder()

    def on_chunk(chunk: bytes) -> None:
        for event in decoder.feed(chunk):
            recorder.add(event)

    argv = buildx.command(running.docker, naming.definition_file(project.state), (node.target,))
    echo(buildx.echo(running, argv))
    status, _ = buildx.run(
        argv,
        root=project.root,
        env=running.env,
        metadata=project.state_path / "shell-metadata.json",
        on_chunk=on_chunk,
    )
    if status == 0:
        return ""
    failure = figures.failure(recorder.timeline(), decoder.text)
    return failure.error if failure else f"exit status {status}"


@contextmanager
def _removed_after_failure(running: Engine, reference: str) -> Iterator[None]:
    """Remove the image *reference* where the block raises, Ctrl-C included: nobody else knows its name."""
    try:
        yield
    except BaseException:
        with suppress(JetpareError):
            image_store.remove_image(running, reference)
        raise


def shell_label() -> str:
    """Return the identity of this process, by which `clean` finds the image of a shell that has ended, or ''."""
    return containers.owner_label().get(containers.OWNER, "")

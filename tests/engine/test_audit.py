"""Each check against the real rehearsal image, broken in the one way that the check is there for."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from jetpare.audit import audit, subjects
from jetpare.audit.subject import Finding, Subject
from jetpare.engine import api, image_store
from jetpare.engine.model import Engine
from jetpare.image.read import inventory_reader
from jetpare.project.project import Project, open_project
from tests.audit_breaks import BREAKS, Break
from tests.conftest import ROOT

pytestmark = [pytest.mark.engine, pytest.mark.rehearsal]
IMAGE, BASELINE = "jetpare/cuda:rehearsal", "jetpare/jetpack:rehearsal"
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)


@pytest.fixture(scope="module")
def project() -> Project:
    return open_project(ROOT, dict(os.environ))


@pytest.fixture(scope="module")
def whole(running: Engine, project: Project, rehearsal: str) -> Subject:
    """Return the good image cuda, as it is audited."""
    assert rehearsal
    plan = project.plan(profile="rehearsal", architecture=api.facts(running).arch)
    found, _ = subjects.candidates(project, plan, running, ["cuda"])
    return found[0].subject


@pytest.fixture(scope="module")
def good(running: Engine, project: Project, rehearsal: str) -> audit.Audit:
    """The audit of the good images."""
    assert rehearsal
    plan = project.plan(profile="rehearsal", architecture=api.facts(running).arch)
    return audit.run(project, plan, running)


def test_good_images_have_no_error(good: audit.Audit) -> None:
    assert [(each.image, each.id, each.title) for each in good.open if each.severity == "error"] == []
    assert {each.id for each in good.open} & set(audit.WAIVER_CHECKS) == set()
    assert {row.status for row in good.rows if row.check not in {"A9", "A22"} and row.image == "cuda"} <= {
        "ok",
        "found",
    }


def key(finding: Finding) -> tuple[str, int | None, int]:
    """What makes a finding another one: a finding about several things (A8, A10) grows."""
    return f"{finding.id} {finding.severity} {finding.subject}", finding.bytes, len(finding.evidence)


@pytest.fixture
def built(running: Engine, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The image and the baseline of a Break, built where it changes them."""
    broken: Break = request.param
    made = {"image": IMAGE, "baseline": BASELINE}
    ours = []
    for which, lines in (("image", broken.lines), ("baseline", broken.baseline)):
        if lines:
            tag = f"jetpare-audit/{which}:{broken.name}"
            build(running, tag, dockerfile(broken, made[which], lines))
            ours.append(tag)
            made[which] = tag
    yield made
    for tag in ours:
        image_store.remove_image(running, tag)


def dockerfile(broken: Break, base: str, lines: str) -> str:
    text = f"{broken.before}\nFROM {base}\n{lines}\n"
    return text.replace("{image}", IMAGE).replace("{baseline}", BASELINE)


def build(running: Engine, tag: str, text: str) -> None:
    """One small image on a real one; no network, nothing pulled."""
    argv = [running.docker, "buildx", "build", "--network", "none", "--load", "--quiet", "--tag", tag, "-"]
    done = subprocess.run(argv, input=text, env=dict(running.env), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def subject(running: Engine, good: Subject, reference: str, project: Project) -> Subject:
    facts = image_store.inspect_image(running, reference)
    assert facts is not None
    inventory = inventory_reader.take(running, facts.id, state=project.state_path)
    return replace(good, inventory=inventory, layers_bytes=facts.layers_bytes)


@pytest.mark.parametrize(
    ("broken", "built"), [(each, each) for each in BREAKS], ids=lambda each: each.name, indirect=["built"]
)
def test_a_broken_image_has_exactly_the_expected_findings_more(
    broken: Break, built: dict[str, str], whole: Subject, running: Engine, project: Project
) -> None:
    whole = replace(whole, **broken.known)
    worse = subject(running, whole, built["image"], project)
    if broken.baseline:
        worse = replace(worse, baseline=inventory_reader.take(running, built["baseline"], state=project.state_path))
    before = {key(each) for each in audit.audit([whole], now=NOW).findings}
    after = {key(each) for each in audit.audit([worse], now=NOW).findings}
    assert {name for name, _, _ in after - before} == broken.expected

"""The static audit: the checks of docs/audit.md on the inventories of images, waivers, and the result.

Nothing of an image is run, and nothing is deleted: a finding says what was seen, where, and what to do.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from jetpare import __version__
from jetpare.audit.subject import SEVERITIES, Evidence, Finding, NotMeasured, Severity, Subject
from jetpare.config.schema import AuditSettings, Waiver
from jetpare.image.kept import kept

if TYPE_CHECKING:
    from jetpare.audit.subjects import Candidate
    from jetpare.engine.model import Engine, ImageFacts
    from jetpare.project.plan import Plan
    from jetpare.project.project import Project


SCHEMA = "jetpare.audit/1"
OK, FOUND, NOT_MEASURED = "ok", "found", "not measured"
UNUSED_WAIVER, EXPIRED_WAIVER = "W1", "W2"


@dataclass(frozen=True, kw_only=True)
class AuditCheck:
    """One check: its function, and what people read about it."""

    id: str
    title: str
    why: str  # the failure that it would have caught
    run: Callable[[Subject], Iterable[Finding]]


def _lazily(place: str) -> Callable[[Subject], Iterable[Finding]]:
    """Return the check at *place*, 'MODULE.FUNCTION' of this package; its module is imported when it first runs.

    What was kept is shown without any of them.
    """
    module, name = place.split(".")

    def run(subject: Subject) -> Iterable[Finding]:
        found: Iterable[Finding] = getattr(import_module(f"jetpare.audit.{module}"), name)(subject)
        return found

    return run


CHECKS = (
    AuditCheck(
        id="A1",
        title="every library that is needed is found",
        why="cuDNN, CUPTI, OpenBLAS or libGL missing: an import fails, or a program does not start.",
        run=_lazily("libraries.linked"),
    ),
    AuditCheck(
        id="A2",
        title="so do libraries that are loaded only when they are used",
        why="libnvdla_compiler missing: a provider of ONNX Runtime fell back to the CPU for 175 days, in silence.",
        run=_lazily("libraries.lazily_loaded"),
    ),
    AuditCheck(
        id="A3",
        title="libraries that others open by name are there",
        why="libnvrtc-builtins.so.12.6 missing: the first kernel that is compiled at run time fails.",
        run=_lazily("libraries.opened"),
    ),
    AuditCheck(
        id="A4",
        title="every pattern matches, and no layer that should hold files is empty",
        why="A COPY that matched nothing was cached for ever as a fix that fixed nothing.",
        run=_lazily("stack.empty"),
    ),
    AuditCheck(
        id="A5",
        title="no content is there twice, links are links",
        why="2 GB of cuDNN, copied three times because a COPY followed its links.",
        run=_lazily("duplicates.copies"),
    ),
    AuditCheck(
        id="A6",
        title="no layer undoes another",
        why="A layer of 40 MB that only pinned a package again; files deleted a layer too late.",
        run=_lazily("stack.overwritten"),
    ),
    AuditCheck(
        id="A7",
        title="everything has users",
        why="GDAL compiled for nobody (100 MB), cmake in a runtime image (82 MB).",
        run=_lazily("users.unused"),
    ),
    AuditCheck(
        id="A8",
        title="no symbols that only debuggers read",
        why="300 MB of symbols and debug sections.",
        run=_lazily("binaries.symbols"),
    ),
    AuditCheck(
        id="A9",
        title="GPU code is for the GPU of the target",
        why="flash-attn for sm_80 and sm_90 only: 390 MB that cannot start on sm_87.",
        run=_lazily("binaries.gpu_code"),
    ),
    AuditCheck(
        id="A10",
        title="nothing that builds, documents or tests",
        why="50 MB of torch/include; compilers, package lists and caches in a runtime image.",
        run=_lazily("leftovers.leftovers"),
    ),
    AuditCheck(
        id="A11",
        title="no file of a package is gone",
        why="A clean-up of */docs deleted code that is imported.",
        run=_lazily("packages.gone"),
    ),
    AuditCheck(
        id="A12",
        title="nothing is installed twice, torch is for CUDA",
        why="A CPU-only torch installed in silence; a second CUDA from pip beside the system's.",
        run=_lazily("duplicates.twice"),
    ),
    AuditCheck(
        id="A13",
        title="no path of the build, no dead link or script",
        why="cv2's configuration pointed at /build.",
        run=_lazily("data.remains"),
    ),
    AuditCheck(
        id="A14",
        title="configured like the baseline",
        why="NVIDIA_* variables lost with the base image: the container got no GPU.",
        run=_lazily("configuration.settings"),
    ),
    AuditCheck(
        id="A15",
        title="commands that others call are there",
        why="No lsmod: no hardware video.",
        run=_lazily("configuration.commands"),
    ),
    AuditCheck(
        id="A16",
        title="data that programs look for is there",
        why="No tzdata: every local time is an exception.",
        run=_lazily("data.missing_data"),
    ),
    AuditCheck(
        id="A17",
        title="versions go together",
        why="cuDNN 9.3 was loaded by a torch that was compiled against 9.8.",
        run=_lazily("packages.versions"),
    ),
    AuditCheck(
        id="A22",
        title="OpenCV has what it has in the baseline",
        why="A rebuild of OpenCV lost GStreamer.",
        run=_lazily("binaries.opencv"),
    ),
    AuditCheck(
        id="A23",
        title="size and layers are within their limits",
        why="Images grow again after they were made slim; the engine stops at 127 layers.",
        run=_lazily("stack.budget"),
    ),
)
# Not checks of an image but of the waivers themselves.
WAIVER_CHECKS = {
    UNUSED_WAIVER: "a waiver that matches no finding any more",
    EXPIRED_WAIVER: "a waiver whose time is over",
}


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """One check of one image. ``reason``: why it was not measured."""

    image: str
    check: str
    status: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The result; findings in the order of severity, then bytes. ``missing``: images that are not built."""

    generated: str
    profile: str | None
    images: tuple[dict[str, str], ...]
    missing: tuple[str, ...]
    fail_on: Severity
    rows: tuple[CheckResult, ...]
    findings: tuple[Finding, ...]

    @property
    def open(self) -> tuple[Finding, ...]:
        """The findings that no waiver covers."""
        return tuple(each for each in self.findings if each.waived is None)

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The open findings for which the audit fails: errors, and warnings where [audit] fail_on says so."""
        bad = SEVERITIES[: SEVERITIES.index(self.fail_on) + 1]
        return tuple(each for each in self.open if each.severity in bad)

    def count(self, severity: Severity) -> int:
        """How many open findings there are of a severity."""
        return sum(each.severity == severity for each in self.open)

    def as_dict(self) -> dict[str, Any]:
        """The documented JSON form (docs/audit.md)."""
        return {
            "schema": SCHEMA,
            "generated": self.generated,
            "tool": {"name": "jetpare", "version": __version__},
            "profile": self.profile,
            "images": list(self.images),
            "missing": list(self.missing),
            "fail_on": self.fail_on,
            "counts": {severity: self.count(severity) for severity in SEVERITIES},
            "checks": [{"id": each.id, "title": each.title, "why": each.why} for each in CHECKS],
            "rows": [asdict(row) for row in self.rows],
            "findings": [asdict(each) | {"fingerprint": each.fingerprint} for each in self.findings],
        }


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What the checks found in one image, whatever is waived. ``broken``: the checks that could not cope with it."""

    rows: tuple[CheckResult, ...]
    findings: tuple[Finding, ...]
    broken: tuple[str, ...] = ()


def checked(subject: Subject) -> Checked:
    """Run every check on *subject*. A pure function."""
    rows: list[CheckResult] = []
    findings: list[Finding] = []
    broken: list[str] = []
    for check in CHECKS:
        found, row, failed = _one(check, subject)
        rows.append(row)
        findings += found
        broken += [check.id] if failed else []
    return Checked(rows=tuple(rows), findings=tuple(findings), broken=tuple(broken))


def audit(subjects: Sequence[Subject], *, now: dt.datetime, profile: str | None = None) -> Audit:
    """Run every check on every image, and apply the waivers of the first one's rules. A pure function."""
    return _result(
        [checked(each) for each in subjects],
        [{"name": each.name, "reference": each.reference, "id": each.inventory.image_id} for each in subjects],
        rules=subjects[0].rules if subjects else None,
        now=now,
        profile=profile,
    )


def _result(
    images: Sequence[Checked],
    names: Sequence[dict[str, str]],
    *,
    rules: AuditSettings | None,
    now: dt.datetime,
    profile: str | None,
    missing: tuple[str, ...] = (),
) -> Audit:
    """Put together what was found in *images*, with the waivers of *rules* applied."""
    rows = tuple(row for each in images for row in each.rows)
    findings = [finding for each in images for finding in each.findings]
    waived = list(_waive(findings, rules.waivers, rows, now.date())) if rules and images else []
    order = {severity: number for number, severity in enumerate(SEVERITIES)}
    numbers = {check.id: number for number, check in enumerate(CHECKS)}
    waived.sort(key=lambda each: (order[each.severity], numbers.get(each.id, 0), -(each.bytes or 0)))
    return Audit(
        generated=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        profile=profile,
        images=tuple(names),
        missing=missing,
        fail_on=rules.fail_on if rules and images else "error",
        rows=rows,
        findings=tuple(waived),
    )


def _one(check: AuditCheck, subject: Subject) -> tuple[list[Finding], CheckResult, bool]:
    """Return the findings of a check, those before it could not go on too, its result, and whether it failed."""
    found: list[Finding] = []
    try:
        for each in check.run(subject):
            found.append(each)  # noqa: PERF402 - what came before NotMeasured is kept
    except NotMeasured as error:
        if not found:
            row = CheckResult(image=subject.name, check=check.id, status=NOT_MEASURED, reason=str(error))
            return [], row, False
    except Exception as error:  # noqa: BLE001 - an image that one check cannot cope with does not cost the others
        why = f"this check failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return found, CheckResult(image=subject.name, check=check.id, status=NOT_MEASURED, reason=why), True
    return found, CheckResult(image=subject.name, check=check.id, status=FOUND if found else OK), False


# --- waivers


def _waive(
    findings: Iterable[Finding], waivers: Sequence[Waiver], rows: Sequence[CheckResult], today: dt.date
) -> Iterator[Finding]:
    """*findings*, waived where a waiver holds, and what is wrong with the waivers."""
    used: set[int] = set()
    for finding in findings:
        match = next((number for number, waiver in enumerate(waivers) if covers(waiver, finding)), None)
        if match is None:
            yield finding
            continue
        used.add(match)
        expired = _expired(waivers[match], today)
        yield finding if expired else replace(finding, waived=f"{waivers[match].reason} ({waivers[match].date})")
    for number, waiver in enumerate(waivers):
        if _expired(waiver, today):
            yield _about(
                waiver, EXPIRED_WAIVER, f"the waiver of {waiver.id} for {waiver.pattern} ended on {waiver.until}"
            )
        elif number not in used and _was_measured(waiver, rows):
            yield _about(waiver, UNUSED_WAIVER, f"the waiver of {waiver.id} for {waiver.pattern} matches nothing")


def covers(waiver: Waiver, finding: Finding) -> bool:
    """Whether *waiver* is for *finding*: its subject matches, or every path of its evidence does."""
    if waiver.id != finding.id or waiver.image not in {None, finding.image}:
        return False
    paths = [each.path for each in finding.evidence]
    whole = bool(paths) and all(fnmatch.fnmatchcase(path, waiver.pattern) for path in paths)
    return whole or fnmatch.fnmatchcase(finding.subject, waiver.pattern)


def _expired(waiver: Waiver, today: dt.date) -> bool:
    return waiver.until is not None and waiver.until < today


def _was_measured(waiver: Waiver, rows: Sequence[CheckResult]) -> bool:
    """Whether the images that the waiver is for were all audited, and its check measured on them."""
    concerned = [row for row in rows if row.check == waiver.id and waiver.image in {None, row.image}]
    return bool(concerned) and all(row.status != NOT_MEASURED for row in concerned)


def _about(waiver: Waiver, code: str, title: str) -> Finding:
    return Finding(
        id=code,
        severity="warning",
        title=title,
        image=waiver.image or "",
        subject=f"{waiver.id} {waiver.pattern}",
        evidence=(Evidence(path="build.toml", detail=f"[[audit.waivers]] {waiver.reason} ({waiver.date})"),),
        advice="Look again, and remove the waiver or renew it in build.toml.",
    )


# --- from a project


def run(
    project: Project,
    plan: Plan,
    running: Engine,
    *,
    images: Sequence[str] = (),
    known: Mapping[str, ImageFacts | None] = MappingProxyType({}),
    say: Callable[[str], None] = lambda _: None,
) -> Audit:
    """Audit the images of *plan*, or *images*: names of build.toml, or references of any image in the engine.

    Images of build.toml that are not built are named in the result. What the checks find in an image is kept, by all
    that they look at. *known*: by reference, what the engine said of images already. *say* hears of images that are
    being read, which takes a minute for 5 GB. Raises RecordError for a reference that is not there.
    """
    from jetpare.audit import subjects

    found, missing = subjects.candidates(project, plan, running, images, known=known, say=say)
    return _result(
        [_kept(project, each) for each in found],
        [{"name": each.known["name"], "reference": each.known["reference"], "id": each.image_id} for each in found],
        rules=project.config.audit,
        now=dt.datetime.now(dt.timezone.utc),
        profile=plan.profile_name,
        missing=missing,
    )


def _kept(project: Project, candidate: Candidate) -> Checked:
    """Return what the checks find in *candidate*; what could not cope with it is tried again next time."""
    return kept(
        project.state_path,
        "audit",
        candidate.held,
        candidate.known,
        lambda: checked(candidate.subject),
        Checked,
        lasts=lambda made: not made.broken,
    )

"""The recommendation: rules that are written down here and shown with their evidence, and what follows from them.

An image is recommended in the baseline's place when every rule is met. One that breaks a rule is not recommended.
Where a rule was not measured, or an image is not built, there is no recommendation: evidence is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from jetpare.base.units import size_text
from jetpare.base.versions import DIFFERS, MATCH, NOT_MEASURED
from jetpare.compare.comparison import (
    BUILT,
    NO_RECOMMENDATION,
    NOT_MET,
    NOT_RECOMMENDED,
    RECOMMENDED,
    Comparison,
    Difference,
    ImageFigures,
    Recommendation,
    Rule,
    RuleOutcome,
    Verdict,
)

_BEST_FIRST = (RECOMMENDED, NO_RECOMMENDATION, NOT_RECOMMENDED)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One image to be judged against the baseline; ``saving``: of their uncompressed layers, where both are known."""

    image: ImageFigures
    baseline: ImageFigures
    saving: Difference | None
    min_saving_percent: float
    audit: Sequence[Mapping[str, Any]] | None  # the open findings on the image; None: not audited


@dataclass(frozen=True, kw_only=True)
class RuleFinding:
    """One rule's result: the rule in words, its outcome and evidence; ``told``: words for a headline, unless met."""

    title: str
    outcome: RuleOutcome
    evidence: str
    told: str = ""


def judge(result: Comparison, *, min_saving_percent: float) -> Verdict:
    """The verdict on every image but the baseline, the first one; its headline is of the one that comes closest."""
    baseline, *others = result.images
    if not others:
        return Verdict(
            status="no recommendation",
            image=None,
            headline=f"{baseline.name} stands alone, with nothing to compare it with: no recommendation.",
        )
    if result.profile is None:  # images that were named: nobody asked for a recommendation
        told = [sentence(each, baseline.name) for image in others if (each := result.difference(image.name))]
        return Verdict(
            status="no recommendation", image=None, headline=f"{', '.join(told) or 'no size of them was measured'}."
        )
    rules: list[Rule] = []
    verdicts: list[tuple[int, float, Verdict]] = []
    for image in others:
        saving = result.difference(image.name)
        case = Case(
            image=image,
            baseline=baseline,
            saving=saving,
            min_saving_percent=min_saving_percent,
            audit=None if result.findings is None else open_findings(result.findings, image.name),
        )
        findings = {name: found for name, rule in RULES.items() if (found := rule(case)) is not None}
        rules += [
            Rule(rule=name, title=each.title, image=image.name, outcome=each.outcome, evidence=each.evidence)
            for name, each in findings.items()
        ]
        status = _status(tuple(findings.values()))
        line = headline(case, status, findings)
        named = None if status == NO_RECOMMENDATION else image.name
        verdicts.append(
            (
                _BEST_FIRST.index(status),
                -(saving.percent if saving else 0.0),
                Verdict(status=status, image=named, headline=line),
            )
        )
    best = min(verdicts, key=lambda each: each[:2])[2]
    return Verdict(status=best.status, image=best.image, headline=best.headline, rules=tuple(rules))


def _status(findings: Sequence[RuleFinding]) -> Recommendation:
    outcomes = {finding.outcome for finding in findings}
    if NOT_MET in outcomes:
        return "not recommended"
    return "no recommendation" if NOT_MEASURED in outcomes else "recommended"


# --- the rules


def built(case: Case) -> RuleFinding:
    """Both images are there. One that is not breaks no rule: it gives no evidence."""
    missing = [each.name for each in (case.baseline, case.image) if each.status != BUILT]
    if missing:
        said = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not built"
        return RuleFinding(title="both images are built", outcome="not measured", evidence=said, told=said)
    ids = f"{case.baseline.name} {_short(case.baseline.id)}, {case.image.name} {_short(case.image.id)}"
    return RuleFinding(title="both images are built", outcome="met", evidence=ids)


def checks(case: Case) -> RuleFinding | None:
    """Every check that ran in the image passed; one that could not run there leaves the question open."""
    if case.image.status != BUILT:
        return None
    found = case.image.checks
    failed = [f"{check.name}: {check.detail}" for check in found if check.status not in {MATCH, NOT_MEASURED}]
    open_ones = [check.name for check in found if check.status == NOT_MEASURED]
    title, passed = "every check in the image passed", sum(check.status == MATCH for check in found)
    if failed:
        return RuleFinding(
            title=title, outcome="not met", evidence="; ".join(failed), told=f"{_count(len(failed), 'check')} failed"
        )
    if open_ones:
        said = f"not measured: {', '.join(open_ones)}"
        return RuleFinding(
            title=title,
            outcome="not measured",
            evidence=f"{passed} ok; {said}",
            told=f"{_count(len(open_ones), 'check')} could not be measured",
        )
    if not found:
        said = "no checks were run in it, or no record tells"
        return RuleFinding(title=title, outcome="not measured", evidence=said, told="no record tells of checks in it")
    return RuleFinding(title=title, outcome="met", evidence=f"{passed} of {len(found)} ok")


def budget(case: Case) -> RuleFinding | None:
    """Its layers keep within [profiles.NAME.budget], where that names the image."""
    image = case.image
    if image.status != BUILT or image.budget is None:
        return None
    title, size = f"its layers take at most {size_text(image.budget)}", image.sizes.get("layers")
    if size is None:
        return RuleFinding(title=title, outcome="not measured", evidence=NOT_MEASURED, told="its size was not measured")
    said = f"{size_text(size)} of {size_text(image.budget)}"
    outcome: RuleOutcome = "not met" if image.over_budget else "met"
    return RuleFinding(title=title, outcome=outcome, evidence=said, told=f"is over its budget ({said})")


def versions(case: Case) -> RuleFinding | None:
    """The versions in the image are those of [profiles.NAME.expect], where any is expected."""
    rows = [row for row in case.image.versions if row.expected is not None]
    if case.image.status != BUILT or not rows:
        return None
    title = "its versions are those expected"
    wrong = [f"{row.component} is {row.measured}, expected {row.expected}" for row in rows if row.status == DIFFERS]
    unknown = [row.component for row in rows if row.status == NOT_MEASURED]
    if wrong:
        said = "; ".join(wrong)
        return RuleFinding(title=title, outcome="not met", evidence=said, told=said)
    if unknown:
        said = f"not measured: {', '.join(unknown)}"
        told = f"the version of {' and '.join(unknown)} was not measured"
        return RuleFinding(title=title, outcome="not measured", evidence=said, told=told)
    said = ", ".join(f"{row.component} {row.measured}" for row in rows)
    return RuleFinding(title=title, outcome="met", evidence=said)


def saving(case: Case) -> RuleFinding | None:
    """Its layers are smaller than the baseline's by at least [verdict] min_saving_percent."""
    if BUILT not in {case.image.status, case.baseline.status} or case.image.status != case.baseline.status:
        return None
    least = f"{case.min_saving_percent:g} %"
    title = f"its layers are at least {least} smaller than {case.baseline.name}'s"
    if case.saving is None:
        return RuleFinding(title=title, outcome="not measured", evidence=NOT_MEASURED, told="its size was not measured")
    said = f"{size_text(abs(case.saving.saved))} ({abs(case.saving.percent):.1f} %) {case.saving.words}"
    outcome: RuleOutcome = "met" if case.saving.percent >= case.min_saving_percent else "not met"
    return RuleFinding(title=title, outcome=outcome, evidence=said, told=f"should be at least {least} smaller")


def audit(case: Case) -> RuleFinding | None:
    """The audit has no error that is not waived; where there was none, this rule says nothing."""
    if case.image.status != BUILT or case.audit is None:
        return None
    title = "the audit finds no error in it"
    errors = [f"{each['id']}: {each['title']}" for each in case.audit if each["severity"] == "error"]
    if errors:
        told = f"the audit finds {_count(len(errors), 'error')}"
        return RuleFinding(title=title, outcome="not met", evidence="; ".join(errors), told=told)
    counts = [
        _count(sum(each["severity"] == severity for each in case.audit), severity)
        for severity in ("error", "warning", "note")
    ]
    return RuleFinding(title=title, outcome="met", evidence=", ".join(counts))


def open_findings(findings: Sequence[Mapping[str, Any]], image: str) -> tuple[Mapping[str, Any], ...]:
    """What the audit found in *image* and no waiver covers."""
    return tuple(each for each in findings if each["image"] == image and each["waived"] is None)


RULES: Mapping[str, Callable[[Case], RuleFinding | None]] = MappingProxyType(
    {"built": built, "checks": checks, "budget": budget, "versions": versions, "audit": audit, "saving": saving}
)


# --- in one sentence


def headline(case: Case, status: Recommendation, findings: Mapping[str, RuleFinding]) -> str:
    """One honest sentence: 'cuda is 840 MB (13.4 %) smaller than jetpack and passes every check: recommended.'."""
    told = [finding.told for finding in findings.values() if finding.outcome == NOT_MET]
    told = told or [finding.told for finding in findings.values() if finding.outcome == NOT_MEASURED][:1]
    if case.saving is None:
        return f"{_joined(told)}: {status}."
    if status == RECOMMENDED:
        return f"{sentence(case.saving, case.baseline.name)} and passes every check: {status}."
    return f"{sentence(case.saving, case.baseline.name)}, but {_joined(told)}: {status}."


def sentence(difference: Difference, baseline: str) -> str:
    """'cuda is 840 MB (13.4 %) smaller than jetpack'."""
    if difference.saved == 0:
        return f"{difference.image} is as large as {baseline}"
    amount = size_text(abs(difference.saved))
    return f"{difference.image} is {amount} ({abs(difference.percent):.1f} %) {difference.words} than {baseline}"


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _short(image_id: str | None) -> str:
    return (image_id or "").removeprefix("sha256:")[:12]

"""The verdict: no rule passes by being unmeasured, and the headline says what is so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jetpare.base.versions import ImageCheck, version_rows
from jetpare.compare.comparison import NOT_BUILT, Comparison, ImageFigures
from jetpare.compare.differences import complete
from tests.comparisons import CHECKS, EXPECTED, MEASURED, MISSING, figures, finding, full, skeleton


def judged(cuda: ImageFigures, *others: ImageFigures, percent: float = 10) -> Comparison:
    return complete(skeleton(figures("jetpack"), cuda, *others), {}, min_saving_percent=percent)


def outcomes(result: Comparison, image: str = "cuda") -> dict[str, str]:
    return {rule.rule: rule.outcome for rule in result.verdict.rules if rule.image == image}


def test_every_rule_met_is_a_recommendation() -> None:
    verdict = full().verdict
    assert (verdict.status, verdict.image) == ("recommended", "cuda")
    assert verdict.headline == "cuda is 1.02 GB (28.9 %) smaller than jetpack and passes every check: recommended."
    assert outcomes(full()) == dict.fromkeys(("built", "checks", "budget", "versions", "audit", "saving"), "met")
    evidence = {rule.rule: rule.evidence for rule in verdict.rules if rule.image == "cuda"}
    assert evidence["budget"] == "2.50 GB of 6.50 GB"
    assert evidence["checks"] == "3 of 3 ok"


@pytest.mark.parametrize(
    ("changes", "rule", "said"),
    [
        ({"checks": (*CHECKS, ImageCheck(name="gpu", status="failed", detail="no device"))}, "checks", "but 1 check failed"),
        ({"budget": 2_000_000_000}, "budget", "but is over its budget (2.50 GB of 2.00 GB)"),
        ({"versions": version_rows({**MEASURED, "gdal": "3.6.2"}, EXPECTED)}, "versions", "but gdal is 3.6.2, expected 3.10.3"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_told_and_nothing_is_recommended(changes: dict[str, object], rule: str, said: str) -> None:
    result = judged(figures("cuda", **changes))
    assert result.verdict.status == "not recommended"
    assert result.verdict.image == "cuda"
    assert outcomes(result)[rule] == "not met"
    assert said in result.verdict.headline
    assert result.verdict.headline.endswith(": not recommended.")


@pytest.mark.parametrize(
    ("changes", "rule", "said"),
    [
        ({"checks": ()}, "checks", "but no record tells of checks in it"),
        ({"checks": (*CHECKS, ImageCheck(name="gpu", status="not measured"))}, "checks", "1 check could not be measured"),
        ({"versions": version_rows({**MEASURED, "gdal": None}, EXPECTED)}, "versions", "the version of gdal was not measured"),
        ({"sizes": {}}, "saving", "its size was not measured"),
    ],
)  # fmt: skip
def test_missing_evidence_is_no_recommendation(changes: dict[str, object], rule: str, said: str) -> None:
    result = judged(figures("cuda", **changes))
    assert (result.verdict.status, result.verdict.image) == ("no recommendation", None)
    assert outcomes(result)[rule] == "not measured"
    assert said in result.verdict.headline
    assert result.verdict.headline.endswith(": no recommendation.")


def test_a_broken_rule_counts_even_where_others_were_not_measured() -> None:
    result = judged(figures("cuda", checks=(), budget=1))
    assert result.verdict.status == "not recommended"
    assert "over its budget" in result.verdict.headline


@pytest.mark.parametrize(("percent", "outcome"), [(28.95, "not met"), (28, "met"), (0, "met")])
def test_the_saving_is_held_against_the_threshold(percent: float, outcome: str) -> None:
    result = judged(figures("cuda"), percent=percent)
    exact = result.difference("cuda")
    assert exact is not None
    assert 28 < exact.percent < 28.95
    assert outcomes(result)["saving"] == outcome
    if outcome == "not met":
        assert result.verdict.headline == (
            "cuda is 1.02 GB (28.9 %) smaller than jetpack, but should be at least 28.95 % smaller: not recommended."
        )


def test_a_larger_image_is_called_larger() -> None:
    sizes = {"layers": 2 * (figures("jetpack").sizes["layers"] or 0)}
    result = judged(figures("cuda", sizes=sizes, budget=None))
    assert result.verdict.headline == (
        "cuda is 3.51 GB (100.0 %) larger than jetpack, but should be at least 10 % smaller: not recommended."
    )


def test_what_is_not_built_gives_no_evidence() -> None:
    result = judged(replace(figures("cuda"), status=NOT_BUILT, sizes={}))
    assert result.verdict.status == "no recommendation"
    assert result.verdict.headline == "cuda is not built: no recommendation."
    absent = replace(figures("jetpack"), status=NOT_BUILT, sizes={})
    other = complete(skeleton(absent, figures("cuda")), {}, min_saving_percent=10)
    assert other.verdict.headline == "jetpack is not built: no recommendation."


def test_rules_that_build_toml_does_not_ask_for_are_not_there() -> None:
    result = judged(figures("cuda", budget=None, versions=version_rows(MEASURED, {})))
    assert set(outcomes(result)) == {"built", "checks", "saving"}
    assert result.verdict.status == "recommended"


def test_of_several_the_one_that_saves_most_and_meets_every_rule_is_recommended() -> None:
    sizes = {"layers": 1_000_000_000}
    smallest = replace(figures("cuda"), name="tiny", sizes=sizes, checks=())
    small = replace(figures("cuda"), name="small", sizes={"layers": 2_000_000_000})
    result = judged(figures("cuda"), MISSING, smallest, small)
    assert (result.verdict.status, result.verdict.image) == ("recommended", "small")
    assert outcomes(result, "third") == {"built": "not measured"}
    assert outcomes(result, "tiny")["checks"] == "not measured"


def test_one_image_alone() -> None:
    alone = complete(skeleton(figures("jetpack")), {}, min_saving_percent=10)
    assert alone.verdict.status == "no recommendation"
    assert "nothing to compare" in alone.verdict.headline


def test_an_error_of_the_audit_that_nobody_waived_speaks_against_an_image() -> None:
    result = full(findings=(finding("A1", "error"), finding("A5", "warning")))
    assert outcomes(result)["audit"] == "not met"
    assert [rule.evidence for rule in result.verdict.rules if rule.outcome == "not met"] == ["A1: finding A1"]


def test_findings_on_another_image_and_waived_ones_do_not() -> None:
    others = (finding("A1", "error", image="jetpack"), finding("A1", "error", waived="seen"))
    assert outcomes(full(findings=others))["audit"] == "met"


def test_an_image_that_was_not_audited_is_judged_without() -> None:
    assert "audit" not in outcomes(full(findings=None))


def test_images_that_were_named_are_compared_and_not_judged() -> None:
    found = full(profile=None).verdict
    assert (found.status, found.rules) == ("no recommendation", ())
    assert "smaller than jetpack" in found.headline

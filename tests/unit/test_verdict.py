"""The verdict: no rule passes by being unmeasured, and the headline says what is so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jetpare.base.versions import ImageCheck, version_rows
from jetpare.compare.comparison import NOT_BUILT, Comparison, ImageFigures
from jetpare.compare.differences import complete
from tests.comparisons import CHECKS, EXPECTED, MEASURED, MISSING, figures, finding, full, skeleton

SMALLER = "cuda is 1.02 GB (28.9 %) smaller than jetpack"


def judged(cuda: ImageFigures, *others: ImageFigures, percent: float = 10) -> Comparison:
    return complete(skeleton(figures("jetpack"), cuda, *others), {}, min_saving_percent=percent)


def outcomes(result: Comparison, image: str = "cuda") -> dict[str, str]:
    return {rule.rule: rule.outcome for rule in result.verdict.rules if rule.image == image}


def shown(result: Comparison, rule: str, image: str = "cuda") -> tuple[str, str, str]:
    (found,) = [each for each in result.verdict.rules if (each.rule, each.image) == (rule, image)]
    return found.title, found.outcome, found.evidence


def check(name: str, status: str, detail: str = "") -> ImageCheck:
    return ImageCheck(name=name, status=status, detail=detail)


def measured(**changes: str | None) -> dict[str, object]:
    return {"versions": version_rows({**MEASURED, **changes}, EXPECTED)}


def test_every_rule_met_is_a_recommendation() -> None:
    verdict = full().verdict
    assert (verdict.status, verdict.image) == ("recommended", "cuda")
    assert verdict.headline == "cuda is 1.02 GB (28.9 %) smaller than jetpack and passes every check: recommended."
    assert outcomes(full()) == dict.fromkeys(("built", "checks", "budget", "versions", "audit", "saving"), "met")


@pytest.mark.parametrize(
    ("rule", "title", "evidence"),
    [
        ("built", "both images are built", "jetpack ab0000000000, cuda cd0000000000"),
        ("checks", "every check in the image passed", "3 of 3 ok"),
        ("budget", "its layers take at most 6.50 GB", "2.50 GB of 6.50 GB"),
        ("versions", "its versions are those expected", "python 3.11.2, cuda_runtime 12.6.77, cudnn 9.10.2, gdal 3.10.3, torch 2.8.0+cu128"),
        ("audit", "the audit finds no error in it", "0 errors, 1 warning, 1 note"),
        ("saving", "its layers are at least 10 % smaller than jetpack's", "1.02 GB (28.9 %) smaller"),
    ],
)  # fmt: skip
def test_a_rule_that_is_met_shows_its_evidence(rule: str, title: str, evidence: str) -> None:
    assert shown(full(), rule) == (title, "met", evidence)


@pytest.mark.parametrize(
    ("changes", "rule", "title", "evidence"),
    [
        ({"checks": (*CHECKS, check("gpu", "failed", "no device"), check("nms", "failed", "wrong boxes"))},
         "checks", "every check in the image passed", "gpu: no device; nms: wrong boxes"),
        ({"budget": 2_000_000_000}, "budget", "its layers take at most 2.00 GB", "2.50 GB of 2.00 GB"),
        (measured(gdal="3.6.2", cudnn="8.9.7"), "versions", "its versions are those expected",
         "cudnn is 8.9.7, expected 9.10; gdal is 3.6.2, expected 3.10.3"),
        ({"sizes": figures("jetpack").sizes}, "saving", "its layers are at least 10 % smaller than jetpack's", "0 B (0.0 %) equal"),
    ],
)  # fmt: skip
def test_a_rule_that_is_broken_shows_each_fault(
    changes: dict[str, object], rule: str, title: str, evidence: str
) -> None:
    assert shown(judged(figures("cuda", **changes)), rule) == (title, "not met", evidence)


@pytest.mark.parametrize(
    ("changes", "rule", "title", "evidence"),
    [
        ({"checks": ()}, "checks", "every check in the image passed", "no checks were run in it, or no record tells"),
        ({"checks": (*CHECKS, check("gpu", "not measured"), check("nms", "not measured"))},
         "checks", "every check in the image passed", "3 ok; not measured: gpu, nms"),
        ({"sizes": {}}, "budget", "its layers take at most 6.50 GB", "not measured"),
        ({"sizes": {}}, "saving", "its layers are at least 10 % smaller than jetpack's", "not measured"),
        (measured(gdal=None, cudnn=None), "versions", "its versions are those expected", "not measured: cudnn, gdal"),
        ({"status": NOT_BUILT}, "built", "both images are built", "cuda is not built"),
    ],
)  # fmt: skip
def test_a_rule_without_evidence_shows_what_is_missing(
    changes: dict[str, object], rule: str, title: str, evidence: str
) -> None:
    assert shown(judged(figures("cuda", **changes)), rule) == (title, "not measured", evidence)


@pytest.mark.parametrize(
    ("changes", "headline"),
    [
        ({"sizes": {}}, "its size was not measured: no recommendation."),  # two rules lack it; the first one speaks
        ({"sizes": {}, "budget": None}, "its size was not measured: no recommendation."),
        (measured(gdal=None, cudnn=None),
         f"{SMALLER}, but the version of cudnn and gdal was not measured: no recommendation."),
        ({"checks": (check("gpu", "failed"), check("nms", "failed")), "budget": 2_000_000_000, **measured(gdal="3.6.2")},
         f"{SMALLER}, but 2 checks failed, is over its budget (2.50 GB of 2.00 GB) and gdal is 3.6.2, expected 3.10.3: not recommended."),
        ({"budget": 2_000_000_000, **measured(gdal="3.6.2")},
         f"{SMALLER}, but is over its budget (2.50 GB of 2.00 GB) and gdal is 3.6.2, expected 3.10.3: not recommended."),
        ({"sizes": figures("jetpack").sizes},
         "cuda is as large as jetpack, but should be at least 10 % smaller: not recommended."),
    ],
)  # fmt: skip
def test_the_headline_names_every_broken_rule_or_the_first_without_evidence(
    changes: dict[str, object], headline: str
) -> None:
    assert judged(figures("cuda", **changes)).verdict.headline == headline


@pytest.mark.parametrize(
    ("changes", "rule", "said"),
    [
        ({"checks": (*CHECKS, check("gpu", "failed", "no device"))}, "checks", "but 1 check failed"),
        ({"budget": 2_000_000_000}, "budget", "but is over its budget (2.50 GB of 2.00 GB)"),
        (measured(gdal="3.6.2"), "versions", "but gdal is 3.6.2, expected 3.10.3"),
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
        ({"checks": (*CHECKS, check("gpu", "not measured"))}, "checks", "1 check could not be measured"),
        (measured(gdal=None), "versions", "the version of gdal was not measured"),
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
    neither = complete(skeleton(absent, MISSING), {}, min_saving_percent=10)
    assert neither.verdict.headline == "jetpack and third are not built: no recommendation."


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


def test_of_several_that_are_as_good_the_first_is_recommended() -> None:
    result = judged(figures("cuda"), replace(figures("cuda"), name="twin"))
    assert result.verdict.image == "cuda"


def test_an_image_of_unknown_size_is_not_put_before_one_that_is_known_to_be_smaller() -> None:
    baseline = figures("jetpack").sizes["layers"] or 0
    unknown = replace(figures("cuda", sizes={}, checks=()), name="unknown")
    slightly = replace(figures("cuda", sizes={"layers": int(baseline * 0.995)}, checks=()), name="slightly")
    result = judged(unknown, slightly, percent=0)
    assert result.verdict.headline.startswith("slightly is ")


def test_with_no_threshold_an_equal_size_is_enough() -> None:
    result = judged(figures("cuda", sizes=figures("jetpack").sizes), percent=0)
    assert result.verdict.headline == "cuda is as large as jetpack and passes every check: recommended."


def test_one_image_alone() -> None:
    alone = complete(skeleton(figures("jetpack")), {}, min_saving_percent=10)
    assert alone.verdict.status == "no recommendation"
    assert "nothing to compare" in alone.verdict.headline


def test_an_error_of_the_audit_that_nobody_waived_speaks_against_an_image() -> None:
    result = full(findings=(finding("A1", "error"), finding("A5", "warning")))
    assert outcomes(result)["audit"] == "not met"
    assert [rule.evidence for rule in result.verdict.rules if rule.outcome == "not met"] == ["A1: finding A1"]
    errors = (finding("A1", "error"), finding("A2", "error"))
    for found, told in ((errors[:1], "1 error"), (errors, "2 errors")):
        pair = complete(skeleton(figures("jetpack"), figures("cuda"), findings=found), {}, min_saving_percent=10)
        assert pair.verdict.headline.endswith(f"but the audit finds {told}: not recommended.")
    assert shown(pair, "audit") == ("the audit finds no error in it", "not met", "A1: finding A1; A2: finding A2")


def test_findings_on_another_image_and_waived_ones_do_not() -> None:
    others = (finding("A1", "error", image="jetpack"), finding("A1", "error", waived="seen"))
    assert outcomes(full(findings=others))["audit"] == "met"


def test_an_image_that_was_not_audited_is_judged_without() -> None:
    assert "audit" not in outcomes(full(findings=None))


def test_images_that_were_named_are_compared_and_not_judged() -> None:
    found = full(profile=None).verdict
    assert (found.status, found.rules) == ("no recommendation", ())
    assert found.headline == "cuda is 1.02 GB (28.9 %) smaller than jetpack."
    named = skeleton(
        *(figures(name) for name in ("jetpack", "cuda")), replace(figures("cuda"), name="twin"), profile=None
    )
    several = complete(named, {}, min_saving_percent=10).verdict
    assert several.headline == (
        "cuda is 1.02 GB (28.9 %) smaller than jetpack, twin is 1.02 GB (28.9 %) smaller than jetpack."
    )
    unmeasured = skeleton(figures("jetpack"), figures("cuda", sizes={}), profile=None)
    assert complete(unmeasured, {}, min_saving_percent=10).verdict.headline == "no size of them was measured."

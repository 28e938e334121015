"""The audit as a whole: what it adds up to, waivers, and its forms."""

from __future__ import annotations

import datetime as dt
import fnmatch
import io
import json
import re
from dataclasses import replace
from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from jetpare.audit import audit, prune_plan
from jetpare.audit.subject import Evidence, Finding, Subject, at_or_below
from jetpare.config.schema import AuditSettings as Rules
from jetpare.config.schema import Waiver
from jetpare.config.values import KNOWN_CHECKS
from jetpare.image.inventory import File, Inventory
from jetpare.views import audit_text, sarif
from tests.inventories import elf, image
from tests.unit.test_audit_checks import SITE, package, subject, wheel

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.timezone.utc)
BARE = image({"/usr/local/bin/x": 1, "/usr/bin/x": 1, "/bin/x": 1})  # no zones, no certificates


def waiver(**more: Any) -> Waiver:
    return Waiver(**{"id": "A16", "pattern": "*", "reason": "not used", "date": dt.date(2026, 1, 1), **more})


def audited(*waivers: Waiver, inventory: Inventory = BARE, **rules: Any) -> audit.Audit:
    return audit.audit([subject(inventory, rules=Rules(waivers=waivers, **rules))], now=NOW, profile="rehearsal")


def test_the_checks_are_those_that_may_be_waived() -> None:
    assert tuple(check.id for check in audit.CHECKS) == KNOWN_CHECKS


def test_a_result_tells_of_every_check_on_every_image() -> None:
    made = audit.audit([subject(BARE), subject(BARE, name="jetpack")], now=NOW)
    assert [(row.image, row.check) for row in made.rows] == [(i, c) for i in ("cuda", "jetpack") for c in KNOWN_CHECKS]
    status = {row.check: row.status for row in made.rows if row.image == "cuda"}
    assert (status["A16"], status["A5"], status["A9"]) == ("found", "ok", "not measured")
    assert all(bool(row.reason) == (row.status == "not measured") for row in made.rows)
    assert {"A6", "A9", "A14", "A15", "A17", "A22"} == {
        check for check, state in status.items() if state == "not measured"
    }


def test_findings_before_a_check_could_not_go_on_count() -> None:
    from jetpare.image.inventory import LayerInfo

    many = replace(BARE, layers=(LayerInfo(diff_id="x", size=1, instruction="COPY a b"),) * 101)
    made = audit.audit([subject(many, budget=5)], now=NOW)
    assert [each.subject for each in made.findings if each.id == "A23"] == ["layers"]


def test_a_check_that_breaks_costs_itself_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(_: Subject) -> Any:
        yield from ()
        raise AttributeError("'int' object\nhas no attribute")

    checks = [replace(check, run=breaks) if check.id == "A5" else check for check in audit.CHECKS]
    monkeypatch.setattr(audit, "CHECKS", checks)
    rows = {row.check: row for row in audited().rows}
    assert rows["A5"].status == "not measured"
    assert rows["A5"].reason == "this check failed: AttributeError: 'int' object has no attribute"
    assert rows["A16"].status == "found"


def test_the_worst_comes_first() -> None:
    made = audited(inventory=replace(BARE, elfs=(elf("/l/libx.so", symtab_bytes=10**7),)))
    assert [each.severity for each in made.findings] == sorted(
        (each.severity for each in made.findings), key="error warning note".index
    )
    assert made.count("error") == 2


def test_what_makes_an_audit_fail() -> None:
    assert {each.id for each in audited().failed} == {"A16"}
    assert audited(waiver()).failed == ()
    stale = waiver(id="A5")
    assert audited(waiver(), stale).failed == ()
    assert [each.id for each in audited(waiver(), stale, fail_on="warning").failed] == ["W1"]


def test_a_waived_finding_is_shown_with_its_reason() -> None:
    made = audited(waiver(pattern="time zones"))
    assert {each.subject: each.waived for each in made.findings} == {
        "time zones": "not used (2026-01-01)",
        "certificates": None,
    }


def test_a_waiver_that_matches_nothing_is_a_finding_where_its_check_was_measured() -> None:
    made = audited(waiver(), waiver(id="A13", pattern="/gone"), waiver(id="A9"), waiver(id="A13", image="other"))
    assert [(each.id, each.subject, each.severity) for each in made.open] == [("W1", "A13 /gone", "warning")]


def test_a_waiver_ends() -> None:
    last = waiver(until=dt.date(2026, 6, 1))
    assert audited(last).open == ()
    over = audited(waiver(until=dt.date(2026, 5, 31)))
    assert {each.id for each in over.open} == {"A16", "W2"}


def test_what_a_waiver_covers() -> None:
    lib = Finding(
        id="A2",
        severity="error",
        title="",
        image="cuda",
        subject="libmlx5.so.1",
        evidence=(Evidence(path="/l/libcufile_rdma.so.1"),),
    )
    assert audit.covers(waiver(id="A2", pattern="*/libcufile_rdma.so.*"), lib)
    assert audit.covers(waiver(id="A2", pattern="libmlx5*"), lib)
    assert not audit.covers(waiver(id="A1", pattern="libmlx5*"), lib)
    assert not audit.covers(waiver(id="A2", pattern="libmlx5*", image="jetpack"), lib)
    more = replace(lib, evidence=(*lib.evidence, Evidence(path="/usr/bin/tool")))
    assert not audit.covers(waiver(id="A2", pattern="*/libcufile_rdma.so.*"), more)


def test_fingerprints_stay_while_evidence_and_bytes_change() -> None:
    one = Finding(id="A5", severity="note", title="2 copies", image="cuda", subject="/a", bytes=5)
    assert one.fingerprint == replace(one, title="3 copies", bytes=9, severity="warning").fingerprint
    assert (
        len({one.fingerprint, replace(one, image="jetpack").fingerprint, replace(one, subject="/b").fingerprint}) == 3
    )


def test_the_documented_json() -> None:
    content = json.loads(json.dumps(audited(waiver(pattern="time zones")).as_dict()))
    assert content["schema"] == "jetpare.audit/1"
    assert content["generated"] == "2026-06-01T00:00:00Z"
    assert content["counts"] == {"error": 1, "warning": 0, "note": 0}
    assert [check["id"] for check in content["checks"]] == list(KNOWN_CHECKS)
    assert content["findings"][0].keys() == {
        "id", "severity", "title", "image", "subject", "evidence", "searched", "bytes", "advice", "waived", "fingerprint",
    }  # fmt: skip


# --- SARIF: what the schema of 2.1.0 requires, and what code hosts want beyond it


def test_sarif_has_what_the_schema_requires() -> None:
    inventory = replace(BARE, elfs=(elf("/l/lib x\udcff.so", symtab_bytes=10**7),))
    made = audited(waiver(pattern="time zones"), waiver(id="A13", pattern="/gone"), inventory=inventory)
    log = json.loads(json.dumps(sarif.sarif(made), allow_nan=False))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "jetpare"
    rules = driver["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules) == len(KNOWN_CHECKS) + 2
    for rule in rules:
        assert all(rule[key]["text"] for key in ("shortDescription", "fullDescription", "help"))
        assert re.fullmatch(r"[A-Za-z]+\w*", rule["name"])
    assert len(run["results"]) == len(made.findings)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in {"error", "warning", "note"}
        assert result["message"]["text"]
        assert result["partialFingerprints"]["jetpareFinding/v1"]
        assert result["locations"]
        for location in result["locations"]:
            uri = location["physicalLocation"]["artifactLocation"]["uri"]
            assert re.fullmatch(r"[A-Za-z0-9._~%/+@,=-]+", uri), uri
            assert not uri.startswith("/")
    waived = [result for result in run["results"] if "suppressions" in result]
    assert [each["suppressions"][0]["justification"] for each in waived] == ["not used (2026-01-01)"]
    assert all(each["suppressions"][0]["kind"] in {"inSource", "external"} for each in waived)
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is True
    told = {note["associatedRule"]["id"] for note in invocation["toolExecutionNotifications"]}
    assert told == {row.check for row in made.rows if row.status == "not measured"}
    json.dumps(log).encode("ascii")


# --- the terminal


def shown(made: Any, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(made)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_report_fits_80_columns_and_says_the_worst_first() -> None:
    long = f"{SITE}/package/with/a/very/long/path/to/a/library/that/does/not/fit/libx.so"
    inventory = replace(BARE, elfs=(elf(long, symtab_bytes=10**7),))
    made = replace(audited(waiver(pattern="time zones"), inventory=inventory), missing=("jetpack",))
    text = shown(audit_text.audit(made))
    assert all(len(line) <= 80 for line in text.splitlines())
    assert text.startswith("cuda: 1 error, ")
    assert "jetpack: NOT BUILT" in text
    assert (
        text.index("certificates are missing")
        < text.index("symbols and debug sections")
        < text.index("Waived in build.toml")
    )
    assert "10.0 MB" in text
    assert "no gpu_arch is set for this profile" in " ".join(text.split())


def test_markup_in_a_name_is_shown_as_it_is() -> None:
    inventory = replace(BARE, elfs=(elf("/l/[red]x.so", symtab_bytes=10**7),))
    assert "/l/[red]x.so" in shown(audit_text.audit(audited(inventory=inventory)))


def test_names_that_a_terminal_would_act_on_are_written_out() -> None:
    name = "/l/\x1b[2Jx\udcff\n.so"
    text = shown(audit_text.audit(audited(inventory=replace(BARE, elfs=(elf(name, symtab_bytes=10**7),)))))
    assert "/l/\\x1b[2Jx\\udcff\\n.so" in text
    text.encode()


def test_no_finding_is_said() -> None:
    assert "cuda: nothing found" in shown(audit_text.audit(audited(waiver())))


@given(
    st.lists(st.text(alphabet="abcdef", min_size=1, max_size=12), min_size=1, max_size=14).map(
        lambda parts: "/" + "/".join(parts)
    )
)
def test_a_shortened_path_keeps_its_ends(path: str) -> None:
    short = audit_text.short(path)
    assert len(short) <= max(len(path), audit_text.LONG)
    assert short == path or short.endswith("/" + "/".join(path.split("/")[-audit_text.KEPT :]))


# --- the prune plan


def plan(inventory: Inventory, **rules: Any) -> list[prune_plan.Item]:
    return prune_plan.items(subject(inventory, rules=Rules(least_mb=0, **rules)))


def full() -> Inventory:
    files: dict[str, Any] = {
        f"{SITE}/sympy/{name}/tests/test_x.py": 10 for name in ("a", "b", "c", "d", "e", "f", "g")
    } | {
        f"{SITE}/torch/include/c10/x.h": 50,
        f"{SITE}/torch/include/ATen/y.h": 50,
        "/usr/local/lib/libx.so": "-> libx.so.1",
    }
    files |= {path: File(path=path, kind="file", size=7, digest="ab") for path in ("/opt/a", "/opt/b")}
    lib = elf("/usr/local/lib/libx.so.1", symtab_bytes=200_000)
    kept = elf(f"{SITE}/m/c.so", soname=None, symtab_bytes=300_000)
    dev = package("liba-dev", section="libdevel", files=("/usr/include/a.h",))
    return image(
        {**files, "/usr/include/a.h": 5}, elfs=[lib, kept], packages=(dev,), distributions=(wheel("m", "m/c.so"),)
    )


def test_what_could_go_is_counted_once_with_its_proof() -> None:
    made = {item.name: item for item in plan(full())}
    assert made["libx"].paths == ("/usr/local/lib/*",)
    assert (made["libx"].bytes, made["libx"].proof) == (1000, "users: none")
    assert made[f"headers of {SITE}/torch"].paths == (f"{SITE}/torch",)
    assert made[f"tests of {SITE}/sympy"].bytes == 70
    assert made["/opt/a"].links == ("/opt/b",)
    strip = next(item for item in made.values() if item.strip)
    assert strip.strip == (f"{SITE}/m/c.so",)  # not that of libx, which could go as a whole
    assert "liba-dev" in {name for item in made.values() for name in item.packages}
    assert all(item.proof and item.bytes for item in made.values())


def test_the_plan_as_rules_for_build_toml() -> None:
    made = plan(full())
    rules = tomli.loads(prune_plan.as_toml(made))["prune"]
    assert len(rules) == sum(bool(item.paths or item.strip) for item in made)
    assert all(rule["reason"] and not path.startswith("/") for rule in rules for path in rule.get("paths", ()))
    known = [file.path for file in full().files]
    for rule in rules:
        for path in (*rule.get("paths", ()), *rule.get("strip", ())):
            assert any(at_or_below(name, path) for name in known), path


def test_many_folders_of_one_name_become_a_glob() -> None:
    inventory = image(
        {f"{SITE}/sympy/{name}/{part}": 10 for name in "abcdefg" for part in ("tests/test_x.py", "code.py")}
    )
    (item,) = [item for item in plan(inventory) if item.check == "A10"]
    assert item.paths == (f"{SITE}/sympy/**/tests",)
    assert sum(at_or_below(file.path, item.paths[0]) and file.kind == "file" for file in inventory.files) == 7


@given(st.sets(st.integers(0, 30)))
def test_folders_stand_only_for_what_is_chosen(chosen: set[int]) -> None:
    paths = [f"/top/d{number % 4}/s{number % 3}/f{number}" for number in range(31)]
    inventory = image(dict.fromkeys(paths, 1))
    made = prune_plan.Folders(inventory).compact(paths[number] for number in chosen)
    covered = {path for path in paths if any(fnmatch.fnmatchcase(path, f"{top}/*") or path == top for top in made)}
    assert covered == {paths[number] for number in chosen}


def test_the_plan_fits_80_columns() -> None:
    text = shown(audit_text.prune_plan(plan(full())))
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "Nothing is removed by itself." in text


def test_what_a_subject_must_not_share() -> None:
    one = subject(BARE)
    assert isinstance(replace(one, name="x"), Subject)


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("a/**/tests", "/a/tests", True), ("a/**/tests", "/a/b/c/tests/x.py", True), ("a/**/tests", "/a/b/tests2", False),
        ("a/*.so", "/a/x.so", True), ("a/*.so", "/a/b/x.so", False), ("a", "/a/b/c", True), ("a", "/ab", False),
    ],
)  # fmt: skip
def test_globs(glob: str, path: str, matches: bool) -> None:
    assert at_or_below(path, glob) is matches

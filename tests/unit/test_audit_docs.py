"""docs/audit.md says of every check what the code does, and how it is proved."""

from __future__ import annotations

import re

from jetpare.audit.audit import CHECKS
from tests.audit_breaks import BREAKS
from tests.conftest import ROOT

DOCUMENT = ROOT / "docs" / "audit.md"


def table() -> str:
    """The table of checks, as the code has it."""
    lines = ["| check | holds that | would have caught | proved by | then it finds |", "|---|---|---|---|---|"]
    for check in CHECKS:
        proofs = [each for each in BREAKS if each.check == check.id]
        what = "; ".join(each.what for each in proofs)
        found = "; ".join(f"`{name}`" for each in proofs for name in sorted(each.expected))
        lines.append(f"| {check.id} | {check.title} | {check.why} | {what} | {found} |")
    return "\n".join(lines)


def test_the_table_of_checks() -> None:
    text = DOCUMENT.read_text()
    found = re.search(r"<!-- checks -->\n(.*)<!-- /checks -->", text, re.DOTALL)
    assert found
    assert found[1].strip() == table(), f"docs/audit.md is to hold:\n{table()}"


def test_every_check_is_proved() -> None:
    assert {each.check for each in BREAKS} == {check.id for check in CHECKS}
    assert len({each.name for each in BREAKS}) == len(BREAKS)
    assert all(name.split()[0] in {each.check, "A4"} for each in BREAKS for name in each.expected)

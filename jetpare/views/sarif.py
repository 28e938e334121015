"""Write an audit as SARIF 2.1.0 (OASIS), which code hosts and editors show: one run, a rule for every check."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from jetpare import __version__
from jetpare.audit.audit import CHECKS, NOT_MEASURED, WAIVER_CHECKS, Audit
from jetpare.audit.subject import Finding

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LOCATIONS = 20  # of one result; a host shows only a few


def sarif(result: Audit) -> dict[str, Any]:
    """Return the log; paths are relative to the root of the image that the result names."""
    rules = [
        {
            "id": check.id,
            "name": f"Check{check.id}",
            "shortDescription": {"text": check.title},
            "fullDescription": {"text": check.why},
            "help": {"text": f"It would have caught: {check.why} See docs/audit.md."},
        }
        for check in CHECKS
    ]
    rules += [
        {"id": code, "name": f"Check{code}", "shortDescription": {"text": text}, "fullDescription": {"text": text}}
        | {"help": {"text": "Waivers stand in build.toml, [[audit.waivers]]. See docs/audit.md."}}
        for code, text in WAIVER_CHECKS.items()
    ]
    index = {rule["id"]: number for number, rule in enumerate(rules)}
    run = {
        "tool": {"driver": {"name": "jetpare", "version": __version__, "rules": rules}},
        "invocations": [
            {
                "executionSuccessful": True,
                "endTimeUtc": result.generated,
                "toolExecutionNotifications": [
                    {
                        "level": "note",
                        "message": {"text": f"{row.check} was not measured on {row.image}: {row.reason}"},
                        "associatedRule": {"id": row.check, "index": index[row.check]},
                    }
                    for row in result.rows
                    if row.status == NOT_MEASURED
                ],
            }
        ],
        "originalUriBaseIds": {"ROOT": {"description": {"text": "The root of the image's file system."}}},
        "results": [_result(each, index[each.id]) for each in result.findings],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(finding: Finding, index: int) -> dict[str, Any]:
    image = f"{finding.image}: " if finding.image else ""
    made: dict[str, Any] = {
        "ruleId": finding.id,
        "ruleIndex": index,
        "level": finding.severity,
        "message": {"text": f"{image}{finding.title}. {finding.advice}"},
        "locations": [_location(each.path, each.detail) for each in finding.evidence[:LOCATIONS]],
        "partialFingerprints": {"jetpareFinding/v1": finding.fingerprint},
        "properties": {"image": finding.image, "subject": finding.subject, "bytes": finding.bytes},
    }
    if finding.waived is not None:
        made["suppressions"] = [{"kind": "external", "status": "accepted", "justification": finding.waived}]
    return made


def _location(path: str, detail: str) -> dict[str, Any]:
    uri = quote(path.lstrip("/").encode(errors="surrogateescape"), safe="/+@,=") or "."
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": uri, "uriBaseId": "ROOT"}}}
    if detail:
        location["message"] = {"text": detail.encode(errors="replace").decode()}
    return location

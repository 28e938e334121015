"""Show an audit: the findings of each image, the worst first, and what could not be checked."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from jetpare.audit.audit import CHECKS, NOT_MEASURED, Audit
from jetpare.audit.prune_plan import Item
from jetpare.audit.subject import SEVERITIES, Finding
from jetpare.base.text import some
from jetpare.base.units import size_text

STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
EVIDENCE = 3  # lines of it; --json has all
LONG = 56  # characters of a path that are shown whole
KEPT = 2  # parts of its end that are always shown


def audit(result: Audit) -> RenderableType:
    """Return the verdict and a table of findings for each image. Fits 80 columns."""
    parts: list[RenderableType] = [_verdict(result)]
    names = list(dict.fromkeys([*(image["name"] for image in result.images), *(f.image for f in result.findings)]))
    for name in names:
        shown = [each for each in result.open if each.image == name]
        if shown:
            parts += [Text(), _table(name or "build.toml", shown)]
    waived = [each for each in result.findings if each.waived is not None]
    if waived:
        parts += [Text(), _waived(waived)]
    parts += _not_measured(result)
    return Group(*parts)


def prune_plan(plan: list[Item]) -> RenderableType:
    """Return what could be removed from each image, the largest first."""
    parts: list[RenderableType] = []
    for name in dict.fromkeys(item.image for item in plan):
        items = [item for item in plan if item.image == name]
        title = f"{name}: {size_text(sum(item.bytes for item in items))} could go"
        table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        table.add_column("check", no_wrap=True)
        table.add_column("what, and the proof", overflow="fold", ratio=1)
        table.add_column("bytes", justify="right", no_wrap=True)
        for item in items:
            words = Text(printable(item.name)).append(f"\n  {printable(item.proof)}", "dim")
            table.add_row(item.check, words, size_text(item.bytes))
        parts += [table, Text()]
    hint = "A list to choose from: what your own code loads by other means is not seen. Nothing is removed by itself."
    return Group(*parts, Text(hint, style="dim"), Text())


def _verdict(result: Audit) -> Text:
    text = Text()
    for image in result.images:
        found = [each for each in result.open if each.image == image["name"]]
        counts = [(sum(each.severity == severity for each in found), severity) for severity in SEVERITIES]
        worst = next((severity for count, severity in counts if count), None)
        words = ", ".join(f"{count} {severity}{'' if count == 1 else 's'}" for count, severity in counts if count)
        style = STYLES[worst] if worst in {"error", "warning"} else "bold green"
        text.append(f"{image['name']}: {words or 'nothing found'}\n", style)
    flag = f" --profile {result.profile}" if result.profile else ""
    for name in result.missing:
        text.append(f"{name}: NOT BUILT (`invoke build-all --image {name}{flag}` builds it)\n", "bold red")
    text.rstrip()
    return text


def _table(name: str, findings: list[Finding]) -> Table:
    table = Table(title=name, title_justify="left", title_style="bold", box=None, pad_edge=False, expand=True)
    table.add_column("check", no_wrap=True)
    table.add_column("what, where, what to do", overflow="fold", ratio=1)
    table.add_column("bytes", justify="right", no_wrap=True)
    for number, each in enumerate(findings):
        following = findings[number + 1] if number + 1 < len(findings) else None
        size = "" if each.bytes is None else size_text(each.bytes)
        if not number or findings[number - 1].severity != each.severity:
            table.add_row("", Text(f"{each.severity}s", style=STYLES[each.severity]), "")
        # Findings with the same fix show it once, below the last of them.
        advice = "" if following and following.advice == each.advice else each.advice
        table.add_row(Text(each.id, style=STYLES[each.severity]), _words(each, advice), size)
    return table


def _words(finding: Finding, advice: str) -> Text:
    text = Text(printable(finding.title), style="bold" if finding.severity == "error" else "")
    for each in finding.evidence[:EVIDENCE]:
        line = f"{short(each.path)}{': ' if each.detail else ''}{each.detail}"
        text.append(f"\n  {printable(line)}", "not bold dim")
    if len(finding.evidence) > EVIDENCE:
        text.append(f"\n  and {len(finding.evidence) - EVIDENCE} more", "not bold dim")
    if finding.searched:
        folders = some([short(each) for each in finding.searched], EVIDENCE)
        text.append(f"\n  searched: {printable(folders)}", "not bold dim")
    if advice:
        text.append(f"\n  {printable(advice)}", "not bold italic")
    return text


def printable(text: str) -> str:
    """Escape whatever a terminal would act on, or cannot show: names in images may contain anything."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def short(path: str) -> str:
    """Shorten a long path in its middle: '/opt/venv/.../bin/protoc'."""
    first, _, rest = path.strip("/").partition("/")
    if len(path) <= LONG or not path.startswith("/") or rest.count("/") <= KEPT:
        return path
    middle, tail = rest.split("/")[:-KEPT], rest.split("/")[-KEPT:]
    while middle and len(f"/{first}/.../{'/'.join(tail)}") + len(middle[0]) < LONG:
        first = f"{first}/{middle.pop(0)}"
    return f"/{first}/.../{'/'.join(tail)}"


def _waived(findings: list[Finding]) -> Table:
    table = Table(title="Waived in build.toml", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("image", "check"):
        table.add_column(column, no_wrap=True)
    table.add_column("what, and why it may be", overflow="fold", ratio=1)
    for each in findings:
        table.add_row(each.image, each.id, escape(printable(f"{each.title}: {each.waived}")), style="dim")
    return table


def _not_measured(result: Audit) -> list[RenderableType]:
    titles = {check.id: check.title for check in CHECKS}
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in result.rows:
        if row.status == NOT_MEASURED:
            reasons.setdefault((row.check, row.reason), []).append(row.image)
    lines = [f"  {check} on {some(images)} ({titles[check]}): {reason}" for (check, reason), images in reasons.items()]
    return [Text(), Text("Not measured:\n" + "\n".join(lines), style="dim")] if lines else []

"""Show past runs in 80 columns: many runs (history), or one run in detail (timings)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jetpare.base.units import TENTHS_UNTIL, clock_face, size_text
from jetpare.base.versions import NOT_MEASURED
from jetpare.events.step_names import brief
from jetpare.events.steps import Step, union_seconds
from jetpare.records import trace
from jetpare.records.history import Point, host_of, sparkline
from jetpare.records.history import RunGroup as Runs
from jetpare.records.samples import Figure, StageTelemetry
from jetpare.records.trace import Run, Stage
from jetpare.views.rows import seconds_text
from jetpare.views.terminal import STYLES

LONGEST = 10  # rows of a table of the longest
SPARK_WIDTH = 8
SHORTEST = 0.05  # seconds; less would be shown as 0.0
DIGEST_DIGITS = 6
BAR_WIDTH = 30
WHOLE = 0.95  # energy that is known for less of a stage's time than this is shown with its share


# --- many runs


def history(found: Sequence[Runs]) -> RenderableType:
    """Return a row for each comparable group, under a heading for what they share, with the outliers below."""
    if not found:
        return Text("No stage was ever finished here. `invoke build-all` makes the first record.")
    parts: list[RenderableType] = []
    # Sorting keeps the order of the stages within a heading.
    for heading, rows in groupby(sorted(found, key=_heading), _heading):
        parts += [Text(heading, style="bold"), _history_table(list(rows)), Text()]
    # A stage from the layer cache takes only a look-up: nothing there is worth a warning.
    parts += [_outlier(group) for group in found if group.outliers and group.key.cache != "cached"]
    parts += [_marked(group, point) for group in found for point in group.points if point.marks]
    parts.append(Text("inputs: digest of what decided the result; ±: standard deviation (3 runs on);", style="dim"))
    parts.append(Text("runs: the newest ones, as bars from 0 to the longest.", style="dim"))
    return Group(*parts)


def _heading(group: Runs) -> str:
    key = group.key
    how = "each stage alone" if key.alone else "one solve, stages side by side"
    return f"{key.profile} on {key.host}, power mode {key.power_mode or NOT_MEASURED}, {how}"


def _history_table(rows: Sequence[Runs]) -> Table:
    table = _table()
    table.add_column("stage", overflow="fold")
    for column in ("cache", "inputs"):
        table.add_column(column, no_wrap=True)
    for column in ("n", "median", "min-max", "±"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("runs", no_wrap=True)
    for group in rows:
        cache = group.key.cache or "-"
        table.add_row(
            group.key.label,
            Text(cache, style=STYLES.get(cache, "")),
            (group.key.inputs or "-").removeprefix("sha256:")[:DIGEST_DIGITS],
            str(group.count),
            clock_face(group.median),
            _range(group.minimum, group.maximum) if group.count > 1 else "-",
            clock_face(group.deviation) if group.deviation is not None else "-",
            sparkline([point.seconds for point in group.points], width=SPARK_WIDTH),
        )
    return table


def _range(low: float, high: float) -> str:
    if high < TENTHS_UNTIL:
        return f"{low:.1f}-{high:.1f} s"
    return f"{clock_face(low)}-{clock_face(high)}"


def _outlier(group: Runs) -> RenderableType:
    which = ", ".join(f"{seconds_text(point.seconds)} in run {point.run}" for point in group.outliers)
    usual = f"median {seconds_text(group.median)}"
    return Text(f"{group.key.label} ({group.key.cache or '-'}): {which}: outlier ({usual})", style="yellow")


def _marked(group: Runs, point: Point) -> RenderableType:
    return Text(
        f"{group.key.label}, {seconds_text(point.seconds)} in run {point.run}: {'; '.join(point.marks)}", "yellow"
    )


# --- one run


def timings(run: Run) -> RenderableType:
    """Return the stages, where the time went, the longest steps, the measurements, and what compiled slowly."""
    parts: list[RenderableType] = [_run_heading(run), Text(), _stages(run), Text(), _shares(run)]
    if any(stage.steps for stage in run.stages):
        parts += [Text(), _longest_steps(run)]
    parts += [Text(), _telemetry(run)]
    for stage in run.stages:
        if stage.commands:
            parts += [Text(), _compile(stage)]
    return Group(*parts)


def _run_heading(run: Run) -> RenderableType:
    record = run.record
    how = "one solve, stages side by side" if record.parallel else "one stage after another"
    cold = ", cold caches asked for" if record.cold else ""
    mode = record.host.get("power_mode") or NOT_MEASURED
    text = Text(f"Run {record.id}: {record.task} ", style="bold")
    text.append(record.status, style=STYLES.get(record.status, ""))
    text.append(f"\n{record.profile} on {host_of(record)}, power mode {mode}; {how}{cold}", style="not bold")
    return text


def _stages(run: Run) -> Table:
    table = _table("Stages")
    table.add_column("stage", overflow="fold")
    table.add_column("state", no_wrap=True)
    for column in ("time", "work", "steps", "pull", "export"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in (stage.row for stage in run.stages):
        state = row.cache if row.status == "ok" and row.cache else row.status
        table.add_row(
            row.label,
            Text(state, style=STYLES.get(state, "")),
            _or_dash(row.seconds, clock_face),
            _or_dash(row.work, clock_face),
            str(row.steps or "-"),
            _beside(row.pull_seconds),
            _beside(row.export_seconds),
            Text("; ".join([*filter(None, [row.why or row.reason]), *row.marks])),
        )
    return table


def _shares(run: Run) -> Table:
    found = trace.shares(run)
    whole = sum(found.values())
    table = _table("Where the time went")
    for column in ("", "time", "share", ""):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for name, seconds in found.items():
        part = seconds / whole if whole else 0.0
        table.add_row(name, clock_face(seconds), f"{part:.1%}", Text("█" * round(part * BAR_WIDTH), style="cyan"))
    table.add_row("wall time", clock_face(whole), "", "", style="bold")
    return table


def _longest_steps(run: Run) -> RenderableType:
    on_path = {(step.digest, step.intervals) for step in run.critical_path}
    # In one solve, a step that several stages need is a step of each.
    steps: dict[object, tuple[str, Step]] = {}
    for stage in run.stages:
        for step in stage.steps:
            steps.setdefault((step.digest, step.intervals), (stage.row.label, step))
    table = _table("Longest steps (* on the critical path)", expand=True)
    table.add_column("", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("stage", no_wrap=True)
    table.add_column("step", no_wrap=True, overflow="ellipsis", ratio=1)
    longest = sorted(steps.items(), key=lambda each: -each[1][1].seconds)[:LONGEST]
    for key, (label, step) in longest:
        table.add_row("*" if key in on_path else "", clock_face(step.seconds), label, Text(brief(step.name)))
    path = Text(f"Critical path: {seconds_text(union_seconds(run.critical_path))} in {len(run.critical_path)} steps.")
    return Group(table, path)


# What a column shows of a stage's telemetry; a column that is empty in every row is left out.
_COLUMNS: Mapping[str, Callable[[StageTelemetry], str]] = {
    "cores": lambda found: _mean(found.cores_online, 1, 0),
    "CPU MHz": lambda found: _mean(_pooled(found.cpu_khz.values()), 1e3, 0),
    "GPU MHz": lambda found: _mean(found.gpu_hz, 1e6, 0),
    "EMC MHz": lambda found: _mean(found.emc_hz, 1e6, 0),
    "max °C": lambda found: f"{max(each.max for each in found.celsius.values()):.1f}" if found.celsius else "",
    "W": lambda found: _mean(found.power_mw, 1e3, 1),
    "Wh": lambda found: f"{found.energy_wh:.3f}" if found.energy_wh is not None else "",
    "OC": lambda found: str(sum(found.throttle_events.values())) if found.throttle_events else "",
    "load": lambda found: _mean(found.load, 1, 1),
}


def _telemetry(run: Run) -> RenderableType:
    measured = [(stage.row.label, found) for stage in run.stages if (found := trace.telemetry_of(run, stage))]
    if not measured:
        return Text(f"Clocks, heat and power: {NOT_MEASURED}.", style="dim")
    table = _table("Clocks, heat and power")
    table.add_column("stage", overflow="fold")
    columns = {name: cell for name, cell in _COLUMNS.items() if any(cell(found) for _, found in measured)}
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for label, found in measured:
        table.add_row(label, *(cell(found) or "-" for cell in columns.values()))
    return Group(table, *(Text(line, style=style) for line, style in _telemetry_notes(run, measured)))


def _telemetry_notes(run: Run, measured: Sequence[tuple[str, StageTelemetry]]) -> list[tuple[str, str]]:
    rails = dict.fromkeys(found.power_rails for _, found in measured if found.power_rails)
    lines = [("Means over each stage, but the highest temperature.", "dim")]
    if any(found.throttle_events for _, found in measured):
        lines.append(("OC: over-current events; some are normal.", "dim"))
    lines += [(f"Power: {' + '.join(names)}.", "dim") for names in rails]
    for name, figure in (("memory available", "memory_available"), ("disk free", "disk_free")):
        least = [value for sample in run.samples if (value := getattr(sample, figure)) is not None]
        if least:
            lines.append((f"Least {name}: {size_text(min(least))}.", "dim"))
    for stage in run.stages:
        found = trace.telemetry_of(run, stage)
        if found and found.tripped:
            lines.append((f"{stage.row.label}: throttled by heat: {', '.join(found.tripped)}.", "bold yellow"))
        whole = trace.intervals_of(stage)
        length = whole[-1].end - whole[0].start if whole else 0.0
        if found and found.energy_wh is not None and found.energy_seconds < WHOLE * length:
            part = found.energy_seconds / length
            lines.append((f"{stage.row.label}: energy is known for {part:.0%} of its time only.", "yellow"))
    return lines


def _compile(stage: Stage) -> RenderableType:
    lines = Text(f"{stage.row.label}, compiled with ninja", style="bold")
    facts = [f"{name} {seconds_text(seconds)}" for name, seconds in (stage.phases or {}).items()]
    if stage.ccache:
        facts.append(f"ccache {stage.ccache[0]} of {stage.ccache[1]} hits")
    facts.append(f"{len(stage.commands)} commands")
    lines.append(f"\n{', '.join(facts)}", style="not bold")
    table = _table("Slowest commands", expand=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("output", no_wrap=True, overflow="ellipsis", ratio=1)
    for command in stage.commands[:LONGEST]:
        others = f" and {len(command.outputs) - 1} more" if len(command.outputs) > 1 else ""
        table.add_row(clock_face(command.seconds), Text(_short(command.outputs[0]) + others))
    return Group(lines, table)


def _short(output: str) -> str:
    """Shorten an object's path: 'ogr/CMakeFiles/ogr.dir/x.cpp.o' becomes 'ogr/x.cpp.o'."""
    parts = output.split("/")
    if "CMakeFiles" in parts[:-2]:
        at = parts.index("CMakeFiles")
        del parts[at : at + 2]
    return "/".join(parts)


def _table(title: str | None = None, *, expand: bool = False) -> Table:
    """Return a table of single-spaced columns; with *expand*, a column with a ratio gets the remaining width."""
    return Table(
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=title,
        title_justify="left",
        title_style="bold",
        expand=expand,
    )


def _beside(seconds: float) -> str:
    return clock_face(seconds) if seconds >= SHORTEST else "-"


def _or_dash(value: float | None, show: Callable[[float], str]) -> str:
    return "-" if value is None else show(value)


def _mean(figure: Figure | None, unit: float, digits: int) -> str:
    return f"{figure.mean / unit:.{digits}f}" if figure else ""


def _pooled(figures: Iterable[Figure]) -> Figure | None:
    """Return all cores as one: the mean of their means."""
    known = list(figures)
    if not known:
        return None
    mean = sum(each.mean for each in known) / len(known)
    return Figure(mean=mean, min=min(each.min for each in known), max=max(each.max for each in known))

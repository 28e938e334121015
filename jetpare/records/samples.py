"""Summarize the samples of sensors taken during a stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

SAMPLES_FILE = "telemetry.jsonl"  # in the folder of a run
LONGEST_GAP = 10.0  # seconds between two readings of the power over which energy is still integrated


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The measurements of one moment. None, or no key: not measured."""

    time: float  # seconds since the epoch
    monotonic: float  # seconds by a clock that nobody sets: what lengths are taken from
    cores_online: int | None = None
    cpu_khz: Mapping[str, int] = field(default_factory=dict)  # 'cpu0': 1344000; online cores only
    governor: str | None = None  # 'schedutil'; several where cores differ
    gpu_hz: int | None = None
    emc_hz: int | None = None
    celsius: Mapping[str, float] = field(default_factory=dict)  # by the zone's type
    tripped: tuple[str, ...] = ()  # zones at or over their lowest passive trip point: they throttle
    rails_mw: Mapping[str, float] = field(default_factory=dict)  # by label
    power_mw: float | None = None  # the module's total
    power_rails: tuple[str, ...] = ()  # what the total is the sum of
    throttle_events: Mapping[str, int] = field(default_factory=dict)  # since boot
    memory_available: int | None = None
    load: float | None = None  # of the last minute
    disk_free: int | None = None


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One quantity over a stage, each sample counted alike."""

    mean: float
    min: float
    max: float


@dataclass(frozen=True, kw_only=True)
class StageTelemetry:
    """The measurements of one stage. None, or no key: not measured."""

    samples: int
    cores_online: Figure | None = None
    cpu_khz: Mapping[str, Figure] = field(default_factory=dict)
    governors: tuple[str, ...] = ()
    gpu_hz: Figure | None = None
    emc_hz: Figure | None = None
    celsius: Mapping[str, Figure] = field(default_factory=dict)
    tripped: tuple[str, ...] = ()
    rails_mw: Mapping[str, Figure] = field(default_factory=dict)
    power_mw: Figure | None = None
    power_rails: tuple[str, ...] = ()
    energy_wh: float | None = None
    energy_seconds: float = 0.0  # for how much of the stage the energy is known
    throttle_events: Mapping[str, int] = field(default_factory=dict)  # during the stage; they grow in normal use too
    memory_available: Figure | None = None
    load: Figure | None = None
    disk_free: Figure | None = None


def as_dict(sample: Sample) -> dict[str, Any]:
    """Return *sample* as JSON, without what was not measured."""
    return {key: value for key, value in vars(sample).items() if value not in (None, {}, ())}


def read_samples(path: Path) -> tuple[Sample, ...]:
    """Return the samples of a file that a Sampler wrote. A damaged line (the last one of a killed run) is left out."""
    adapter = TypeAdapter(Sample)
    found = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return ()
    for line in lines:
        try:
            found.append(adapter.validate_json(line))
        except ValidationError:
            continue
    return tuple(found)


# --- figures


def summarise(samples: Sequence[Sample], start: float, end: float) -> StageTelemetry:
    """Summarize *samples*, in the order in which they were taken, from *start* to *end* (epoch seconds).

    Samples outside are used for the edges only: energy is interpolated to them, counters are compared across them.
    """
    inside = [sample for sample in samples if start <= sample.time <= end]
    before = max((sample.time for sample in samples if sample.time <= start), default=start)
    after = min((sample.time for sample in samples if sample.time >= end), default=end)
    energy, seconds = _energy(samples, start, end)
    rails = dict.fromkeys(sample.power_rails for sample in inside if sample.power_rails)
    return StageTelemetry(
        samples=len(inside),
        cores_online=_figure(sample.cores_online for sample in inside),
        cpu_khz=_figures([sample.cpu_khz for sample in inside]),
        governors=tuple(dict.fromkeys(sample.governor for sample in inside if sample.governor)),
        gpu_hz=_figure(sample.gpu_hz for sample in inside),
        emc_hz=_figure(sample.emc_hz for sample in inside),
        celsius=_figures([sample.celsius for sample in inside]),
        tripped=tuple(dict.fromkeys(zone for sample in inside for zone in sample.tripped)),
        rails_mw=_figures([sample.rails_mw for sample in inside]),
        power_mw=_figure(sample.power_mw for sample in inside),
        power_rails=next(iter(rails), ()),
        energy_wh=energy,
        energy_seconds=seconds,
        throttle_events=_grown([sample for sample in samples if before <= sample.time <= after]),
        memory_available=_figure(sample.memory_available for sample in inside),
        load=_figure(sample.load for sample in inside),
        disk_free=_figure(sample.disk_free for sample in inside),
    )


def _figure(values: Iterable[float | None]) -> Figure | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    # A mean that rounding puts outside what was measured would look like an error.
    low, high = min(known), max(known)
    return Figure(mean=min(max(sum(known) / len(known), low), high), min=low, max=high)


def _figures(rows: Sequence[Mapping[str, float]]) -> dict[str, Figure]:
    names = dict.fromkeys(name for row in rows for name in row)
    found = {name: _figure(row.get(name) for row in rows) for name in names}
    return {name: figure for name, figure in found.items() if figure is not None}


def _energy(samples: Sequence[Sample], start: float, end: float) -> tuple[float | None, float]:
    """Return watt-hours by the trapezoid rule, and the seconds that they cover.

    A moment without a reading is bridged; where none came for LONGEST_GAP, or the clock was set back, nothing is known.
    """
    known = [(sample, sample.power_mw) for sample in samples if sample.power_mw is not None]
    total = covered = 0.0
    for (first, power), (second, next_power) in pairwise(known):
        span, step = second.time - first.time, second.monotonic - first.monotonic
        low, high = max(first.time, start), min(second.time, end)
        if span <= 0 or not 0 < step <= LONGEST_GAP or high <= low:
            continue
        begin, stop = (low - first.time) / span, (high - first.time) / span
        mean = power + (next_power - power) * (begin + stop) / 2
        seconds = step * (stop - begin)
        total += mean * seconds
        covered += seconds
    return (total / 1000 / 3600 if covered else None), covered


def _grown(samples: Sequence[Sample]) -> dict[str, int]:
    """Return by how much each counter grew. One that fell was reset meanwhile, and is left out."""
    found = {}
    for name in dict.fromkeys(name for sample in samples for name in sample.throttle_events):
        values = [sample.throttle_events[name] for sample in samples if name in sample.throttle_events]
        if len(values) > 1 and values == sorted(values):
            found[name] = values[-1] - values[0]
    return found

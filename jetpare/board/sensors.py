"""Measure clocks, heat, power and throttling while a build runs, from /sys and /proc, about once a second.

What cannot be read is missing, never 0: a sensor that is off (EAGAIN), gone (ENODEV) or talks nonsense leaves no figure
in that sample, and no figure in a stage where it never spoke. Nothing is started and nothing written but the file of
samples. Works on any Linux: a Jetson has the rails and the throttle counters, other machines what they have.

Units: kHz for CPU cores (as the kernel says), Hz for GPU and memory (EMC), degrees Celsius, milliwatts, bytes.
"""

from __future__ import annotations

import errno
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from jetpare.records.samples import Sample, StageTelemetry, as_dict, summarise

if TYPE_CHECKING:
    from typing_extensions import Self

INTERVAL = 1.0  # seconds; a rail's sensor averages over about 0.4 s, so that twice as often would tell little more
STOP_SECONDS = 5.0  # how long a sensor's driver may keep the thread when the run ends

# The module's total: one rail on Orin Nano and NX, a sum on AGX Orin. A board with neither has no total.
WHOLE_MODULE = "VDD_IN"
AGX_RAILS = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO")
NO_RAIL = ("NC", "sum of shunt voltages")

EMC_FILES = ("sys/kernel/debug/bpmp/debug/clk/emc/rate",)  # only root may look
GPU_NAME = re.compile(r".*\.(gpu|gv11b|ga10b)")
ORIN_GPU = "sys/class/devfreq/17000000.gpu"  # not there while the GPU is not up
COLDEST, HOTTEST = -100.0, 200.0  # a sensor that is off says -256 °C on some boards


# --- reading


class _Source:
    """One small file of the kernel's, kept open: reading it again is one system call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def bytes(self) -> bytes | None:
        """Return its content now; None where it is not there or does not answer."""
        try:
            if self._handle is None:
                self._handle = os.open(self._path, os.O_RDONLY)
            return os.pread(self._handle, 4096, 0)
        except OSError as error:
            if error.errno != errno.EAGAIN:  # off, not gone
                self.close()  # a device that comes back has a new file under the old name
            return None

    def text(self) -> str | None:
        found = self.bytes()
        return found.decode(errors="replace").strip("\0\n ") or None if found else None

    def number(self) -> int | None:
        found = self.bytes()
        try:
            return int(found) if found else None
        except ValueError:
            return None

    def clock(self) -> int | None:
        """Return a frequency; None where the device is switched off."""
        found = self.number()
        return found if found and found > 0 else None

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


@dataclass(frozen=True, kw_only=True)
class _Core:
    number: int
    clock: _Source
    governor: _Source


@dataclass(frozen=True, kw_only=True)
class _Zone:
    temperature: _Source
    trip: float | None  # degrees Celsius


@dataclass(frozen=True, kw_only=True)
class _Rail:
    millivolts: _Source
    milliamperes: _Source


class Sensors:
    """The sensors below *root*, found once. *disk* is a folder on the disk to watch; None where that is remote."""

    def __init__(self, root: Path = Path("/"), *, disk: Path | None = None) -> None:
        self._disk = disk
        self._online = _Source(root / "sys/devices/system/cpu/online")
        self._cores = _find_cores(root / "sys/devices/system/cpu")
        self._gpu = _Source(_find_gpu(root) / "cur_freq")
        self._emc = tuple(_Source(root / name) for name in EMC_FILES)
        self._zones = _find_zones(root / "sys/class/thermal")
        self._rails, self._throttles = _find_hwmon(root / "sys/class/hwmon")
        self._memory = _Source(root / "proc/meminfo")
        self._load = _Source(root / "proc/loadavg")
        self._total = next((rails for rails in ((WHOLE_MODULE,), AGX_RAILS) if set(rails) <= set(self._rails)), ())

    def sample(self, *, now: float, monotonic: float) -> Sample:
        """Take one sample, with these times."""
        online = core_numbers(self._online.text() or "")
        cores = [core for core in self._cores if core.number in online]
        governors = {name for name in (core.governor.text() for core in cores) if name}
        celsius, tripped = self._temperatures()
        rails = {label: power for label, rail in self._rails.items() if (power := _milliwatts(rail)) is not None}
        whole = bool(self._total) and set(self._total) <= set(rails)
        return Sample(
            time=now,
            monotonic=monotonic,
            cores_online=len(online) or None,
            cpu_khz=_present((f"cpu{core.number}", core.clock.clock()) for core in cores),
            governor=", ".join(sorted(governors)) or None,
            gpu_hz=self._gpu.clock(),
            emc_hz=next((found for found in (source.clock() for source in self._emc) if found), None),
            celsius=celsius,
            tripped=tripped,
            rails_mw=rails,
            power_mw=round(sum(rails[label] for label in self._total), 3) if whole else None,
            power_rails=self._total if whole else (),
            throttle_events=_present((name, source.number()) for name, source in self._throttles.items()),
            memory_available=_available(self._memory.bytes()),
            load=_first_float(self._load.text()),
            disk_free=_free(self._disk),
        )

    def _temperatures(self) -> tuple[dict[str, float], tuple[str, ...]]:
        found, tripped = {}, []
        for name, zone in self._zones.items():
            value = zone.temperature.number()
            if value is None or not COLDEST < value / 1000 < HOTTEST:
                continue
            found[name] = value / 1000
            if zone.trip is not None and found[name] >= zone.trip:
                tripped.append(name)
        return found, tuple(tripped)

    def close(self) -> None:
        """Close all files; reading again opens them again."""
        sources = [self._online, self._gpu, self._memory, self._load, *self._emc, *self._throttles.values()]
        sources += [source for core in self._cores for source in (core.clock, core.governor)]
        sources += [source for rail in self._rails.values() for source in (rail.millivolts, rail.milliamperes)]
        for source in (*sources, *(zone.temperature for zone in self._zones.values())):
            source.close()


def core_numbers(text: str) -> frozenset[int]:
    """Return the kernel's '0-3,6' as numbers; none where *text* is not such a list."""
    found: set[int] = set()
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part)
        if ends:
            found.update(range(int(ends[1]), int(ends[2] or ends[1]) + 1))
    return frozenset(found)


def _find_cores(folder: Path) -> tuple[_Core, ...]:
    """Return every core, even one that is offline now: another power mode may bring it up."""
    present = core_numbers(_once(folder / "present") or "")
    return tuple(
        _Core(
            number=number,
            clock=_Source(folder / f"cpu{number}/cpufreq/scaling_cur_freq"),
            governor=_Source(folder / f"cpu{number}/cpufreq/scaling_governor"),
        )
        for number in sorted(present)
        # Of a machine without frequency scaling, such as a virtual one, not a file a core is tried every second.
        if (folder / f"cpu{number}/cpufreq").exists() or (folder / f"cpu{number}/online").exists()
    )


def _find_gpu(root: Path) -> Path:
    found = (path for path in _listed(root / "sys/class/devfreq") if GPU_NAME.fullmatch(path.name))
    return next(found, root / ORIN_GPU)


def _find_zones(folder: Path) -> dict[str, _Zone]:
    found: dict[str, _Zone] = {}
    for path in _listed(folder, "thermal_zone"):
        kind = _once(path / "type")
        if kind is not None:
            zone = _Zone(temperature=_Source(path / "temp"), trip=_passive_trip(path))
            found[_unused(found, kind)] = zone
    return found


def _passive_trip(zone: Path) -> float | None:
    """Return the lowest temperature, in °C, at which the kernel slows down what heats this zone."""
    found = []
    for kind in zone.glob("trip_point_*_type"):
        at = _Source(kind.with_name(kind.name.replace("_type", "_temp")))
        value = at.number()
        at.close()
        if _once(kind) == "passive" and value is not None and value > 0:
            found.append(value / 1000)
    return min(found, default=None)


def _find_hwmon(folder: Path) -> tuple[dict[str, _Rail], dict[str, _Source]]:
    rails: dict[str, _Rail] = {}
    throttles: dict[str, _Source] = {}
    for path in _listed(folder):
        name = _once(path / "name")
        if name == "ina3221":
            for label_file in sorted(path.glob("in*_label")):
                label, channel = _once(label_file), label_file.name[2 : -len("_label")]
                volts, amperes = path / f"in{channel}_input", path / f"curr{channel}_input"
                if label and label not in NO_RAIL and amperes.exists():
                    rail = _Rail(millivolts=_Source(volts), milliamperes=_Source(amperes))
                    rails[_unused(rails, label)] = rail
        elif name == "soctherm_oc":
            for file in sorted(path.glob("oc*_event_cnt")):
                throttles[file.name.removesuffix("_event_cnt")] = _Source(file)
    return rails, throttles


def _listed(folder: Path, prefix: str = "") -> list[Path]:
    """Return the entries of *folder*, zone 2 before zone 10."""
    try:
        found = [path for path in folder.iterdir() if path.name.startswith(prefix)]
    except OSError:
        return []
    return sorted(found, key=lambda path: (len(path.name), path.name))


def _unused(names: Mapping[str, object], name: str) -> str:
    """Return *name*, with a number where another sensor has it: a PC may have two zones 'acpitz'."""
    return next(each for each in (name, *(f"{name}-{n}" for n in range(2, 1000))) if each not in names)


def _once(path: Path) -> str | None:
    source = _Source(path)
    found = source.text()
    source.close()
    return found


def _present(pairs: Iterable[tuple[str, int | None]]) -> dict[str, int]:
    return {name: value for name, value in pairs if value is not None}


def _milliwatts(rail: _Rail) -> float | None:
    volts, amperes = rail.millivolts.number(), rail.milliamperes.number()
    return None if volts is None or amperes is None else volts * amperes / 1000


def _available(meminfo: bytes | None) -> int | None:
    found = re.search(rb"^MemAvailable:\s+(\d+) kB", meminfo or b"", re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _first_float(text: str | None) -> float | None:
    try:
        return float((text or "").split()[0])
    except (IndexError, ValueError):
        return None


def _free(folder: Path | None) -> int | None:
    if folder is None:
        return None
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


# --- sampling


class Sampler:
    """Take a sample every *interval* seconds in a thread of its own, between entering and leaving it.

    *file* gets each sample as one line of JSON the moment it is taken, so that a run that is killed leaves them. A disk
    that is full ends that, with the reason in ``fault``, and nothing else. ``cpu_seconds`` is what the thread has cost.
    """

    def __init__(
        self,
        *,
        root: Path = Path("/"),
        disk: Path | None = None,
        file: Path | None = None,
        interval: float = INTERVAL,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.fault = ""
        self.cpu_seconds = 0.0
        self._sensors = Sensors(root, disk=disk)
        self._file, self._interval = file, interval
        self._wall, self._monotonic = wall, monotonic
        self._samples: list[Sample] = []
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._out: int | None = None

    def __enter__(self) -> Self:
        if self._file is not None:
            try:
                self._out = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            except OSError as error:
                self.fault = f"{self._file}: {error.strerror}"
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            return  # a driver holds it; the thread ends with the process, and its files must stay open until then
        self._sensors.close()
        if self._out is not None:
            os.close(self._out)
            self._out = None

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The samples so far, in order."""
        return tuple(self._samples)

    def take(self) -> None:
        """Take a sample now, in addition to the thread's: at a stage's start and end, so that each stage has some."""
        if not self._lock.acquire(timeout=STOP_SECONDS):
            return  # a driver holds the thread
        try:
            sample = self._sensors.sample(now=self._wall(), monotonic=self._monotonic())
            self._samples.append(sample)
            self._keep(sample)
        finally:
            self._lock.release()

    def stage(self, start: float, end: float) -> StageTelemetry:
        """Summarize the samples between two times (epoch seconds), the second of which has just passed."""
        self.take()
        return summarise(self.samples, start, end)

    def _keep(self, sample: Sample) -> None:
        if self._out is None:
            return
        try:
            os.write(self._out, f"{json.dumps(as_dict(sample), separators=(',', ':'))}\n".encode())
        except OSError as error:
            self.fault = f"{self._file}: {error.strerror}"
            os.close(self._out)
            self._out = None

    def _run(self) -> None:
        due = self._monotonic()
        while True:
            self.take()
            self.cpu_seconds = time.thread_time()
            # The next full interval: a sample that came late must not shift all that follow, nor be caught up with.
            due += self._interval * ((self._monotonic() - due) // self._interval + 1)
            if self._ending.wait(max(0.0, due - self._monotonic())):
                return

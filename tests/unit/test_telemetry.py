"""Telemetry: a sysfs tree as a board has it, sensors that come and go, and figures that are known beforehand."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetpare.board import sensors
from jetpare.board.sensors import Sampler, Sensors, core_numbers
from jetpare.records.ledger import RecordRow
from jetpare.records.samples import Figure, Sample, StageTelemetry, as_dict, read_samples, summarise

ROOT = Path(__file__).parent.parent.parent

AGX = {
    "VDD_GPU_SOC": (5000, 1000),
    "VDD_CPU_CV": (5000, 2000),
    "VIN_SYS_5V0": (5000, 400),
    "VDDQ_VDD2_1V8AO": (5000, 200),
}
NANO = {"VDD_IN": (5000, 1500), "VDD_CPU_GPU_CV": (5000, 500), "VDD_SOC": (5000, 300)}


def put(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def board(root: Path, rails: dict[str, tuple[int, int]], *, cores: int = 4, online: str = "0-3") -> Path:
    """The part of a Jetson's /sys and /proc that telemetry reads."""
    cpu = root / "sys/devices/system/cpu"
    put(cpu / "present", f"0-{cores - 1}")
    put(cpu / "online", online)
    for number in range(cores):
        put(cpu / f"cpu{number}/online", int(number in core_numbers(online)))
        put(cpu / f"cpu{number}/cpufreq/scaling_cur_freq", 1_000_000 + number)
        put(cpu / f"cpu{number}/cpufreq/scaling_governor", "schedutil")
    put(root / "sys/class/devfreq/17000000.gpu/cur_freq", 918_000_000)
    put(root / "sys/class/devfreq/15340000.vic/cur_freq", 1)
    put(root / "sys/kernel/debug/bpmp/debug/clk/emc/rate", 3_199_000_000)
    zones = {"cpu-thermal": 50_500, "gpu-thermal": 49_000, "cv0-thermal": 0, "tj-thermal": 51_000}
    for number, (kind, temperature) in enumerate(zones.items()):
        zone = root / f"sys/class/thermal/thermal_zone{number}"
        put(zone / "type", kind)
        put(zone / "temp", temperature)
        put(zone / "trip_point_0_type", "critical")
        put(zone / "trip_point_0_temp", 104_500)
        put(zone / "trip_point_1_type", "passive")
        put(zone / "trip_point_1_temp", 99_000)
    put(root / "sys/class/thermal/cooling_device0/type", "pwm-fan")
    monitor = root / "sys/class/hwmon/hwmon1"
    put(monitor / "name", "ina3221")
    for number, (label, (volts, amperes)) in enumerate([*rails.items(), ("NC", (1, 1))], 1):
        put(monitor / f"in{number}_label", label)
        put(monitor / f"in{number}_input", volts)
        put(monitor / f"curr{number}_input", amperes)
    put(monitor / "in7_label", "sum of shunt voltages")
    put(monitor / "in7_input", 3)
    put(monitor / "curr7_input", 3)
    throttle = root / "sys/class/hwmon/hwmon2"
    put(throttle / "name", "soctherm_oc")
    for number, count in ((1, 10), (2, 0), (3, 7)):
        put(throttle / f"oc{number}_event_cnt", count)
        put(throttle / f"oc{number}_throt_en", 1)
    put(root / "proc/meminfo", "MemTotal: 8000000 kB\nMemFree: 1000 kB\nMemAvailable: 6000000 kB")
    put(root / "proc/loadavg", "1.25 1.00 0.50 1/200 12345")
    return root


def now(sensors: Sensors, at: float = 1.0) -> Sample:
    return sensors.sample(now=at, monotonic=at)


Break = Callable[[str, int], None]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Break:
    """Makes reading the file whose path ends so fail with an error number; 0 mends it."""
    faults: dict[str, int] = {}
    real = os.pread

    def pread(handle: int, size: int, offset: int) -> bytes:
        path = str(Path(f"/proc/self/fd/{handle}").readlink())
        for end, number in faults.items():
            if path.endswith(end) and number:
                raise OSError(number, os.strerror(number))
        return real(handle, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    return faults.__setitem__


# --- one sample


def test_an_agx_orin_is_read_whole(tmp_path: Path) -> None:
    found = now(Sensors(board(tmp_path, AGX, cores=12, online="0-7"), disk=tmp_path))
    assert found.cores_online == 8
    assert found.cpu_khz == {f"cpu{number}": 1_000_000 + number for number in range(8)}
    assert found.governor == "schedutil"
    assert (found.gpu_hz, found.emc_hz) == (918_000_000, 3_199_000_000)
    assert found.celsius == {"cpu-thermal": 50.5, "gpu-thermal": 49.0, "cv0-thermal": 0.0, "tj-thermal": 51.0}
    assert found.tripped == ()
    assert found.rails_mw == {"VDD_GPU_SOC": 5000, "VDD_CPU_CV": 10000, "VIN_SYS_5V0": 2000, "VDDQ_VDD2_1V8AO": 1000}
    assert found.power_mw == 18000
    assert found.power_rails == sensors.AGX_RAILS
    assert found.throttle_events == {"oc1": 10, "oc2": 0, "oc3": 7}
    assert (found.memory_available, found.load) == (6_144_000_000, 1.25)
    assert found.disk_free is not None
    assert found.disk_free > 0


def test_the_total_of_a_nano_is_one_rail_that_holds_the_others(tmp_path: Path) -> None:
    found = now(Sensors(board(tmp_path, NANO)))
    assert (found.power_mw, found.power_rails) == (7500, ("VDD_IN",))
    assert found.rails_mw["VDD_SOC"] == 1500
    assert found.disk_free is None


def test_unknown_rails_make_no_total(tmp_path: Path) -> None:
    found = now(Sensors(board(tmp_path, {"GPU": (19000, 100), "CPU": (19000, 100)})))
    assert found.rails_mw == {"GPU": 1900, "CPU": 1900}
    assert (found.power_mw, found.power_rails) == (None, ())


def test_a_total_lacking_a_rail_is_not_measured(tmp_path: Path, broken: Break) -> None:
    sensors = Sensors(board(tmp_path, AGX))
    broken("/curr2_input", errno.EAGAIN)
    found = now(sensors)
    assert "VDD_CPU_CV" not in found.rails_mw
    assert (found.power_mw, found.power_rails) == (None, ())
    broken("/curr2_input", 0)
    assert now(sensors).power_mw == 18000


def test_a_plain_computer_has_what_it_has(tmp_path: Path) -> None:
    cpu = tmp_path / "sys/devices/system/cpu"
    put(cpu / "present", "0-1")
    put(cpu / "online", "0-1")
    for number in range(2):
        put(cpu / f"cpu{number}/cpufreq/scaling_cur_freq", 3_600_000)
        put(cpu / f"cpu{number}/cpufreq/scaling_governor", ["powersave", "performance"][number])
    for number, kind in enumerate(["acpitz", "acpitz", "x86_pkg_temp"]):
        put(tmp_path / f"sys/class/thermal/thermal_zone{number}/type", kind)
        put(tmp_path / f"sys/class/thermal/thermal_zone{number}/temp", 40_000 + number)
    put(tmp_path / "sys/class/hwmon/hwmon0/name", "nvme")
    found = now(Sensors(tmp_path))
    assert found.cpu_khz == {"cpu0": 3_600_000, "cpu1": 3_600_000}
    assert found.governor == "performance, powersave"
    assert found.celsius == {"acpitz": 40.0, "acpitz-2": 40.001, "x86_pkg_temp": 40.002}
    assert as_dict(found).keys() == {"time", "monotonic", "cores_online", "cpu_khz", "governor", "celsius"}


def test_nothing_at_all_is_not_measured(tmp_path: Path) -> None:
    sensors = Sensors(tmp_path / "none", disk=tmp_path / "none")
    assert now(sensors) == Sample(time=1.0, monotonic=1.0)
    assert summarise([now(sensors)], 0, 2) == StageTelemetry(samples=1)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENODEV, errno.EIO, errno.EBUSY, errno.ENODATA, errno.EPERM])
def test_a_sensor_that_fails_is_left_out_and_found_again(tmp_path: Path, broken: Break, number: int) -> None:
    sensors = Sensors(board(tmp_path, NANO))
    ends = ["thermal_zone2/temp", "17000000.gpu/cur_freq", "emc/rate", "oc1_event_cnt", "cpu1/cpufreq/scaling_cur_freq",
            "/in1_input", "proc/meminfo", "proc/loadavg"]  # fmt: skip
    for end in ends:
        broken(end, number)
    found = now(sensors)
    assert "cv0-thermal" not in found.celsius
    assert (found.gpu_hz, found.emc_hz, found.memory_available, found.load) == (None, None, None, None)
    assert found.throttle_events == {"oc2": 0, "oc3": 7}
    assert list(found.cpu_khz) == ["cpu0", "cpu2", "cpu3"]
    assert (found.power_mw, "VDD_IN" in found.rails_mw) == (None, False)
    for end in ends:
        broken(end, 0)
    assert now(sensors) == now(Sensors(tmp_path))


def test_a_device_that_comes_back_has_a_new_file(tmp_path: Path, broken: Break) -> None:
    sensors = Sensors(board(tmp_path, NANO))
    file = tmp_path / "sys/class/devfreq/17000000.gpu/cur_freq"
    assert now(sensors).gpu_hz == 918_000_000
    file.unlink()
    broken("cur_freq (deleted)", errno.ENODEV)
    assert now(sensors).gpu_hz is None
    assert now(sensors).gpu_hz is None
    put(file, 306_000_000)
    assert now(sensors).gpu_hz == 306_000_000


@pytest.mark.parametrize("content", ["", "\n", "N/A", "12x", "-", "\x00", "é", "0x10"])
def test_odd_content_is_not_measured(tmp_path: Path, content: str) -> None:
    root = board(tmp_path, NANO)
    for name in (
        "sys/class/devfreq/17000000.gpu/cur_freq",
        "sys/class/thermal/thermal_zone0/temp",
        "sys/class/hwmon/hwmon1/curr1_input",
        "sys/class/hwmon/hwmon2/oc1_event_cnt",
        "sys/devices/system/cpu/online",
        "proc/meminfo",
        "proc/loadavg",
    ):
        (root / name).write_text(content)
    found = now(Sensors(root))
    assert (found.gpu_hz, found.power_mw, found.cores_online, found.memory_available) == (None, None, None, None)
    assert found.load is None
    assert "cpu-thermal" not in found.celsius
    assert "oc1" not in found.throttle_events


def test_a_clock_of_zero_and_a_sensor_at_256_below_are_off(tmp_path: Path) -> None:
    root = board(tmp_path, NANO)
    put(root / "sys/class/devfreq/17000000.gpu/cur_freq", 0)
    put(root / "sys/class/thermal/thermal_zone0/temp", -256_000)
    found = now(Sensors(root))
    assert found.gpu_hz is None
    assert "cpu-thermal" not in found.celsius


def test_a_core_that_comes_up_later_is_seen(tmp_path: Path) -> None:
    sensors = Sensors(board(tmp_path, NANO, online="0-1"))
    assert list(now(sensors).cpu_khz) == ["cpu0", "cpu1"]
    put(tmp_path / "sys/devices/system/cpu/online", "0-2")
    assert list(now(sensors).cpu_khz) == ["cpu0", "cpu1", "cpu2"]


def test_a_zone_at_its_lowest_passive_trip_throttles(tmp_path: Path) -> None:
    root = board(tmp_path, NANO)
    put(root / "sys/class/thermal/thermal_zone1/trip_point_2_type", "passive")
    put(root / "sys/class/thermal/thermal_zone1/trip_point_2_temp", 70_000)
    put(root / "sys/class/thermal/thermal_zone1/temp", 70_000)
    assert now(Sensors(root)).tripped == ("gpu-thermal",)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0-3,6", {0, 1, 2, 3, 6}), ("0", {0}), ("", set()), ("x", set()), ("3-1", set()), ("0-1,x,5", {0, 1, 5})],
)
def test_core_lists(text: str, numbers: set[int]) -> None:
    assert core_numbers(text) == numbers


def test_closed_sensors_open_again(tmp_path: Path) -> None:
    sensors = Sensors(board(tmp_path, AGX))
    before = len(list(Path("/proc/self/fd").iterdir()))
    first = now(sensors)
    sensors.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert now(sensors) == first
    sensors.close()


# --- a stage


def sample(at: float, **more: Any) -> Sample:
    return Sample(time=1000 + at, monotonic=at, **more)


def test_means_extremes_and_what_was_never_measured() -> None:
    rows = [
        sample(0, gpu_hz=100, celsius={"a": 10.0}),
        sample(1, gpu_hz=200, celsius={"a": 20.0, "b": 5.0}, tripped=("a",), governor="x"),
        sample(2, gpu_hz=None, celsius={"a": 60.0}, governor="y"),
        sample(3, gpu_hz=900, celsius={"a": 90.0}),
    ]
    found = summarise(rows, 1000.5, 1002.5)
    assert found.samples == 2
    assert found.gpu_hz == Figure(mean=200, min=200, max=200)
    assert found.celsius == {"a": Figure(mean=40, min=20, max=60), "b": Figure(mean=5, min=5, max=5)}
    assert (found.tripped, found.governors) == (("a",), ("x", "y"))
    assert (found.emc_hz, found.energy_wh, found.power_mw) == (None, None, None)


def test_energy_is_integrated_over_real_times() -> None:
    """Power climbs by 1 W a second from 10 W, sampled irregularly: the trapezoid rule is exact."""
    times = [0, 1, 1.4, 3, 4.5, 6, 10]
    rows = [sample(at, power_mw=10_000 + 1000 * at, power_rails=("VDD_IN",)) for at in times]
    found = summarise(rows, 1002.0, 1008.0)
    assert found.energy_wh == pytest.approx((12 + 18) / 2 * 6 / 3600)
    assert found.energy_seconds == pytest.approx(6)
    assert found.power_rails == ("VDD_IN",)


def test_a_stage_between_two_samples_has_energy() -> None:
    rows = [sample(0, power_mw=3_600_000.0), sample(1, power_mw=3_600_000.0)]
    found = summarise(rows, 1000.25, 1000.75)
    assert found.samples == 0
    assert found.energy_wh == pytest.approx(0.5)


def test_a_reading_that_failed_is_bridged_and_a_long_gap_is_not() -> None:
    powers = {0: 1000.0, 1: None, 2: 1000.0, 3: 1000.0, 30: 1000.0, 31: 1000.0}
    found = summarise([sample(at, power_mw=power) for at, power in powers.items()], 1000, 1031)
    assert found.energy_seconds == pytest.approx(4)
    assert found.energy_wh == pytest.approx(4 / 3600)


def test_lengths_are_those_of_the_clock_that_nobody_sets() -> None:
    """The wall clock runs twice as fast here, and is set back once."""
    rows = [Sample(time=1000 + 2 * at, monotonic=at, power_mw=1000.0) for at in (0.0, 1.0, 2.0)]
    assert summarise(rows, 1000, 1004).energy_seconds == pytest.approx(2)
    rows += [Sample(time=900.0, monotonic=3.0, power_mw=1000.0), Sample(time=901.0, monotonic=4.0, power_mw=1000.0)]
    assert summarise(rows, 900, 901).energy_seconds == pytest.approx(1)


def test_throttle_counters_are_differences_over_the_whole_stage() -> None:
    counts = [5, 7, 9, 12]
    rows = [sample(at, throttle_events={"oc1": count, "oc2": 3}) for at, count in enumerate(counts)]
    assert summarise(rows, 1000.5, 1002.5).throttle_events == {"oc1": 7, "oc2": 0}
    assert summarise(rows[:1], 1000, 1001).throttle_events == {}
    reset = [sample(0, throttle_events={"oc1": 9}), sample(1, throttle_events={"oc1": 1})]
    assert summarise(reset, 1000, 1001).throttle_events == {}


def test_no_samples() -> None:
    assert summarise([], 0, 10) == StageTelemetry(samples=0)


@given(
    steps=st.lists(st.floats(0.01, 5), min_size=1, max_size=30),
    powers=st.lists(st.floats(0, 1e5), min_size=31, max_size=31),
    edges=st.tuples(st.floats(-5, 100), st.floats(-5, 100)),
)
def test_energy_lies_between_least_and_most_power(
    steps: list[float], powers: list[float], edges: tuple[float, float]
) -> None:
    times = [sum(steps[:count]) for count in range(len(steps) + 1)]
    rows = [sample(at, power_mw=power) for at, power in zip(times, powers, strict=False)]
    start, end = 1000 + min(edges), 1000 + max(edges)
    found = summarise(rows, start, end)
    covered = max(0.0, min(end, rows[-1].time) - max(start, rows[0].time))
    assert found.energy_seconds == pytest.approx(covered, abs=1e-6)
    if found.energy_wh is not None:
        used = [row.power_mw for row in rows if row.power_mw is not None]
        low, high = (value * found.energy_seconds / 3.6e6 for value in (min(used), max(used)))
        assert low * (1 - 1e-9) - 1e-12 <= found.energy_wh <= high * (1 + 1e-9) + 1e-12


@given(cut=st.floats(0, 9))
def test_the_energy_of_parts_is_that_of_the_whole(cut: float) -> None:
    rows = [sample(at, power_mw=1000.0 * (at % 3)) for at in range(10)]
    whole, first, second = (summarise(rows, 1000 + a, 1000 + b).energy_wh or 0 for a, b in ((0, 9), (0, cut), (cut, 9)))
    assert first + second == pytest.approx(whole, abs=1e-9)


def test_a_stage_survives_a_record() -> None:
    class Holder(RecordRow):
        telemetry: StageTelemetry | None = None

    rows = [
        sample(at, power_mw=1000.0, power_rails=("VDD_IN",), celsius={"a": 1.0}, cpu_khz={"cpu0": 5}) for at in range(3)
    ]
    found = Holder(telemetry=summarise(rows, 1000, 1002))
    text = json.dumps(found.model_dump())
    assert Holder.model_validate_json(text) == found
    assert Holder.model_validate_json(text.replace('"samples"', '"later": 1, "samples"')) == found


# --- the thread


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.005)


def test_samples_are_on_disk_as_they_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "telemetry.jsonl"
    with Sampler(root=board(tmp_path, NANO), file=file, interval=0.02) as sampler:
        wait_for(lambda: len(sampler.samples) > 3)
        assert len(read_samples(file)) >= 3
        stage = sampler.stage(sampler.samples[0].time, time.time())
    assert stage.energy_wh is not None
    assert stage.energy_wh > 0
    assert read_samples(file) == sampler.samples
    times = [each.monotonic for each in sampler.samples]
    assert times == sorted(times)
    assert sampler.cpu_seconds > 0
    assert not sampler.fault
    assert not [each for each in threading.enumerate() if each.name == "telemetry"]


def test_a_late_sample_does_not_shift_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, slow = Sensors.sample, [0.0, 0.27, 0.0, 0.0]

    def sample(self: Sensors, *, now: float, monotonic: float) -> Sample:
        time.sleep(slow.pop(0) if slow else 0.0)
        return real(self, now=now, monotonic=monotonic)

    monkeypatch.setattr(Sensors, "sample", sample)
    with Sampler(root=tmp_path, interval=0.2) as sampler:
        wait_for(lambda: len(sampler.samples) >= 4)
    times = [each.monotonic - sampler.samples[0].monotonic for each in sampler.samples]
    assert times[:4] == pytest.approx([0.0, 0.2, 0.6, 0.8], abs=0.09)


def test_a_full_disk_ends_the_file_and_nothing_else(tmp_path: Path) -> None:
    with Sampler(root=board(tmp_path, NANO), file=Path("/dev/full"), interval=0.01) as sampler:
        wait_for(lambda: len(sampler.samples) > 2)
    assert "No space left" in sampler.fault
    with Sampler(root=tmp_path, file=tmp_path / "none" / "file", interval=0.01) as sampler:
        wait_for(lambda: len(sampler.samples) > 2)
    assert "No such file" in sampler.fault


def test_damaged_lines_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "telemetry.jsonl"
    good = '{"time": 1.0, "monotonic": 2.0, "power_rails": ["VDD_IN"], "later": 1}'
    file.write_text(f'{good}\n\n[]\nnull\n{{"time": "x", "monotonic": 1}}\n{{"time": 1}}\n\x00\n{good[:-5]}')
    assert read_samples(file) == (Sample(time=1.0, monotonic=2.0, power_rails=("VDD_IN",)),)
    assert read_samples(tmp_path / "none") == ()


@pytest.mark.processes
def test_a_killed_run_leaves_its_samples(tmp_path: Path) -> None:
    file = tmp_path / "telemetry.jsonl"
    code = (
        "import sys, time; from pathlib import Path; from jetpare.board.sensors import Sampler\n"
        "with Sampler(file=Path(sys.argv[1]), interval=0.01): time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(file)], cwd=ROOT)
    try:
        wait_for(lambda: file.exists() and file.read_bytes().count(b"\n") > 3)
    finally:
        child.kill()
        child.wait()
    assert len(read_samples(file)) > 3

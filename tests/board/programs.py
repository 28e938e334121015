"""nvpmodel, jetson_clocks and sudo of the fake board: which one it is, the name that it is called by tells.

They keep their state in the board's files, as the real ones do in sysfs, and print what the real ones print. The knobs
stand in fake/board. This runs as a program of its own, and the tests start it thousands of times: pathlib and json alone
would take longer to import than the whole rest takes to run. The programs import this file, so that it is compiled once.
"""

import os
import sys
import time


def read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def write(path: str, value: object) -> None:
    with open(path, "w") as file:
        file.write(f"{value}\n")


NAME = os.path.basename(sys.argv[0])
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[0]))))
BOARD = eval(read(f"{ROOT}/fake/board"), {})
CORES = [f"{ROOT}/sys/devices/system/cpu/cpu{core}" for core in range(BOARD["cores"])]
GPU = f"{ROOT}/sys/class/devfreq/17000000.gpu"
EMC = f"{ROOT}/fake/emc"
STATUS = f"{ROOT}/var/lib/nvpmodel/status"
SUDOERS = {"passwordless": {True, False}, "cached": {False}, "password": set()}  # does it work with -k, without


def say(*lines: str) -> None:
    print("\n".join(lines), flush=True)


def is_root() -> bool:
    return bool(BOARD["root"] or os.environ.get("FAKE_ROOT"))


def journal(line: str) -> None:
    with open(f"{ROOT}/fake/journal", "a") as file:
        file.write(f"{line}\n")


# --- the hardware


def set_core(folder: str, *, online: bool, cap: int) -> None:
    """A core that goes offline loses its cpufreq folder; one that comes back starts with the lowest minimum."""
    write(f"{folder}/online", int(online))
    freq = f"{folder}/cpufreq"
    if online:
        os.makedirs(freq, exist_ok=True)
        lowest = BOARD["cpu_khz"][0]
        for name, value in {"governor": "schedutil", "max_freq": cap, "min_freq": lowest, "cur_freq": lowest}.items():
            write(f"{freq}/scaling_{name}", value)
    elif os.path.isdir(freq):
        for name in os.listdir(freq):
            os.unlink(f"{freq}/{name}")
        os.rmdir(freq)


def apply(number: int) -> None:
    mode = BOARD["modes"][number]
    time.sleep(BOARD["slow"])
    for core, folder in enumerate(CORES):
        set_core(folder, online=core < mode["cores"], cap=mode["cpu_khz"] or BOARD["cpu_khz"][1])
    write(f"{ROOT}/sys/devices/system/cpu/online", f"0-{mode['cores'] - 1}")
    write(f"{GPU}/max_freq", mode["gpu_hz"] or BOARD["gpu_hz"][1])
    write(f"{GPU}/min_freq", BOARD["gpu_hz"][0])
    write(f"{EMC}/max", mode["emc_hz"] or BOARD["emc_hz"][1])
    write(STATUS, f"pmode:{number:04d}")


def present() -> int:
    return int(read(STATUS)[len("pmode:") :])


# --- nvpmodel


def nvpmodel(words: list[str]) -> int:
    if BOARD["hang"] and words[:1] == [BOARD["hang"]]:
        time.sleep(3600)
    if not is_root():
        say("NVPM ERROR: Error opening /sys/kernel/nvpmodel_clk_cap/emc: 13")
    if words == ["-q"]:
        say("NVPM WARN: fan mode is not set!", f"NV Power Mode: {BOARD['modes'][present()]['name']}", str(present()))
    elif "--force" in words:
        journal("reboot by --force")
    elif words[:1] != ["-m"]:
        say("NVPM ERROR: unknown option")
    elif not is_root():
        say("NVPM ERROR: failed to set power mode!")
    else:
        return switch(int(words[1]))
    return 0


def switch(number: int) -> int:
    if number not in BOARD["modes"]:
        say(f"NVPM ERROR: request for bad power mode {number}")
        return 0
    journal(f"nvpmodel -m {number}")
    differs = BOARD["modes"][number]["mask"] != BOARD["modes"][present()]["mask"]
    if BOARD["stubborn"] or (BOARD["gpu_used"] and differs):
        say("NVPM WARN: Golden image context is already created")
        say(f"NVPM WARN: Reboot required for changing to this power mode: {number}")
        say("NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:")
        answer = sys.stdin.readline().strip()  # waits for ever on an open stdin where nobody types
        if answer in {"YES", "yes"}:
            journal("reboot by yes")
            return 0
        if not answer:
            say("NVPM ERROR: bad input!")
        say("NVPM ERROR: optMask is 1, no request for power mode")
        return 0
    apply(number)
    return int(BOARD["lies"])


# --- jetson_clocks


def knobs() -> dict[str, str]:
    """What a lock raises, and to which maximum."""
    freqs = [f"{core}/cpufreq/scaling" for core in CORES if os.path.isdir(f"{core}/cpufreq")]
    found = {f"{freq}_min_freq": f"{freq}_max_freq" for freq in freqs}
    return {**found, f"{GPU}/min_freq": f"{GPU}/max_freq", f"{EMC}/min": f"{EMC}/max"}


def idle_states() -> list[str]:
    return [f"{core}/cpuidle/state1/disable" for core in CORES]


def jetson_clocks(words: list[str]) -> int:
    if not is_root():
        say("Error: jetson_clocks: this needs root")
        return 1
    option = words[0] if words else ""
    if option != "--show":
        time.sleep(BOARD["slow"])
    if option == "--store":
        return store(words[1])
    if option == "--restore":
        return restore(words[1])
    if option in {"", "--show"}:
        return show() if option else lock()
    say("Unknown option")
    return 0


def lock() -> int:
    journal("jetson_clocks")
    if BOARD["no_lock"]:
        say("Can't set the clocks")
        return 0
    for path in idle_states():
        write(path, 1)
    for minimum, maximum in knobs().items():
        write(minimum, read(maximum))
    write(f"{EMC}/override", 1)
    return 0


def store(name: str) -> int:
    if os.path.exists(name):
        say(f"File {name} already exists. Can I overwrite it? Y/N:")
        if sys.stdin.readline().strip() != "Y":
            return 1
    if not BOARD["no_store"]:
        kept = [*knobs(), f"{EMC}/override", *idle_states()]
        write(name, "\n".join(f"{path[len(ROOT) :]}:{read(path)}" for path in kept))
    return 0


def restore(name: str) -> int:
    if not os.path.exists(name):
        say(f"Error: {name} doesn't exist")
        return 1
    journal("jetson_clocks --restore")
    if BOARD["no_restore"]:
        return 0
    for line in read(name).split("\n"):
        place, _, value = line.rpartition(":")
        if os.path.isdir(os.path.dirname(ROOT + place)):  # not of a core that is offline now
            write(ROOT + place, value)
    return 0


def show() -> int:
    say("SOC family:tegra234  Machine:NVIDIA Jetson", f"Online CPUs: {read(f'{ROOT}/sys/devices/system/cpu/online')}")
    for core, folder in enumerate(CORES):
        if not os.path.isdir(f"{folder}/cpufreq"):
            say(f"cpu{core}:  Online=0")
            continue
        governor, low, high, now = (
            read(f"{folder}/cpufreq/scaling_{name}") for name in ("governor", "min_freq", "max_freq", "cur_freq")
        )
        idle = 1 - int(read(f"{folder}/cpuidle/state1/disable"))
        say(
            f"cpu{core}:  Online=1 Governor={governor} MinFreq={low} MaxFreq={high} CurrentFreq={now} "
            f"IdleStates: WFI=1 c7={idle}"
        )
    low, high, now = (read(f"{GPU}/{name}_freq") for name in ("min", "max", "cur"))
    say(f"GPU MinFreq={low} MaxFreq={high} CurrentFreq={now}")
    low, high, override = (read(f"{EMC}/{name}") for name in ("min", "max", "override"))
    say(f"EMC MinFreq={low} MaxFreq={high} CurrentFreq={high} FreqOverride={override}")
    say("FAN Dynamic Speed Control=nvfancontrol hwmon0_pwm1=69")
    say(f"NV Power Mode: {BOARD['modes'][present()]['name']}")
    return 0


# --- sudo


def sudo(words: list[str]) -> int:
    flags = {word for word in words if word in {"-k", "-n"}}
    command = words[len(flags) :]
    if ("-k" in flags) in SUDOERS[BOARD["sudo"]]:
        os.execve(command[0], command, {**os.environ, "FAKE_ROOT": "1"})  # noqa: S606 - that is sudo's work
    say("sudo: a password is required")
    return 1


sys.exit({"nvpmodel": nvpmodel, "jetson_clocks": jetson_clocks, "sudo": sudo}[NAME](sys.argv[1:]))

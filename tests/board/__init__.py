"""A fake Jetson, at the edge only: a tree of files as sysfs has them, and the programs that change them.

Ids, names, TPC_PG_MASK and boot defaults of the modes are the boards' own; of their clocks, the order is.
"""

from __future__ import annotations

import ast
import stat
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from jetpare.board.host import LocalHost

PROGRAMS = {"usr/sbin/nvpmodel", "usr/bin/jetson_clocks", "usr/bin/sudo"}
# How the programs behave. root: whether they are run by root; sudo: passwordless, cached or password; gpu_used: a switch of
# the mask needs a reboot; stubborn: every switch does; hang: the option with which nvpmodel never ends; slow: seconds that
# a change takes; lies: its exit status; no_lock, no_store, no_restore: jetson_clocks does nothing, and says nothing of it.
KNOBS = {
    "root": True, "sudo": "password", "gpu_used": True, "stubborn": False, "hang": "", "slow": 0, "lies": 0,
    "no_lock": False, "no_store": False, "no_restore": False,
}  # fmt: skip
GHZ_15, GHZ_13 = 1_510_400, 1_344_000


@dataclass(frozen=True, kw_only=True)
class FakeMode:
    """A mode. Caps of 0 mean none."""

    name: str
    mask: int
    cores: int
    cpu_khz: int = 0
    gpu_hz: int = 0
    emc_hz: int = 0


@dataclass(frozen=True, kw_only=True)
class FakeBoard:
    """A board. ``start``: the mode that the tests begin in; ``wanted``: what they ask for; ``target``: its mode."""

    model: str
    chip: str
    cores: int
    modes: Mapping[int, FakeMode]
    default: int
    start: int
    wanted: str
    target: int
    cpu_khz: tuple[int, int] = (729_600, 2_201_600)
    gpu_hz: tuple[int, int] = (306_000_000, 1_300_500_000)
    emc_hz: tuple[int, int] = (204_000_000, 3_199_000_000)


def mode(name: str, mask: int, cores: int, cpu_khz: int = 0, gpu_mhz: int = 0, emc_mhz: int = 0) -> FakeMode:
    return FakeMode(name=name, mask=mask, cores=cores, cpu_khz=cpu_khz, gpu_hz=gpu_mhz * 10**6, emc_hz=emc_mhz * 10**6)


XAVIER = {
    0: mode("MAXN", 0, 8),
    1: mode("MODE_10W", 0, 2, 1_200_000, 520, 1066),
    2: mode("MODE_15W", 0, 4, 1_200_000, 670, 1333),
    3: mode("MODE_30W_ALL", 0, 8, 1_200_000, 900, 1600),
    4: mode("MODE_30W_6CORE", 0, 6, 1_450_000, 900, 1600),
    5: mode("MODE_30W_4CORE", 0, 4, 1_780_000, 900, 1600),
    6: mode("MODE_30W_2CORE", 0, 2, 2_100_000, 900, 1600),
    7: mode("MODE_15W_DESKTOP", 0, 4, 2_188_000, 670, 1333),
}
XAVIER_NX = {
    0: mode("MODE_15W_2CORE", 0, 2, 1_900_000, 1109, 1600),
    1: mode("MODE_15W_4CORE", 0, 4, 1_400_000, 1109, 1600),
    2: mode("MODE_15W_6CORE", 0, 6, 1_400_000, 1109, 1600),
    3: mode("MODE_10W_2CORE", 0, 2, 1_500_000, 803, 1600),
    4: mode("MODE_10W_4CORE", 0, 4, 1_200_000, 803, 1600),
    5: mode("MODE_10W_DESKTOP", 0, 4, 1_200_000, 510, 1600),
    6: mode("MODE_20W_2CORE", 0, 2, 1_900_000, 1109, 1866),
    7: mode("MODE_20W_4CORE", 0, 4, 1_400_000, 1109, 1866),
    8: mode("MODE_20W_6CORE", 0, 6, 1_400_000, 1109, 1866),
}
ORIN_NX = {
    1: mode("10W", 252, 4, 1_190_400, 612, 2133),
    2: mode("15W", 252, 4, 1_420_800, 612, 3199),
    3: mode("25W", 240, 8, 1_497_600, 408, 3199),
}
AGX_ORIN = {
    0: mode("MAXN", 0, 12),
    1: mode("MODE_15W", 248, 4, 1_113_600, 420, 2133),
    2: mode("MODE_30W", 240, 8, 1_728_000, 624),
    3: mode("MODE_50W", 0, 12, 1_497_600, 828),
}
AGX_ORIN_32 = {
    0: mode("MAXN", 128, 8),
    1: mode("MODE_15W", 248, 4, 1_113_600, 420, 2133),
    2: mode("MODE_30W", 240, 8, 1_728_000, 624),
    3: mode("MODE_40W", 128, 8, 1_497_600, 828),
}
NANO = {0: mode("15W", 240, 6, GHZ_15, 624), 1: mode("7W", 252, 4, 960_000, 408)}
NANO_SUPER = {
    0: mode("15W", 240, 6, 1_497_600, 612, 2133),
    1: mode("25W", 240, 6, GHZ_13, 918),
    2: mode("MAXN_SUPER", 240, 6),
    3: mode("7W", 252, 4, 960_000, 408, 2133),
}

ORIN_CHIP, XAVIER_CHIP = "nvidia,tegra234", "nvidia,tegra194"
BOARDS = {
    "agx-orin": FakeBoard(
        model="NVIDIA Jetson AGX Orin Developer Kit", chip=ORIN_CHIP, cores=12, modes=AGX_ORIN, default=2,
        start=3, wanted="maxn", target=0,
    ),
    "agx-orin-32": FakeBoard(
        model="NVIDIA Jetson AGX Orin 32GB", chip=ORIN_CHIP, cores=8, modes=AGX_ORIN_32, default=2,
        start=3, wanted="maxn", target=0,
    ),
    "orin-nx": FakeBoard(
        model="NVIDIA Jetson Orin NX 16GB", chip=ORIN_CHIP, cores=8, modes={0: mode("MAXN", 240, 8), **ORIN_NX},
        default=2, start=3, wanted="maxn", target=0,
    ),
    "orin-nx-super": FakeBoard(
        model="NVIDIA Jetson Orin NX Super", chip=ORIN_CHIP, cores=8, default=4, start=4, wanted="maxn", target=0,
        modes={0: mode("MAXN_SUPER", 240, 8), **ORIN_NX, 4: mode("40W", 240, 8, 1_497_600, 612)},
    ),
    "orin-nano": FakeBoard(
        model="NVIDIA Jetson Orin Nano 8GB", chip=ORIN_CHIP, cores=6, modes=NANO, default=0,
        start=0, wanted="15W", target=0,
    ),
    "orin-nano-super": FakeBoard(
        model="NVIDIA Jetson Orin Nano Super", chip=ORIN_CHIP, cores=6, modes=NANO_SUPER, default=1,
        start=1, wanted="maxn", target=2,
    ),
    "agx-xavier": FakeBoard(
        model="Jetson-AGX", chip=XAVIER_CHIP, cores=8, modes=XAVIER, default=7, start=7, wanted="maxn", target=0,
    ),
    "xavier-nx": FakeBoard(
        model="NVIDIA Jetson Xavier NX", chip=XAVIER_CHIP, cores=6, modes=XAVIER_NX, default=5,
        start=5, wanted="MODE_20W_6CORE", target=8,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Made:
    """A board on disk."""

    name: str
    board: FakeBoard
    root: Path
    state: Path

    def host(self, *, uid: int = 0) -> LocalHost:
        """The host to hand to the code under test. The programs know root by the knob of the same name."""
        return LocalHost(root=self.root, environ={"PATH": "/usr/bin:/bin"}, uid=uid)

    def turn(self, **knobs: object) -> None:
        """Set some of KNOBS."""
        turn(self.root, **knobs)

    @property
    def mode(self) -> int:
        """The id of the mode that the board is in."""
        return int((self.root / "var/lib/nvpmodel/status").read_text().strip().removeprefix("pmode:"))

    def journal(self) -> list[str]:
        """What was changed, by which command."""
        path = self.root / "fake/journal"
        return path.read_text().splitlines() if path.exists() else []

    def snapshot(self) -> dict[str, str]:
        """Everything that a session could change."""
        places = ("sys", "fake/emc", "var")
        files = [path for place in places for path in sorted((self.root / place).rglob("*")) if path.is_file()]
        return {str(path.relative_to(self.root)): path.read_text() for path in files}

    def locked(self) -> bool:
        """Whether every core's minimum is its maximum."""
        cores = list((self.root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"))
        return all((core / "scaling_min_freq").read_text() == (core / "scaling_max_freq").read_text() for core in cores)

    def run(self, *words: str) -> None:
        """Run a program of the board as root, as someone else would."""
        self.host().run(words, stdin="", timeout=20)


def turn(root: Path, /, **knobs: object) -> None:
    """Set some of KNOBS of the board below *root*."""
    path = root / "fake/board"
    path.write_text(repr({**ast.literal_eval(path.read_text()), **knobs}))


def make(name: str, folder: Path, *, start: int | None = None) -> Made:
    """Write the board called *name* into *folder*, in its mode *start*."""
    board, root = BOARDS[name], folder / "root"
    made = Made(name=name, board=board, root=root, state=folder / "state")
    write(root / "fake/board", repr({**asdict(board), **KNOBS}))
    for path in PROGRAMS:
        install(root / path)
    first = board.start if start is None else start
    files = {
        "etc/nvpmodel.conf": conf(board),
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed\n",
        "proc/device-tree/model": f"{board.model}\0",
        "proc/device-tree/compatible": f"nvidia,p3737-0000+p3701-0000\0{board.chip}\0",
        "proc/sys/kernel/random/boot_id": "11111111-2222-3333-4444-555555555555\n",
        "run/lock/.keep": "",
        "var/lib/nvpmodel/status": f"pmode:{first:04d}\n",
        "fake/emc/min": "204000000\n",
        "fake/emc/max": "0\n",
        "fake/emc/override": "0\n",
        "sys/devices/system/cpu/present": f"0-{board.cores - 1}\n",
        "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
    }
    for core in range(board.cores):
        files[f"sys/devices/system/cpu/cpu{core}/cpuidle/state1/disable"] = "0\n"
    for place, text in files.items():
        write(root / place, text)
    made.run("/usr/sbin/nvpmodel", "-m", str(first))
    (root / "fake/journal").unlink()
    return made


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def install(path: Path) -> None:
    """A program of the board: programs.py under the name that says which one it is. -S and -E: a start takes 10 ms."""
    write(path, f"#!{sys.executable} -SE\nimport sys\nsys.path[0] = {str(Path(__file__).parent)!r}\nimport programs\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def conf(board: FakeBoard) -> str:
    """The board's nvpmodel.conf, written as NVIDIA writes it."""
    xavier = board.chip == XAVIER_CHIP
    clusters = [f"CPU_{'DENVER' if xavier else 'A78'}_{number}" for number in range((board.cores + 3) // 4)]
    lines = ["#", f"# {board.model}", "# FORMAT:", "# < PARAM TYPE=PARAM_TYPE NAME=PARAM_NAME >", "#", ""]
    lines.append("< PARAM TYPE=FILE NAME=CPU_ONLINE >")
    lines += [f"CORE_{core} /sys/devices/system/cpu/cpu{core}/online" for core in range(board.cores)]
    lines += ["<PARAM TYPE=CLOCK NAME=EMC >", "MAX_FREQ /sys/kernel/nvpmodel_clk_cap/emc", ""]
    for number, each in board.modes.items():
        lines += ["", f"< POWER_MODEL ID={number} NAME={each.name} >"]
        lines += [f"CPU_ONLINE CORE_{core} {int(core < each.cores)}" for core in range(board.cores)]
        if not xavier:
            lines.append(f"TPC_POWER_GATING TPC_PG_MASK {each.mask}")
        for cluster in clusters:
            lines += [f"{cluster} MIN_FREQ {board.cpu_khz[0]}", f"{cluster} MAX_FREQ {each.cpu_khz or -1}"]
        lines += [f"GPU MAX_FREQ {each.gpu_hz or -1}", f"EMC MAX_FREQ {each.emc_hz}"]
    lines += [
        "",
        "# mandatory section to configure the default power mode",
        f"< PM_CONFIG DEFAULT={board.default} >",
        "",
    ]
    return "\n".join(lines)

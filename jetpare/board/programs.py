"""Run a Jetson's nvpmodel and jetson_clocks, and read its cores. Their exit codes are never trusted.

Nothing here reboots, passes --force, or answers a question with yes.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jetpare.base.errors import PowerError, ToolError
from jetpare.board.host import SUDO, Host, host_facts, read_number, read_optional
from jetpare.board.nvpmodel import CONF, Clocks, Mode, Modes, Present, parse_conf, parse_query, parse_show
from jetpare.board.sensors import core_numbers

NVPMODEL = "/usr/sbin/nvpmodel"
JETSON_CLOCKS = "/usr/bin/jetson_clocks"
QUERY_SECONDS = 15.0
CHANGE_SECONDS = 60.0  # a switch takes one or two seconds
POLL_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """One core that is online, from sysfs. Clocks in kHz; None if not known."""

    core: int
    governor: str | None
    min_khz: int | None
    max_khz: int | None
    current_khz: int | None


class Board:
    """nvpmodel and jetson_clocks on one host. Raises PowerError if they do not do what they should."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._prefixes: dict[str, tuple[str, ...] | None] = {}

    def has(self, program: str) -> bool:
        """Return whether the program is installed."""
        return bool(self.host.glob(program))

    def prefix(self, program: str) -> tuple[str, ...] | None:
        """Return the words before *program* that run it as root; None if we may not.

        A password that sudo remembers (-k leaves it out) does not count: it would be forgotten before the board is
        put back.
        """
        if self.host.is_root:
            return ()
        if program not in self._prefixes:
            question, answer = {NVPMODEL: ("-q", parse_query), JETSON_CLOCKS: ("--show", parse_show)}[program]
            works = False
            with suppress(ToolError):
                said = self.host.run((program, question), timeout=QUERY_SECONDS, sudo=(SUDO, "-k", "-n"))
                works = bool(answer(said.output))
            self._prefixes[program] = (SUDO, "-n") if works else None
        return self._prefixes[program]

    def query(self) -> Present:
        """Return the present mode. Needs no root."""
        try:
            said = self.host.run((NVPMODEL, "-q"), timeout=QUERY_SECONDS).output
        except ToolError as error:
            raise PowerError(f"The power mode cannot be asked for: {error}") from error
        present = parse_query(said)
        if present is None:
            raise PowerError(f"`{NVPMODEL} -q` does not name the power mode. It said:\n{said.strip()}")
        return present

    def modes(self) -> Modes:
        """Return the modes of the board."""
        try:
            return parse_conf(self.host.read_text(CONF))
        except OSError as error:
            raise PowerError(f"{CONF}: cannot be read ({error.strerror}), so the power modes are not known.") from None

    def switch(self, mode: Present) -> None:
        """Switch to *mode*, or raise PowerError with the reason. Never lets nvpmodel reboot the board."""
        said = self._change(NVPMODEL, "-m", str(mode.id), stdin="no\n")
        present = self.query()
        if present.id == mode.id:
            return
        if "reboot required" in said.casefold():
            raise PowerError(reboot_message(present, mode))
        raise PowerError(f"nvpmodel was asked for {mode}, and the power mode is {present}. It said:\n{said}")

    def show(self) -> Clocks:
        """Return the clocks as jetson_clocks shows them; {} if it is missing, or shows none because we are not root."""
        prefix = self.prefix(JETSON_CLOCKS) if self.has(JETSON_CLOCKS) else None
        if prefix is None:
            return {}
        try:
            return parse_show(self.host.run((JETSON_CLOCKS, "--show"), timeout=QUERY_SECONDS, sudo=prefix).output)
        except ToolError:
            return {}

    def store(self, path: Path) -> str:
        """Store the clocks in *path*, which must not exist; return why that failed, '' if it worked."""
        said = self._change(JETSON_CLOCKS, "--store", str(path))
        if path.is_file() and path.stat().st_size > 0:
            return ""
        return f"jetson_clocks did not store them: {said or 'it said nothing'}"

    def restore_clocks(self, path: Path) -> str:
        """Restore the clocks that `store` stored, and return the program's output."""
        return self._change(JETSON_CLOCKS, "--restore", str(path))

    def lock(self) -> str:
        """Raise every minimum clock to its maximum, and return the program's output."""
        return self._change(JETSON_CLOCKS)

    def settle(self) -> None:
        """Wait for a program that an interrupted run started. Raises PowerError if it does not end."""
        deadline = time.monotonic() + CHANGE_SECONDS
        while busy := [program for program in (NVPMODEL, JETSON_CLOCKS) if self.host.running(program)]:
            if time.monotonic() > deadline:
                raise PowerError(f"{busy[0]} is still running after a long time. End it, then try again.")
            time.sleep(POLL_SECONDS)

    def _change(self, program: str, *words: str, stdin: str = "") -> str:
        prefix = self.prefix(program)
        if prefix is None:
            raise PowerError(f"{program} needs root. {how_to_root()}")
        try:
            return self.host.run((program, *words), stdin=stdin, timeout=CHANGE_SECONDS, sudo=prefix).output.strip()
        except ToolError as error:
            return str(error)  # the caller asks the board for the outcome


def how_to_root() -> str:
    """Return what to do if we are not root."""
    return (
        f"Let sudo run {NVPMODEL} and {JETSON_CLOCKS} without a password (NOPASSWD in sudoers; a password that was "
        "typed before is not enough, since sudo may forget it before the board is restored), or run as root."
    )


def reboot_message(present: Present, mode: Mode | Present) -> str:
    """Return why a switch was not made, and the commands that help."""
    return (
        f"The power mode is {present}; {mode} cannot be had without a reboot, because the two differ in which parts of "
        "the GPU are on (TPC_PG_MASK). Nothing was changed. Either set it once, "
        f"`sudo nvpmodel -m {mode.id}`, let it reboot, and run again; or stay in {present.name} with `--power=keep`: "
        "every figure then says so."
    )


def not_ours(host: Host) -> str:
    """Return why there is no power mode to set here; '' on a Jetson that has nvpmodel."""
    facts = host_facts(host)
    if facts.family is None:
        return "not a Jetson"
    if facts.container:
        return "in a container, which cannot set its host's power mode"
    if not host.glob(NVPMODEL):
        return f"a Jetson without {NVPMODEL}"
    return ""


# --- the cores


def online_cpus(host: Host) -> tuple[Cpu, ...]:
    """Return the cores that are online, with their clocks."""
    cores = sorted(core_numbers(read_optional(host, "/sys/devices/system/cpu/online") or ""))
    folder = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_{}"
    return tuple(
        Cpu(
            core=core,
            governor=read_optional(host, folder.format(core, "governor")),
            min_khz=read_number(host, folder.format(core, "min_freq")),
            max_khz=read_number(host, folder.format(core, "max_freq")),
            current_khz=read_number(host, folder.format(core, "cur_freq")),
        )
        for core in cores
    )


def locked_clocks(cpus: tuple[Cpu, ...], clocks: Clocks) -> bool | None:
    """Return whether no clock may fall below its maximum; None if sysfs does not show it."""
    if not cpus or any(cpu.min_khz is None or cpu.max_khz is None for cpu in cpus):
        return None
    gpu = clocks.get("GPU", {})
    return all(cpu.min_khz == cpu.max_khz for cpu in cpus) and gpu.get("MinFreq") == gpu.get("MaxFreq")


def summary(host: Host) -> str:
    """Return what decides the speed without a power mode: '2 of 2 cores, governor performance, up to 3.50 GHz'."""
    cpus = online_cpus(host)
    present = len(core_numbers(read_optional(host, "/sys/devices/system/cpu/present") or ""))
    governors = sorted({cpu.governor for cpu in cpus if cpu.governor})
    top = max((cpu.max_khz for cpu in cpus if cpu.max_khz), default=None)
    parts = [
        f"{len(cpus)} of {present} cores",
        f"governor {', '.join(governors) or 'not measured'}",
        f"up to {top / 1e6:.2f} GHz" if top else "frequency not measured",
    ]
    return ", ".join(parts)

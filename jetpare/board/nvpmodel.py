"""Parse the output of nvpmodel and jetson_clocks: nvpmodel.conf, `nvpmodel -q`, `jetson_clocks --show`.

The formats are those of JetPack 5 and 6. Nothing here depends on the order of warnings or on an id of MAXN.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jetpare.base.errors import PowerError

CONF = "/etc/nvpmodel.conf"
WORDS_OF_A_SETTING = 3  # CPU_A78_0 MAX_FREQ -1

Clocks = Mapping[str, Mapping[str, str]]  # by device: cpu0, GPU, EMC, FAN; each with its keys, such as MinFreq


@dataclass(frozen=True, kw_only=True)
class Mode:
    """A power mode of nvpmodel.conf.

    ``caps``: the highest clock of each unit, in the unit's own unit (CPU kHz, GPU and EMC Hz); infinity for none.
    ``tpc_pg_mask``: which GPU clusters are off; None where the mode does not say.
    """

    id: int
    name: str
    caps: Mapping[str, float]
    cores_online: frozenset[int]
    cores_offline: frozenset[int]
    tpc_pg_mask: int | None

    @property
    def is_maxn(self) -> bool:
        """MAXN, MAXN_SUPER."""
        return self.name.startswith("MAXN")

    def __str__(self) -> str:
        return f"{self.name} (id {self.id})"


@dataclass(frozen=True, kw_only=True)
class Present:
    """The mode that `nvpmodel -q` reports."""

    id: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (id {self.id})"


@dataclass(frozen=True, kw_only=True)
class Modes:
    """All of nvpmodel.conf: the modes in its order, and the id of the one that the board boots with."""

    modes: tuple[Mode, ...]
    default: int | None

    def by_id(self, number: int) -> Mode | None:
        """Return the mode with this id."""
        return next((mode for mode in self.modes if mode.id == number), None)

    def by_name(self, name: str) -> Mode | None:
        """Return the mode called *name*, in upper or lower case."""
        return next((mode for mode in self.modes if mode.name.casefold() == name.casefold()), None)

    def maxn(self) -> Mode | None:
        """Return the mode whose name starts with MAXN, MAXN_SUPER before MAXN; None on boards without one."""
        return max((mode for mode in self.modes if mode.is_maxn), key=lambda mode: len(mode.name), default=None)

    def strongest(self) -> Mode:
        """Return the mode in which a build runs fastest, by its caps: CPU first, then GPU, then memory."""
        return max(self.modes, key=_strength)


def _strength(mode: Mode) -> tuple[float, ...]:
    cores = len(mode.cores_online)
    cpu = [cap for unit, cap in mode.caps.items() if unit.startswith("CPU")]
    clock = sum(cpu) / len(cpu) if cpu else 0.0
    clusters_off = (mode.tpc_pg_mask or 0).bit_count()
    return (max(cores, 1) * clock, cores, -clusters_off, mode.caps.get("GPU", 0.0), mode.caps.get("EMC", 0.0))


def needs_reboot(old: Mode, new: Mode) -> bool:
    """Return whether a switch between the two needs a reboot once the GPU was used: their TPC_PG_MASK differ."""
    return None not in {old.tpc_pg_mask, new.tpc_pg_mask} and old.tpc_pg_mask != new.tpc_pg_mask


# --- nvpmodel.conf


def parse_conf(text: str) -> Modes:
    """Return the modes of nvpmodel.conf. Raises PowerError, with the line, if there are none or one is not valid.

    Sections and keys that are not known are passed over: NVIDIA adds some with every release.
    """
    modes: list[Mode] = []
    default: int | None = None
    for line, kind, attributes, settings in _sections(text):
        if kind == "POWER_MODEL":
            mode = _mode(line, attributes, settings)
            if any(mode.id == other.id for other in modes):
                raise PowerError(f"{CONF}: line {line}: a second POWER_MODEL with ID={mode.id}.")
            modes.append(mode)
        elif kind == "PM_CONFIG":
            default = _number(attributes.get("DEFAULT", ""))
    if not modes:
        raise PowerError(f"{CONF}: there is no POWER_MODEL in it, so the board's power modes are not known.")
    return Modes(modes=tuple(modes), default=default)


def _sections(text: str) -> Iterator[tuple[int, str, dict[str, str], list[list[str]]]]:
    """Yield each '< KIND KEY=VALUE ... >' with its line number and the lines below it, split into words."""
    section: tuple[int, str, dict[str, str], list[list[str]]] | None = None
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.partition("#")[0].strip()
        header = re.match(r"<\s*(\w+)([^>]*)>?", line)
        if header:
            if section:
                yield section
            section = (number, header[1], dict(re.findall(r"(\w+)=(\S+)", header[2])), [])
        elif line and section:
            section[3].append(line.split())
    if section:
        yield section


def _mode(line: int, attributes: Mapping[str, str], settings: Sequence[Sequence[str]]) -> Mode:
    number, name = _number(attributes.get("ID", "")), attributes.get("NAME")
    if number is None or not name:
        raise PowerError(f"{CONF}: line {line}: a POWER_MODEL needs ID=NUMBER and NAME=TEXT.")
    caps: dict[str, float] = {}
    cores: dict[int, bool] = {}
    mask = None
    for setting in settings:
        value = _number(setting[2]) if len(setting) == WORDS_OF_A_SETTING else None
        if value is None:
            continue
        unit, key = setting[:2]
        core = re.fullmatch(r"CORE_(\d+)", key)
        if key == "MAX_FREQ":
            caps[unit] = float(value) if value > 0 else math.inf  # -1 is no cap, and 0 Hz cannot be meant as one
        elif key == "TPC_PG_MASK":
            mask = value
        elif unit == "CPU_ONLINE" and core:
            cores[int(core[1])] = value != 0
    return Mode(
        id=number,
        name=name,
        caps=caps,
        cores_online=frozenset(core for core, online in cores.items() if online),
        cores_offline=frozenset(core for core, online in cores.items() if not online),
        tpc_pg_mask=mask,
    )


def _number(text: str) -> int | None:
    """Parse a whole number, decimal or with 0x; return None for anything else."""
    try:
        return int(text, 16 if text.lower().startswith("0x") else 10)
    except ValueError:
        return None


# --- output of the programs


def parse_query(text: str) -> Present | None:
    """Return the mode in the merged output of `nvpmodel -q`; None if it names none.

    Warnings may stand before, between and after the two lines that matter: the name, and the bare id below it.
    """
    name = None
    for line in text.splitlines():
        found = re.match(r"\s*NV Power Mode\s*:\s*(\S+)", line)
        if found:
            name = found[1]
        elif name is not None and re.fullmatch(r"\s*[0-9]+\s*", line):
            return Present(id=int(line), name=name)
    return None


def parse_show(text: str) -> Clocks:
    """Parse `jetson_clocks --show` by device; return {} if it shows no clocks, as without root.

    'cpu0:  Online=1 Governor=schedutil MinFreq=729600 ...' -> {"cpu0": {"Online": "1", "Governor": "schedutil", ...}}.
    CPU clocks are in kHz, GPU and EMC in Hz.
    """
    devices: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        device = re.match(r"(cpu\d+|GPU|EMC|FAN|[A-Z0-9_]+)\b:?\s", line)
        values = dict(re.findall(r"(\w+)=(\S+)", line))
        if device and values:
            devices[device[1]] = values
    return devices if any("MinFreq" in values for values in devices.values()) else {}


def settings(clocks: Clocks) -> dict[str, str]:
    """Return the settings in *clocks* that jetson_clocks can change, as {"cpu0 MinFreq": "729600"}, without the fan."""
    return {
        f"{device} {key}": value
        for device, values in clocks.items()
        for key, value in values.items()
        if device != "FAN" and not key.startswith("Current")
    }

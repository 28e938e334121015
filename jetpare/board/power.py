"""Run a build under the power mode and the clocks that were asked for, and restore the board's own afterwards.

What is about to be changed is on disk before it is changed (STATE_FILE in the state folder, which is removed last), so
a run that is killed at any moment leaves enough to be undone: `restore` does so, from whatever step, as often as it is
called. A lock for the whole machine keeps a second session, or a recovery, from working under a live one.

Nothing here reboots, passes --force, or answers a question with yes. Exit codes of nvpmodel and jetson_clocks tell
little, so only a fresh query is believed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from jetpare.base import files, process
from jetpare.base.callbacks import Say
from jetpare.base.errors import BusyError, JetpareError, PowerError, StrictPowerError
from jetpare.base.text import suggest
from jetpare.board.host import Host, read_optional
from jetpare.board.nvpmodel import Clocks, Present, needs_reboot, settings
from jetpare.board.programs import (
    JETSON_CLOCKS,
    NVPMODEL,
    Board,
    Cpu,
    how_to_root,
    locked_clocks,
    not_ours,
    online_cpus,
    reboot_message,
    summary,
)

STATE_FILE = "power.json"
STORED = "power-clocks-"  # how the names of stored clocks start
LOCK_FILE = "jetpare-power.lock"
SCHEMA = 1

MAXN, KEEP = "maxn", "keep"
SLACK = 0.98  # a measured clock that is lower than promised by no more than this is rounding


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The power mode and clocks that a run asks for. ``wanted`` is 'maxn', 'keep' or the name of a mode."""

    wanted: str = MAXN
    lock_clocks: bool = True
    strict: bool = False


@dataclass(frozen=True, kw_only=True)
class PowerFacts:
    """The mode and clocks of a run, for its record. ``mode`` is None off a Jetson; ``locked`` None: not measured."""

    mode: str | None
    mode_id: int | None
    wanted: str
    locked: bool | None
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Promise:
    """The lowest clocks while they are locked, each at its maximum. CPU in kHz, GPU and EMC in Hz."""

    cpu_khz: Mapping[str, int]  # by core: cpu0
    gpu_hz: int | None = None
    emc_hz: int | None = None


class Saved(BaseModel):
    """The state file: the board's settings before a session, and those that the session sets."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: int = SCHEMA
    pid: int
    started: float  # seconds since the epoch
    boot_id: str | None
    mode_id: int
    mode_name: str
    wanted_id: int
    wanted_name: str
    clocks: str | None = None  # the file that jetson_clocks stored them in
    settings: dict[str, str] = {}  # the same, as --show printed them


@dataclass(frozen=True, kw_only=True)
class Pending:
    """Settings that a session has not restored yet. ``live``: it still runs."""

    saved: Saved
    live: bool
    present: Present | None
    clocks: bool

    def __str__(self) -> str:
        saved = self.saved
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(saved.started))
        if self.live:
            return f"A run (process {saved.pid}, since {since}) holds the power mode and restores it at its end."
        now = str(self.present) if self.present else "not known"
        parts = [f"the power mode is {now}, and was {saved.mode_name} (id {saved.mode_id}) before it"]
        if self.clocks:
            parts.append("its clocks are stored and may still be locked")
        return (
            f"The run of process {saved.pid} ({since}) ended without restoring the board: {'; '.join(parts)}. "
            "To restore it: `invoke power --restore`."
        )


# --- the session


class PowerSession:
    """A session that is open: ``facts`` for the record, ``promise`` for the checks of each stage."""

    def __init__(self, *, facts: PowerFacts, promise: Promise | None, board: Board | None) -> None:
        self.facts, self.promise = facts, promise
        self._board = board

    def present(self) -> Present | None:
        """Return the present mode; None off a Jetson, or if it cannot be read."""
        if self._board is None:
            return None
        try:
            return self._board.query()
        except PowerError:
            return None


@contextmanager
def session(*, state: Path, host: Host, policy: Policy, say: Say) -> Iterator[PowerSession]:
    """Hold the mode and the clocks of *policy*; restore the former ones, however the block ends.

    SIGINT, SIGTERM and SIGHUP wait while something is being changed; a second one does not disturb the way back.
    Raises BusyError where another session runs on this machine, PowerError where the policy cannot be had (nothing is
    changed then) or the board could not be put back (STATE_FILE then stays), StrictPowerError where the policy is
    strict and the clocks cannot be locked. Off a Jetson nothing is done.
    """
    why = not_ours(host)
    if why:
        facts = PowerFacts(mode=None, mode_id=None, wanted=policy.wanted, locked=None, why=f"{why}; {summary(host)}")
        yield PowerSession(facts=facts, promise=None, board=None)
        return
    board = Board(host)
    with exclusive(state, host), process.signals_held() as signals:
        try:
            try:
                begun = _begin(state, board, policy, say)
                signals.release()
                yield begun
            finally:
                signals.hold()
        except BaseException:
            # The failure that ends the run is the one to report; what is pending stays on disk.
            try:
                _put_back(state, board, say)
            except (JetpareError, OSError) as error:
                say(f"The board was not put back: {error}")
            raise
        _put_back(state, board, say)


def _begin(state: Path, board: Board, policy: Policy, say: Say) -> PowerSession:
    _put_back(state, board, say)
    present = board.query()
    wanted = _choose(board, policy.wanted, present)
    switching = wanted.id != present.id
    if switching and board.prefix(NVPMODEL) is None:
        raise PowerError(
            f"The power mode is {present}, and setting {wanted} needs root. {how_to_root()} Or set it yourself, "
            f"`sudo nvpmodel -m {wanted.id}`, or stay in {present.name} with `--power=keep`: every figure then says so."
        )
    obstacle = _cannot_lock(board) if policy.lock_clocks else ""
    if switching or (policy.lock_clocks and not obstacle):
        fault = _note(state, board, present, wanted)
        obstacle = obstacle or fault
    locking = policy.lock_clocks and not obstacle
    if switching:
        board.switch(wanted)
        say(f"Power mode {wanted}, until the end of this run; before it was {present}.")
    said = board.lock() if locking else ""
    cpus, clocks = online_cpus(board.host), board.show()
    locked = locked_clocks(cpus, clocks)
    if locking and not locked:
        obstacle = f"jetson_clocks did not lock them: {said or 'it said nothing'}"
    why = f"clocks not locked: {obstacle}" if obstacle and not locked else ""
    if why:
        say(f"The {why}.")
    if why and policy.strict:
        raise StrictPowerError(f"[power] strict: {why}.")
    facts = PowerFacts(mode=wanted.name, mode_id=wanted.id, wanted=policy.wanted, locked=locked, why=why)
    return PowerSession(facts=facts, promise=_promise(cpus, clocks) if locked else None, board=board)


def _choose(board: Board, asked: str, present: Present) -> Present:
    """Return the mode that *asked* means. Raises PowerError if there is none, or if it needs a reboot."""
    if asked.casefold() == KEEP:
        return present
    modes = board.modes()
    if asked.casefold() == MAXN:
        mode = modes.maxn()
        if mode is None:
            best = modes.strongest()
            raise PowerError(
                f"This board has no MAXN. Its strongest mode is {best}: `--power={best.name}` uses it, `--power=keep` "
                f"stays in {present.name}."
            )
    else:
        mode = modes.by_name(asked)
        if mode is None:
            names = [each.name for each in modes.modes]
            raise PowerError(
                f"There is no power mode '{asked}'{suggest(asked, names)}. This board has: {', '.join(names)}; "
                f"'{MAXN}' and '{KEEP}' always work."
            )
    now = modes.by_id(present.id)
    # It might work while the GPU was not used since boot; the way back then fails as soon as it was.
    if mode.id != present.id and now is not None and needs_reboot(now, mode):
        raise PowerError(reboot_message(present, mode))
    return Present(id=mode.id, name=mode.name)


def _cannot_lock(board: Board) -> str:
    if not board.has(JETSON_CLOCKS):
        return f"{JETSON_CLOCKS} is not there"
    if board.prefix(JETSON_CLOCKS) is None:
        return f"that needs root. {how_to_root()}"
    return ""


def _note(state: Path, board: Board, present: Present, wanted: Present) -> str:
    """Save the board's settings to disk; nothing has been changed before this returns.

    Returns why the clocks could not be stored, in which case they must not be locked; empty when they are.
    """
    state.mkdir(parents=True, exist_ok=True)
    for leftover in state.glob(f"{STORED}*"):  # by a session that was killed just before its note, or just after
        leftover.unlink()
    clocks: str | None = f"{STORED}{secrets.token_hex(4)}.conf"  # jetson_clocks asks before it writes over a file
    shown = board.show()
    fault = board.store(state / str(clocks)) if shown else f"{JETSON_CLOCKS} shows no clocks"
    if fault:
        clocks = None
    saved = Saved(
        pid=os.getpid(),
        started=time.time(),
        boot_id=_boot_id(board.host),
        mode_id=present.id,
        mode_name=present.name,
        wanted_id=wanted.id,
        wanted_name=wanted.name,
        clocks=clocks,
        settings=settings(shown),
    )
    files.write_atomically(state / STATE_FILE, saved.model_dump_json(indent=2) + "\n")
    return fault


def _boot_id(host: Host) -> str | None:
    return read_optional(host, "/proc/sys/kernel/random/boot_id")


# --- restoring


def pending(*, state: Path, host: Host) -> Pending | None:
    """Return what a session in *state* has not restored; None if there is nothing. Changes nothing."""
    saved = _read(state)
    if saved is None:
        return None
    board = Board(host)
    try:
        with exclusive(state, host):
            live = False
    except BusyError:
        live = True
    present = None
    with suppress(PowerError):
        present = board.query()
    return Pending(saved=saved, live=live, present=present, clocks=_clocks_to_restore(state, board, saved) is not None)


def restore(*, state: Path, host: Host, say: Say) -> bool:
    """Restore the settings that an interrupted run changed, at whatever step; return whether there were any.

    Raises BusyError under a live session, PowerError where it cannot be done: the note then stays.
    """
    if _read(state) is None:
        return False
    with exclusive(state, host), process.signals_held():
        return _put_back(state, Board(host), say)


def _put_back(state: Path, board: Board, say: Say) -> bool:
    saved = _read(state)
    if saved is None:
        return False
    board.settle()
    present = board.query()
    theirs = present.id not in {saved.mode_id, saved.wanted_id}  # somebody's own choice, made since: not ours to undo
    target = present if theirs else Present(id=saved.mode_id, name=saved.mode_name)
    stored = _clocks_to_restore(state, board, saved)
    if stored is not None and settings(board.show()) == saved.settings:
        stored = None
    if stored is not None:
        board.restore_clocks(stored)
    if present.id != target.id or (theirs and stored is not None):
        board.switch(target)  # for their mode: the stored clocks were another mode's
    if stored is not None and not theirs:
        _verify_clocks(board, stored, saved, say=say)
    if theirs:
        say(f"Someone else set the power mode {target} meanwhile, and it stays; it had been {saved.mode_name}.")
    elif stored is not None or present.id != target.id:
        say(f"The power mode is {target} again{', with its clocks' if stored is not None else ''}.")
    files.remove(state / STATE_FILE)
    if saved.clocks:
        (state / saved.clocks).unlink(missing_ok=True)
    return True


def _clocks_to_restore(state: Path, board: Board, saved: Saved) -> Path | None:
    """Return the stored clocks, unless the board was booted since, which unlocks them."""
    if saved.clocks is None or saved.boot_id != _boot_id(board.host):
        return None
    path = state / saved.clocks
    return path if path.is_file() else None


def _verify_clocks(board: Board, stored: Path, saved: Saved, *, say: Say) -> None:
    """Check that the clocks are the former ones; restore them once more if not, since a switch sets some itself."""
    now = settings(board.show())
    if now == saved.settings:
        return
    said = board.restore_clocks(stored)
    now = settings(board.show())
    differing = sorted(name for name in {*now, *saved.settings} if now.get(name) != saved.settings.get(name))
    minima = [name for name in differing if name.endswith(" MinFreq")]
    if not now or minima:
        told = "; ".join(f"{name} is {now.get(name)}, was {saved.settings.get(name)}" for name in minima)
        raise PowerError(
            f"The power mode is {saved.mode_name} again, but the clocks are not ({told or 'they cannot be read'}). "
            f"jetson_clocks said: {said or 'nothing'}. `invoke power --restore` tries again; a reboot unlocks them too."
        )
    if differing:
        say(f"After the way back these settings differ from before: {', '.join(differing)}.")


def _read(state: Path) -> Saved | None:
    path = state / STATE_FILE
    try:
        saved = Saved.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        saved = None
    if saved is None or saved.schema_version != SCHEMA:
        raise PowerError(
            f"{path}: cannot be understood, so what an interrupted run left is not known. Look at `{NVPMODEL} -q`, set "
            "the mode that you want, and delete the file."
        )
    return saved


@contextmanager
def exclusive(state: Path, host: Host) -> Iterator[None]:
    """Hold the machine's lock, which ends with the process, however that ends. Raises BusyError if another holds it.

    The lock is the machine's, not the project's: the board has one power mode, whatever folder a run works in.
    """
    folder = host.lock_folder
    if folder is None:
        folder = state
        folder.mkdir(parents=True, exist_ok=True)
    handle = _open_lock(folder / LOCK_FILE)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                "Another run on this machine holds the power mode. Wait for it, or stop it with Ctrl-C."
            ) from None
        yield
    finally:
        os.close(handle)


def _open_lock(path: Path) -> int:
    """Open the lock file, made if it is missing, and return its descriptor.

    The folder may be one where everybody can write: nothing that somebody planted there is followed, made or waited
    for. Raises PowerError where *path* is anything but a regular file.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # opening a pipe would wait for a writer
    handle = None
    while handle is None:
        try:
            handle = os.open(path, flags)
        except FileNotFoundError:
            with suppress(FileExistsError):  # another run has made it since
                handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
                os.fchmod(handle, 0o644)  # whatever the umask: every user has to be able to open it
        except OSError as error:
            if error.errno not in {errno.ELOOP, errno.ENXIO}:  # a symbolic link, a socket
                raise
            raise _not_a_lock(path) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _not_a_lock(path)
    return handle


def _not_a_lock(path: Path) -> PowerError:
    return PowerError(
        f"{path}: not a regular file, so somebody else put it in the place of jetpare's lock. "
        f"Look at it with `ls -l {path}`, then remove it: `sudo rm {path}`."
    )


# --- clocks


def _promise(cpus: tuple[Cpu, ...], clocks: Clocks) -> Promise:
    def top(device: str) -> int | None:
        text = clocks.get(device, {}).get("MaxFreq", "")
        return int(text) if text.isdecimal() else None

    return Promise(
        cpu_khz={f"cpu{cpu.core}": cpu.max_khz for cpu in cpus if cpu.max_khz is not None},
        gpu_hz=top("GPU"),
        emc_hz=top("EMC"),
    )


def stage_marks(
    *,
    before: Present | None,
    after: Present | None,
    promise: Promise | None = None,
    cpu_khz: Mapping[str, float] | None = None,
    gpu_hz: float | None = None,
    emc_hz: float | None = None,
) -> tuple[str, ...]:
    """Return why a stage's figures are not valid for the mode that they name; () if nothing speaks against them.

    *before* and *after* are the mode at the stage's two ends; the clocks are the lowest ones (or means, where a single
    sample should not count) that were seen during it, None where not measured. A promised core (cpu0, cpu1 ...)
    that is missing in *cpu_khz* went offline.
    """
    marks: list[str] = []
    if before != after:
        marks.append(f"the power mode changed from {before or 'not measured'} to {after or 'not measured'}")
    if promise is None:
        return tuple(marks)
    if cpu_khz is not None:
        gone = sorted(set(promise.cpu_khz) - set(cpu_khz))
        if gone:
            marks.append(f"cores went offline: {', '.join(gone)}")
        slow = [core for core, khz in promise.cpu_khz.items() if core in cpu_khz and cpu_khz[core] < khz * SLACK]
        if slow:
            core = min(slow, key=lambda each: cpu_khz[each] / promise.cpu_khz[each])
            marks.append(
                f"{len(slow)} cores fell below the mode's clock ({core}: {cpu_khz[core] / 1000:.0f} of "
                f"{promise.cpu_khz[core] / 1000:.0f} MHz)"
            )
    for name, seen, promised in (("GPU", gpu_hz, promise.gpu_hz), ("EMC", emc_hz, promise.emc_hz)):
        if seen is not None and promised is not None and seen < promised * SLACK:
            marks.append(f"{name} fell below the mode's clock ({seen / 1e6:.0f} of {promised / 1e6:.0f} MHz)")
    return tuple(marks)

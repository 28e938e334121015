"""Start processes and handle signals: the one place for both."""

from __future__ import annotations

import os
import selectors
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any

from jetpare.base.errors import ToolError
from jetpare.base.units import size_text

Argv = Sequence[str | Path]
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})

GRACE_SECONDS = 3.0  # how long a process group may take to stop before it is killed
KILL_SECONDS = 1.0  # how long the kernel may take to end one that was killed
LEAVE_SECONDS = 0.2  # a daemon (setsid --fork) is given this long after its parent's end to leave the group
POLL_SECONDS = 0.01


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A program that ended: its exit status, and stdout and stderr merged in the order that they were written."""

    status: int
    output: str


def render(argv: Argv, variables: Mapping[str, str] = NO_VARIABLES) -> str:
    """Return the command line that a person can paste into a shell: 'NAME=value docker …', quoted."""
    words = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    return " ".join([*words, shlex.join(str(word) for word in argv)])


def command_line(argv: Argv, variables: Mapping[str, str] = NO_VARIABLES) -> str:
    """Return the line that announces a program: '+ ' and what `render` returns."""
    return f"+ {render(argv, variables)}"


@contextmanager
def start(
    argv: Argv,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | None = subprocess.DEVNULL,
    stdout: int | None = subprocess.PIPE,
    stderr: int | None = subprocess.PIPE,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start *argv* in a process group of its own; leaving the block ends whatever of the group still runs.

    A group of its own keeps a Ctrl-C at the terminal from reaching the child behind our back: the caller decides when
    it stops. Raises ToolError when the program is not there or cannot be started.
    """
    words = [str(word) for word in argv]
    try:
        process = subprocess.Popen(
            words,
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    except OSError as error:
        raise _not_started(words[0], error) from error
    try:
        yield process
    finally:
        stop(process)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _not_started(program: str, error: OSError) -> ToolError:
    if isinstance(error, FileNotFoundError):
        return ToolError(f"{program}: not found. Install it, or run `invoke doctor` to see what is missing.")
    return ToolError(f"{program}: cannot be started: {error.strerror or error}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the process group of *process*, even if its leader has ended: SIGTERM, then SIGKILL after GRACE_SECONDS."""
    if process.poll() is not None and _is_gone(process, LEAVE_SECONDS):
        return
    for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        if _is_another(process):
            return
        with suppress(ProcessLookupError, PermissionError):  # _is_gone then says that it is
            os.killpg(process.pid, number)
        if _is_gone(process, seconds):
            return


def _is_gone(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Return whether the whole group of *process* ends within *seconds*. Reaps the leader."""
    until = time.monotonic() + seconds
    while True:
        ended = process.poll() is not None  # before the group is asked: an unreaped leader still counts as a member
        try:
            os.killpg(process.pid, 0)
        except (ProcessLookupError, PermissionError):
            if ended:
                return True
        if time.monotonic() >= until:
            return False
        time.sleep(POLL_SECONDS)


def _is_another(process: subprocess.Popen[bytes]) -> bool:
    """Return whether the id of *process* is another process's by now, and so the group of that name is another's.

    A leader that was not reaped keeps its id. Once it was, the kernel gives the id away again only when no process is
    left in its group or session (Linux: kernel/pid.c, __change_pid), so whoever bears it then shows that all of ours
    have ended.
    """
    if process.poll() is None:
        return False
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def run(
    argv: Argv,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes = b"",
    timeout: float | None = None,
) -> str:
    """Run *argv* to its end and return its stdout; ToolError, with what it said, when it fails or takes too long."""
    with start(argv, env=env, cwd=cwd, stdin=subprocess.PIPE) as process:
        try:
            out, err = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise ToolError(f"`{render(argv)}` gave no answer within {timeout:g} s.") from error
    return _stdout(argv, process.returncode, out, err)


def _stdout(argv: Argv, status: int, out: bytes, err: bytes) -> str:
    if status != 0:
        said = (err or out).decode(errors="replace").strip()
        raise ToolError(f"`{render(argv)}` failed with exit status {status}:\n{said}")
    return out.decode(errors="replace")


def tail(
    argv: Argv, *, env: Mapping[str, str] | None = None, stdin: bytes = b"", timeout: float, keep: int, most: int
) -> str:
    """Run *argv*, which is not trusted to say little, to its end and return the last *keep* bytes of its stdout.

    It does not outlive us (see `tethered`). Raises ToolError when it fails, or after *timeout* seconds or *most* bytes.
    """
    deadline, total = time.monotonic() + timeout, 0
    kept = {"stdout": bytearray(), "stderr": bytearray()}
    late = ToolError(f"`{render(argv)}` gave no answer within {timeout:g} s.")
    with start(tethered(argv, env=env), env=env, stdin=subprocess.PIPE) as process:
        feeder = threading.Thread(target=_feed, args=(process, stdin), daemon=True)
        feeder.start()
        with selectors.DefaultSelector() as selector:
            for name, words in kept.items():
                selector.register(getattr(process, name), selectors.EVENT_READ, words)
            while selector.get_map():
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise late
                for key, _ in ready:
                    chunk = os.read(key.fd, 1 << 16)
                    total += len(chunk)
                    key.data.extend(chunk)
                    del key.data[:-keep]
                    if not chunk:
                        selector.unregister(key.fileobj)
                if total > most:
                    raise ToolError(f"`{render(argv)}` was ended:\nit said more than {size_text(most)}")
        try:
            status = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise late from None
        return _stdout(argv, status, bytes(kept["stdout"]), bytes(kept["stderr"]))


def attempt(
    argv: Argv, *, env: Mapping[str, str] | None = None, stdin: bytes = b"", timeout: float | None = None
) -> Completed:
    """Run *argv* to its end and return what it said, whatever its exit status: for programs whose status tells little.

    stdin is closed after *stdin* was written. Raises ToolError, with what was said so far, after *timeout* seconds.
    """
    with start(argv, env=env, stdin=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            out, _ = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            said = (error.output or b"").decode(errors="replace").strip()
            raise ToolError(f"`{render(argv)}` gave no answer within {timeout:g} s. {said}".rstrip()) from error
    return Completed(status=process.returncode, output=out.decode(errors="replace"))


def stream(
    argv: Argv,
    on_chunk: Callable[[bytes], None],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes = b"",
) -> int:
    """Run *argv*, hand every chunk of its stderr to *on_chunk* as it comes, and return the exit status.

    stdout is discarded. An exception in *on_chunk*, KeyboardInterrupt included, ends the process group; so does our own
    death by SIGKILL, where util-linux's setpriv is there to ask the kernel for it.
    """
    words = tethered(argv, env=env)
    with start(words, env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        if process.stdin is None or process.stderr is None:
            raise AssertionError("both were asked for as pipes")
        # A definition larger than the pipe's buffer must not block against a child that is already talking.
        feeder = threading.Thread(target=_feed, args=(process, stdin), daemon=True)
        feeder.start()
        while chunk := process.stderr.read1(65536):  # type: ignore[attr-defined]
            on_chunk(chunk)
        feeder.join()
        return process.wait()


def tethered(argv: Argv, *, env: Mapping[str, str] | None = None) -> Argv:
    """*argv*, to which the kernel sends SIGTERM when the thread that starts it ends (prctl's PR_SET_PDEATHSIG).

    By a program that then becomes the one wanted: a preexec_fn must not be used where other threads run. As it is
    where there is no such program, or where the one wanted is missing, which is told best by trying to start it.
    """
    setpriv = shutil.which("setpriv")
    program = shutil.which(str(argv[0]), path=None if env is None else env.get("PATH"))
    return [setpriv, "--pdeathsig", "TERM", "--", program, *argv[1:]] if setpriv and program else argv


def _feed(process: subprocess.Popen[bytes], data: bytes) -> None:
    if process.stdin is None:
        return
    try:
        process.stdin.write(data)
        process.stdin.close()
    except BrokenPipeError:
        pass  # it ended early; its exit status says why


def interactive(argv: Argv, *, env: Mapping[str, str] | None = None) -> int:
    """Run *argv* with this terminal as its own until it ends, and return its exit status.

    It stays in our process group, so that it may read the terminal. Ctrl-C is for it alone while it runs: we have a
    handler that does nothing then, and a new program starts with the system's own answer in place of a handler.
    """
    words = [str(word) for word in argv]
    with signals_as_interrupt(), _signals.ignoring(signal.SIGINT):
        try:
            child = subprocess.Popen(words, env=None if env is None else dict(env))
        except OSError as error:
            raise _not_started(words[0], error) from error
        return child.wait()


# --- signals: the one place that handles SIGINT, SIGTERM and SIGHUP


class Signals:
    """Turns SIGINT, SIGTERM and SIGHUP into KeyboardInterrupt, for the whole process.

    - `signals_as_interrupt` opens a block in which the first signal raises KeyboardInterrupt. Later ones do nothing
      until that block ends, so that they do not disturb the clean-up. Blocks may be nested; the outermost one installs
      the handlers and puts back what was there.
    - `signals_held` opens such a block in which a signal waits, for work that must not stop half-way.
    - Under nohup, where SIGHUP is ignored, it stays ignored. Threads other than the main one get no signals.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._depth = 0
        self._interrupted = self._held = self._waiting = False
        self._ignored: frozenset[int] = frozenset()

    @contextmanager
    def block(self) -> Iterator[None]:
        """Open a block of `signals_as_interrupt`."""
        outermost, interrupted = not self._depth, self._interrupted
        self._depth += 1
        try:
            if outermost:
                self._install()
            yield
        finally:
            self._depth -= 1
            self._interrupted = interrupted
            if outermost:
                for number, handler in self._before.items():
                    signal.signal(number, handler)
                self._before = {}

    def _install(self) -> None:
        hangup = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
        for number in (signal.SIGINT, signal.SIGTERM, *hangup):
            self._before[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._interrupted or number in self._ignored:
            return
        if self._held:
            self._waiting = True
            return
        self._interrupted = True
        raise KeyboardInterrupt

    @contextmanager
    def held_block(self) -> Iterator[None]:
        """Open a block of `signals_held`."""
        held = self._held
        self.hold()
        try:
            yield
        finally:
            self.hold() if held else self.release()

    def hold(self) -> None:
        """Make signals wait from now on."""
        self._held = True

    def release(self) -> None:
        """Stop holding signals. Raises KeyboardInterrupt where one came meanwhile."""
        self._held, waiting, self._waiting = False, self._waiting, False
        if waiting and not self._interrupted:
            self._interrupted = True
            raise KeyboardInterrupt

    @contextmanager
    def ignoring(self, number: int) -> Iterator[None]:
        """Let signal *number* do nothing to us in this block."""
        before, self._ignored = self._ignored, self._ignored | {number}
        try:
            yield
        finally:
            self._ignored = before


_signals = Signals()


@contextmanager
def signals_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt for the first SIGINT, SIGTERM or SIGHUP in this block; see `Signals`."""
    if threading.current_thread() is threading.main_thread():
        with _signals.block():
            yield
    else:
        yield


@contextmanager
def signals_held() -> Iterator[Signals]:
    """Make signals wait in this block, except between `release` and `hold` of what it yields; see `Signals`.

    Raises KeyboardInterrupt at the end where a signal still waits.
    """
    held = _signals if threading.current_thread() is threading.main_thread() else Signals()
    with signals_as_interrupt(), held.held_block():
        yield held

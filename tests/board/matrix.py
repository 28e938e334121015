"""SIGKILL at every step of a power session, and what the recovery makes of it.

A step is anything that leaves the process: each call of a program, fsync, rename and removal, and the body. The kill
comes before it (which is after the one before it), and, of programs that change something, also while they run: they
then go on by themselves, and the recovery meets them. Nothing is listed by hand, so a step that is added to the session
is in the matrix by itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jetpare.base import process
from jetpare.base.process import Completed
from jetpare.board import power
from jetpare.board.host import LocalHost
from jetpare.board.power import Policy
from jetpare.board.programs import Board
from tests.board import Made, make, turn

MOST_STEPS = 200


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One killed session. ``left``: what the kill left of the board; ``again``: whether a second recovery did anything."""

    step: int
    label: str
    mode: int
    locked: bool
    left: str
    exact: bool
    again: bool


@dataclass(kw_only=True)
class Steps:
    """Counts the steps, writes each one down, and ends the process at the chosen one."""

    path: Path
    fatal: int
    count: int = 0

    def next_is_fatal(self) -> bool:
        return self.count + 1 == self.fatal

    def reach(self, label: str) -> None:
        self.count += 1
        if self.count == self.fatal:
            self.path.write_text(label)
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, kw_only=True)
class MortalHost(LocalHost):
    """A host whose every program call is two steps."""

    steps: Steps = field(compare=False)

    def run(self, argv: tuple[str, ...], *, stdin: str = "", timeout: float, sudo: tuple[str, ...] = ()) -> Completed:
        words = [Path(argv[0]).name, *("FILE" if word.startswith("/") else word for word in argv[1:])]
        name = " ".join(words)
        self.steps.reach(f"before {name}")
        if words[-1] not in {"-q", "--show"} and self.steps.next_is_fatal():
            turn(self.root, slow=0.3)
            with process.start([self.root / argv[0][1:], *argv[1:]], stdin=subprocess.PIPE) as program:
                if program.stdin:
                    program.stdin.write(stdin.encode())
                    program.stdin.close()
                self.steps.reach(f"during {name}")
        if words[-1] not in {"-q", "--show"}:
            self.steps.count += 1
        return super().run(argv, stdin=stdin, timeout=timeout, sudo=sudo)


def kills(name: str, folder: Path) -> Iterator[Cell]:
    """Kill a session of the board *name* at its first step, then at its second, until one gets to its end."""
    for step in range(1, MOST_STEPS):
        made = make(name, folder / f"{name}-{step}")
        first = made.snapshot()
        label = killed_at(made, step)
        if label is None:
            return
        mode, locked = made.mode, made.locked()
        pending = power.pending(state=made.state, host=made.host())
        power.restore(state=made.state, host=made.host(), say=lambda _: None)
        Board(made.host()).settle()  # what the kill left running has its effect before the verdict
        yield Cell(
            step=step,
            label=label,
            mode=mode,
            locked=locked,
            left="nothing"
            if pending is None
            else "mode"
            if mode != made.board.start
            else "clocks"
            if locked
            else "note",
            exact=made.snapshot() == first and power.pending(state=made.state, host=made.host()) is None,
            again=power.restore(state=made.state, host=made.host(), say=lambda _: None),
        )


def killed_at(made: Made, step: int) -> str | None:
    """Run a whole session in a process that is killed at *step*; the step's name, None where it got to its end."""
    note = made.root / "fake/killed"
    child = os.fork()
    if child == 0:
        mortal(made, Steps(path=note, fatal=step))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return note.read_text()
    if os.WEXITSTATUS(status) != 0:
        raise AssertionError("the session failed by itself")
    return None


def mortal(made: Made, steps: Steps) -> None:
    """The child: one session, and no way back into the caller."""
    try:
        host = MortalHost(root=made.root, environ={"PATH": "/usr/bin:/bin"}, uid=0, steps=steps)
        os.fsync = stepping(os.fsync, "fsync", steps)
        Path.replace = stepping(Path.replace, "rename", steps)  # type: ignore[method-assign]
        Path.unlink = stepping(Path.unlink, "unlink", steps)  # type: ignore[method-assign]
        with power.session(state=made.state, host=host, policy=Policy(wanted=made.board.wanted), say=lambda _: None):
            steps.reach("in the body")
        steps.reach("after the session")
    except BaseException:  # noqa: BLE001 - a fork must not return
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def stepping(function: Callable[..., Any], name: str, steps: Steps) -> Callable[..., Any]:
    def stepped(*args: Any, **kwargs: Any) -> Any:
        subject = f" {args[0].name.partition('-')[0]}" if isinstance(args[0], Path) else ""
        steps.reach(f"before {name}{subject}")
        return function(*args, **kwargs)

    return stepped

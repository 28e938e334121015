"""Processes end with everything that they started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from invoke.context import Context

from jetpare.base import process
from jetpare.base.errors import Interrupted, ToolError
from jetpare.cli.command import command

pytestmark = pytest.mark.processes


def members(group: int) -> list[str]:
    """The living processes of a group; what has ended and is not reaped yet is not one of them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp, *_ = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(pgrp) == group and state not in "ZX":
            found.append(stat.parent.name)
    return found


def ready(child: subprocess.Popen[bytes]) -> None:
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"


@pytest.mark.parametrize("leader", ["exec sleep 99", "exit 0"])
def test_stop_ends_members_that_outlive_their_leader(leader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(process, "KILL_SECONDS", 0.3)  # all of it passes where nobody reaps orphans
    script = f"(trap '' TERM; echo ready; exec sleep 77) & {leader}"
    with process.start(["sh", "-c", script]) as child:
        ready(child)
        if leader == "exit 0":
            child.wait()
        assert members(child.pid)
        begin = time.monotonic()
    assert time.monotonic() - begin < 5
    assert members(child.pid) == []


def test_stop_leaves_a_member_the_time_to_clean_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "KILL_SECONDS", 0.1)
    done = tmp_path / "done"
    script = f"(trap 'sleep 0.3; touch {done}; exit' TERM; echo ready; while :; do sleep 0.05; done) & exec sleep 99"
    with process.start(["sh", "-c", script]) as child:
        ready(child)
    assert done.exists()


def test_stop_never_takes_five_seconds() -> None:
    assert process.LEAVE_SECONDS + process.GRACE_SECONDS + process.KILL_SECONDS < 5


@pytest.mark.parametrize("answer", [None, PermissionError()])
def test_a_group_whose_number_is_another_process_by_now_gets_no_signal(
    monkeypatch: pytest.MonkeyPatch, answer: Exception | None
) -> None:
    sent: list[int] = []

    def kill(_: int, number: int) -> None:
        assert number == 0
        if answer:
            raise answer

    with process.start(["true"]) as child:
        child.wait()
        monkeypatch.setattr(os, "kill", kill)  # somebody has the number
        monkeypatch.setattr(os, "killpg", lambda _, number: sent.append(number))
    assert set(sent) <= {0}


def test_a_daemon_with_a_session_of_its_own_is_left_alone(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    process.run(["setsid", "--fork", "sh", "-c", f"echo $$ >{note}; exec sleep 30 >/dev/null 2>&1"])
    pid = int(note.read_text())
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x0030\0"
    os.kill(pid, 15)


def test_what_is_not_there_and_what_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="not found"):
        process.run([tmp_path / "nothing"])
    plain = tmp_path / "plain"
    plain.write_text("no program")
    with pytest.raises(ToolError, match="plain: cannot be started: Permission denied"):
        process.run([plain])
    plain.chmod(0o755)
    for start in (process.run, process.interactive):
        with pytest.raises(ToolError, match="plain: cannot be started: Exec format error"):
            start([plain])


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="util-linux's setpriv is not there")
def test_what_is_streamed_does_not_outlive_a_kill(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = f"from jetpare.base import process; process.stream(['sh', '-c', 'echo $$ >{note}.new; mv {note}.new {note}; exec sleep 66'], print)"
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        until = time.monotonic() + 20
        while not note.exists() and time.monotonic() < until:
            time.sleep(0.02)
        child = int(note.read_text())
        assert str(child) in members(child)  # mv, too, may not have ended yet
        parent.send_signal(signal.SIGKILL)
    until = time.monotonic() + 5
    while members(child) and time.monotonic() < until:
        time.sleep(0.02)
    assert members(child) == []


def tail(script: str, *, stdin: bytes = b"", timeout: float = 20, most: int = 1 << 20) -> str:
    return process.tail(["sh", "-c", script], stdin=stdin, timeout=timeout, keep=1000, most=most)


def test_of_what_is_not_trusted_only_the_end_is_kept() -> None:
    assert tail("cat; yes | head -c 300000 >&2; echo end", stdin=b"x" * 300_000) == "x" * 996 + "end\n"
    with pytest.raises(ToolError, match=r"failed with exit status 3:\n(no\n)+why$") as caught:
        tail("yes no | head -c 300000 >&2; echo why >&2; exit 3")
    assert len(str(caught.value)) < 1200


@pytest.mark.parametrize(
    ("script", "limits", "why"),
    [
        ("yes", {}, "it said more than 1.05 MB"),
        ("exec 1>&2; yes", {}, "it said more than 1.05 MB"),
        ("echo begun; exec sleep 55", {"timeout": 0.3}, "no answer within 0.3 s"),
        ("exec >/dev/null 2>&1; exec sleep 55", {"timeout": 0.3}, "no answer within 0.3 s"),
    ],
)
def test_what_is_not_trusted_is_ended(script: str, limits: dict[str, Any], why: str, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pytest.raises(ToolError, match=why):
        tail(f"echo $$ >{note}; {script}", **limits)
    assert members(int(note.read_text())) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cleans_up_as_ctrl_c_does_and_is_undone(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with process.signals_as_interrupt():
        with pytest.raises(KeyboardInterrupt), process.signals_as_interrupt():
            signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(number)  # the first is being seen to
    assert signal.getsignal(number) is before


def test_a_terminal_that_closes_disturbs_nothing_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with process.signals_as_interrupt():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_that_is_held_comes_when_it_is_released_or_at_the_end() -> None:
    before = signal.getsignal(signal.SIGTERM)
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt), process.signals_held() as signals:  # noqa: PT012 - the order is the point
        signal.raise_signal(signal.SIGTERM)
        done.append("held")
        signals.release()
        done.append("never")
    with pytest.raises(KeyboardInterrupt), process.signals_held():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        done.append("to the end")
    assert done == ["held", "to the end"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_after_an_interrupt_nothing_disturbs_the_clean_up_of_its_block() -> None:
    done: list[str] = []
    with process.signals_as_interrupt():
        with pytest.raises(KeyboardInterrupt), process.signals_held() as signals:  # noqa: PT012
            try:
                signals.release()
                signal.raise_signal(signal.SIGINT)
            finally:
                signals.hold()
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGTERM)
                done.append("cleaned up")
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert done == ["cleaned up"]


def test_a_hold_within_a_hold_releases_nothing() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt), process.signals_held():  # noqa: PT012
        with process.signals_held():
            signal.raise_signal(signal.SIGTERM)
        done.append("still held")
    assert done == ["still held"]


def test_a_failure_while_signals_are_held_leaves_none_held() -> None:
    with pytest.raises(ZeroDivisionError), process.signals_held() as signals:  # noqa: PT012
        try:
            _ = 1 / 0
        finally:
            signals.hold()
    with pytest.raises(KeyboardInterrupt), process.signals_as_interrupt():
        signal.raise_signal(signal.SIGINT)


def test_other_threads_have_no_signals_to_handle() -> None:
    def held() -> object:
        with process.signals_held() as signals:
            signals.release()
            return signal.getsignal(signal.SIGTERM)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(held).result() is signal.getsignal(signal.SIGTERM)


def test_ctrl_c_is_for_an_interactive_program_alone() -> None:
    # The program signals us and itself: it ends as by Ctrl-C, and we go on.
    with process.signals_as_interrupt():
        assert process.interactive(["sh", "-c", "kill -INT $PPID; kill -INT $$; exit 0"]) == -signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_command_that_is_told_to_end_says_so() -> None:
    @command()
    def told(_: Context) -> None:
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted, match=r"Interrupted\."):
        told(Context())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_tether_does_not_hide_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="nothing: not found"):
        process.stream([tmp_path / "nothing"], lambda _chunk: None)

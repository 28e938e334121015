"""The power session on fake boards: switch and restore, refusals, interruptions, and the parsers below it."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from jetpare.base import files
from jetpare.base.errors import BusyError, PowerError, StrictPowerError
from jetpare.board import nvpmodel, power, power_status, programs
from jetpare.board.host import LocalHost
from jetpare.board.nvpmodel import Present, needs_reboot, parse_conf, parse_query, parse_show
from jetpare.board.power import Policy, Promise, stage_marks
from jetpare.views.power_text import power as power_view
from tests.board import AGX_ORIN, BOARDS, Made, conf, make

processes = pytest.mark.processes
NANO_SUPER = "orin-nano-super"


class Said(list[str]):
    """A `say` that remembers."""

    def __call__(self, line: str) -> None:
        self.append(line)

    @property
    def text(self) -> str:
        return "\n".join(self)


@pytest.fixture
def said() -> Said:
    return Said()


def policy(made: Made, *, lock_clocks: bool = True, strict: bool = False) -> Policy:
    return Policy(wanted=made.board.wanted, lock_clocks=lock_clocks, strict=strict)


def hold(made: Made, wanted: Policy, said: Said, *, uid: int = 0) -> power.PowerFacts:
    """A whole session; its facts."""
    with power.session(state=made.state, host=made.host(uid=uid), policy=wanted, say=said) as session:
        return session.facts


def switching(made: Made, before: Sequence[str] = ()) -> None:
    """Wait until nvpmodel is at work: what it is to do stands after the lines *before* in its journal."""
    until = time.monotonic() + 10
    while not any(line.startswith("nvpmodel -m") for line in made.journal()[len(before) :]):
        assert time.monotonic() < until
        time.sleep(0.01)


def leftovers(made: Made) -> list[str]:
    return sorted(path.name for path in made.state.iterdir()) if made.state.is_dir() else []


# --- each board


@processes
@pytest.mark.parametrize("name", BOARDS)
def test_switch_and_restore(name: str, tmp_path: Path, said: Said) -> None:
    made = make(name, tmp_path)
    first = made.snapshot()
    with power.session(state=made.state, host=made.host(), policy=policy(made), say=said) as session:
        assert made.mode == made.board.target
        assert made.locked()
        mode = made.board.modes[made.board.target]
        facts = session.facts
        assert (facts.mode, facts.mode_id, facts.locked, facts.why) == (mode.name, made.board.target, True, "")
        assert session.present() == Present(id=made.board.target, name=mode.name)
        assert session.promise is not None
        assert session.promise.cpu_khz == {f"cpu{n}": mode.cpu_khz or made.board.cpu_khz[1] for n in range(mode.cores)}
        assert session.promise.gpu_hz == (mode.gpu_hz or made.board.gpu_hz[1])
        assert session.promise.emc_hz == (mode.emc_hz or made.board.emc_hz[1])
    assert made.snapshot() == first
    assert leftovers(made) == []


@processes
@pytest.mark.parametrize("name", ["agx-orin", "agx-orin-32", "orin-nx"])
def test_a_switch_that_needs_a_reboot_stops_and_changes_nothing(name: str, tmp_path: Path, said: Said) -> None:
    made = make(name, tmp_path, start=2)  # as it boots
    first = made.snapshot()
    with pytest.raises(PowerError, match="without a reboot") as raised:
        hold(made, policy(made), said)
    assert "sudo nvpmodel -m 0" in str(raised.value)
    assert "--power=keep" in str(raised.value)
    assert (made.snapshot(), made.journal(), leftovers(made)) == (first, [], [])


@processes
def test_keep_goes_on_in_the_present_mode(tmp_path: Path, said: Said) -> None:
    made = make("agx-orin", tmp_path, start=2)
    first = made.snapshot()
    facts = hold(made, Policy(wanted="keep"), said)
    assert (facts.mode, facts.mode_id, facts.wanted, facts.locked) == ("MODE_30W", 2, "keep", True)
    assert made.snapshot() == first
    assert made.journal() == ["jetson_clocks", "jetson_clocks --restore"]


@processes
def test_a_reboot_that_only_nvpmodel_knows_of_is_refused(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    made.turn(stubborn=True)
    first = made.snapshot()
    with pytest.raises(PowerError, match="without a reboot"):
        hold(made, policy(made), said)
    assert made.snapshot() == first
    assert leftovers(made) == []
    assert not [line for line in made.journal() if "reboot" in line]


@processes
@pytest.mark.parametrize(("name", "best"), [("orin-nano", "15W"), ("xavier-nx", "MODE_20W_6CORE")])
def test_no_maxn_offers_the_strongest_by_name(name: str, best: str, tmp_path: Path, said: Said) -> None:
    made = make(name, tmp_path)
    with pytest.raises(PowerError, match=rf"no MAXN. Its strongest mode is {best} .*`--power={best}`"):
        hold(made, Policy(wanted="maxn"), said)
    assert made.journal() == []


@processes
def test_an_unknown_mode_names_those_there_are(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    with pytest.raises(PowerError, match=r"no power mode '25' \(did you mean '25W'\?\).*15W, 25W, MAXN_SUPER, 7W"):
        hold(made, Policy(wanted="25"), said)
    assert hold(made, Policy(wanted="maxn_super"), said).mode == "MAXN_SUPER"


@processes
def test_a_lying_exit_status_is_not_believed(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    made.turn(lies=1)
    first = made.snapshot()
    assert hold(made, policy(made), said).mode == "MAXN_SUPER"
    assert made.snapshot() == first


@processes
def test_clocks_that_the_user_had_locked_are_locked_again(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    made.run("/usr/bin/jetson_clocks")
    first = made.snapshot()
    hold(made, policy(made), said)
    assert made.snapshot() == first  # the switch back resets the minima, so once restored is not enough


@processes
def test_without_lock_only_the_mode_changes(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    first = made.snapshot()
    assert hold(made, policy(made, lock_clocks=False), said).locked is False
    assert made.snapshot() == first
    assert "jetson_clocks" not in made.journal()


# --- who may


@processes
def test_no_root_and_no_sudo_says_what_to_type(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    made.turn(root=False)
    for sudo in ("password", "cached"):  # a password that was typed before may be forgotten before the end
        made.turn(sudo=sudo)
        with pytest.raises(PowerError, match=r"NOPASSWD.*`sudo nvpmodel -m 2`.*--power=keep"):
            hold(made, policy(made), said, uid=1000)
    assert (made.journal(), leftovers(made)) == ([], [])


@processes
def test_sudo_without_a_password_does_it_all(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    made.turn(root=False, sudo="passwordless")
    first = made.snapshot()
    facts = hold(made, policy(made), said, uid=1000)
    assert (facts.mode, facts.locked) == ("MAXN_SUPER", True)
    assert made.snapshot() == first


@processes
def test_keep_without_root_is_marked(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    made.turn(root=False)
    facts = hold(made, Policy(wanted="keep"), said, uid=1000)
    assert (facts.mode, facts.locked) == ("25W", False)
    assert "needs root" in facts.why
    assert made.journal() == []
    with pytest.raises(StrictPowerError, match="clocks not locked"):
        hold(made, Policy(wanted="keep", strict=True), said, uid=1000)


@processes
def test_already_in_maxn_needs_no_root(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path, start=2)
    made.turn(root=False)
    assert hold(made, policy(made), said, uid=1000).mode == "MAXN_SUPER"


# --- what is missing, or misbehaves


@processes
def test_clocks_that_do_not_lock_are_marked_and_strict_refuses(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    made.turn(no_lock=True)
    first = made.snapshot()
    facts = hold(made, policy(made), said)
    assert facts.locked is False
    assert "Can't set the clocks" in facts.why
    with pytest.raises(StrictPowerError):
        hold(made, policy(made, strict=True), said)
    assert made.snapshot() == first
    assert leftovers(made) == []


@processes
def test_clocks_that_cannot_be_stored_are_not_locked(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    made.turn(no_store=True)
    first = made.snapshot()
    facts = hold(made, policy(made), said)
    assert (facts.mode, facts.locked) == ("MAXN_SUPER", False)
    assert "did not store" in facts.why
    assert made.snapshot() == first


@processes
def test_clocks_that_do_not_come_back_are_an_error_until_they_do(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    made.turn(no_restore=True)
    first = made.snapshot()
    with pytest.raises(PowerError, match=r"the clocks are not.*EMC MinFreq"):
        hold(made, policy(made), said)
    assert power.pending(state=made.state, host=made.host()) is not None
    made.turn(no_restore=False)
    assert power.restore(state=made.state, host=made.host(), say=said)
    assert made.snapshot() == first


@processes
def test_without_jetson_clocks_the_mode_is_set_and_the_clocks_marked(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    (made.root / "usr/bin/jetson_clocks").unlink()
    first = made.snapshot()
    facts = hold(made, policy(made), said)
    assert (facts.mode, facts.locked) == ("MAXN_SUPER", False)
    assert "jetson_clocks is not there" in facts.why
    assert made.snapshot() == first


@processes
def test_without_nvpmodel_or_off_a_jetson_nothing_is_done(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    (made.root / "usr/sbin/nvpmodel").unlink()
    facts = hold(made, policy(made), said)
    assert facts.mode is None
    assert facts.why.startswith("a Jetson without /usr/sbin/nvpmodel; 6 of 6 cores, governor schedutil, up to 1.34 GHz")
    (made.root / "proc/device-tree/compatible").write_text("raspberrypi,4\0")
    assert hold(made, policy(made), said).why.startswith("not a Jetson; ")
    assert leftovers(made) == []


@processes
@pytest.mark.parametrize("option", ["-m", "-q"])
def test_an_nvpmodel_that_hangs(option: str, tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "CHANGE_SECONDS", 0.5)
    monkeypatch.setattr(programs, "QUERY_SECONDS", 5.0 if option == "-m" else 0.5)
    made = make(NANO_SUPER, tmp_path)
    first = made.snapshot()
    made.turn(hang=option)
    with pytest.raises(PowerError, match=r"no answer within 0.5 s"):
        hold(made, policy(made), said)
    made.turn(hang="")
    power.restore(state=made.state, host=made.host(), say=said)
    assert made.snapshot() == first
    assert leftovers(made) == []


@processes
def test_a_conf_that_is_missing_stops_maxn_but_not_keep(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    (made.root / "etc/nvpmodel.conf").unlink()
    with pytest.raises(PowerError, match="power modes are not known"):
        hold(made, policy(made), said)
    assert hold(made, Policy(wanted="keep"), said).mode == "25W"


# --- interruptions


@processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_body_restores(number: int, tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    first, before = made.snapshot(), signal.getsignal(number)
    with (  # noqa: PT012 - the body is the point
        pytest.raises(KeyboardInterrupt),
        power.session(state=made.state, host=made.host(), policy=policy(made), say=said),
    ):
        os.kill(os.getpid(), number)
        time.sleep(5)
    assert made.snapshot() == first
    assert signal.getsignal(number) is before


@processes
@pytest.mark.parametrize("pause", [0.06, 0.18])
def test_a_second_signal_does_not_disturb_the_way_back(pause: float, tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    made.turn(slow=0.1)
    first = made.snapshot()

    def again() -> None:
        for _ in range(3):
            time.sleep(pause)
            os.kill(os.getpid(), signal.SIGINT)

    with (  # noqa: PT012 - the body is the point
        pytest.raises(KeyboardInterrupt),
        power.session(state=made.state, host=made.host(), policy=policy(made), say=said),
    ):
        impatient = threading.Thread(target=again)
        impatient.start()
        time.sleep(10)
    # Whatever comes after the way back is not the session's to hold.
    try:
        impatient.join()
    except KeyboardInterrupt:
        impatient.join()
    assert made.snapshot() == first
    assert leftovers(made) == []


@processes
def test_a_signal_while_switching_waits_then_restores(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    made.turn(slow=0.3)
    first, entered = made.snapshot(), False

    def interrupt() -> None:
        switching(made)
        os.kill(os.getpid(), signal.SIGINT)

    impatient = threading.Thread(target=interrupt)
    impatient.start()
    with (
        pytest.raises(KeyboardInterrupt),
        power.session(state=made.state, host=made.host(), policy=policy(made), say=said),
    ):
        entered = True
    impatient.join()
    assert not entered
    assert made.snapshot() == first


@processes
def test_an_exception_is_passed_on_and_the_board_restored(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    first = made.snapshot()
    with (
        pytest.raises(ZeroDivisionError),
        power.session(state=made.state, host=made.host(), policy=policy(made), say=said),
    ):
        _ = 1 / 0
    assert made.snapshot() == first


@processes
def test_a_failure_is_not_hidden_by_a_full_disk_on_the_way_back(
    tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(NANO_SUPER, tmp_path)

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with (  # noqa: PT012 - the body is the point
        pytest.raises(ZeroDivisionError),
        power.session(state=made.state, host=made.host(), policy=policy(made), say=said),
    ):
        monkeypatch.setattr(files, "remove", full)
        _ = 1 / 0
    assert "was not put back" in said.text


@processes
def test_a_failure_is_not_hidden_by_a_failing_way_back(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    with (  # noqa: PT012 - the body is the point
        pytest.raises(ZeroDivisionError),
        power.session(state=made.state, host=made.host(), policy=policy(made), say=said),
    ):
        made.turn(stubborn=True)
        _ = 1 / 0
    assert "was not put back" in said.text
    left = power.pending(state=made.state, host=made.host())
    assert left is not None
    assert "the power mode is MAXN_SUPER (id 2), and was 25W (id 1)" in str(left)
    with pytest.raises(PowerError, match="without a reboot"):
        hold(made, policy(made), said)  # the next run restores first, and says why it cannot
    made.turn(stubborn=False)
    hold(made, policy(made), said)
    assert made.mode == 1


@processes
def test_a_mode_that_someone_else_sets_stays(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    with power.session(state=made.state, host=made.host(), policy=policy(made), say=said) as session:
        before = session.present()
        made.run("/usr/sbin/nvpmodel", "-m", "0")
        assert stage_marks(before=before, after=session.present()) == (
            "the power mode changed from MAXN_SUPER (id 2) to 15W (id 0)",
        )
    assert made.mode == 0
    assert "Someone else set the power mode 15W (id 0) meanwhile, and it stays" in said.text
    assert leftovers(made) == []
    assert made.snapshot() == make(NANO_SUPER, tmp_path / "other", start=0).snapshot()


@processes
def test_a_lock_that_someone_else_takes_away_is_seen_by_the_next_look(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    first = made.snapshot()
    with power.session(state=made.state, host=made.host(), policy=policy(made), say=said) as session:
        present = session.present()
        cores = {name: float(khz) for name, khz in session.promise.cpu_khz.items()} if session.promise else {}
        cores["cpu3"] = 729_600
        marks = stage_marks(before=present, after=present, promise=session.promise, cpu_khz=cores)
        assert marks == ("1 cores fell below the mode's clock (cpu3: 730 of 2202 MHz)",)
    assert made.snapshot() == first


# --- after a kill


def killed(made: Made, said: Said) -> None:
    """A session that is killed in its body."""
    child = os.fork()
    if child == 0:
        with power.session(state=made.state, host=made.host(), policy=policy(made), say=said):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


@processes
def test_the_next_session_restores_first(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    first = made.snapshot()
    killed(made, said)
    assert made.mode == 2
    left = power.pending(state=made.state, host=made.host())
    assert left is not None
    assert not left.live
    assert "its clocks are stored and may still be locked" in str(left)
    hold(made, Policy(wanted="keep"), said)
    assert made.snapshot() == first
    assert leftovers(made) == []


@processes
def test_after_a_reboot_only_the_mode_is_pending(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    first = made.snapshot()
    killed(made, said)
    made.run("/usr/sbin/nvpmodel", "-m", "2")  # booting sets the mode that is on disk, with unlocked clocks
    (made.root / "fake/emc/min").write_text("204000000\n")
    (made.root / "fake/emc/override").write_text("0\n")
    for path in made.root.glob("sys/devices/system/cpu/cpu*/cpuidle/state1/disable"):
        path.write_text("0\n")
    (made.root / "proc/sys/kernel/random/boot_id").write_text("another\n")
    left = power.pending(state=made.state, host=made.host())
    assert left is not None
    assert not left.clocks
    power.restore(state=made.state, host=made.host(), say=said)
    assert made.snapshot() == first
    assert "jetson_clocks --restore" not in made.journal()


@processes
def test_recovery_needs_root_and_keeps_the_note(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    killed(made, said)
    made.turn(root=False)
    with pytest.raises(PowerError, match="needs root"):
        power.restore(state=made.state, host=made.host(uid=1000), say=said)
    assert (made.state / power.STATE_FILE).exists()


@processes
def test_recovery_waits_for_a_switch_that_still_runs(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    first = made.snapshot()
    killed(made, said)
    power.restore(state=made.state, host=made.host(), say=said)
    killed(made, said)
    made.run("/usr/sbin/nvpmodel", "-m", "1")
    made.turn(slow=0.3)
    begun = made.journal()
    with subprocess.Popen([made.root / "usr/sbin/nvpmodel", "-m", "2"]):  # as if its session had just been killed
        switching(made, begun)
        power.restore(state=made.state, host=made.host(), say=said)
    assert made.mode == 1
    assert made.snapshot() == first


@processes
def test_a_damaged_note_is_an_error_that_names_it(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    made.state.mkdir()
    for text in ("{", "[]", '{"schema_version": 1}', '{"schema_version": 99}'):
        (made.state / power.STATE_FILE).write_text(text)
        with pytest.raises(PowerError, match=r"power\.json: cannot be understood"):
            hold(made, policy(made), said)
    assert made.journal() == []


# --- two at once


@processes
def test_a_second_session_is_refused_whatever_its_project(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    with power.session(state=made.state, host=made.host(), policy=policy(made), say=said):
        for state in (made.state, tmp_path / "other-project"):
            with (
                pytest.raises(BusyError, match="holds the power mode"),
                power.session(state=state, host=made.host(), policy=Policy(wanted="keep"), say=said),
            ):
                pass
        assert made.locked()
    assert made.mode == 1


@processes
def test_no_recovery_under_a_live_session(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    with power.session(state=made.state, host=made.host(), policy=policy(made), say=said):
        with pytest.raises(BusyError):
            power.restore(state=made.state, host=made.host(), say=said)
        left = power.pending(state=made.state, host=made.host())
        assert left is not None
        assert left.live
        assert "holds the power mode and restores it" in str(left)
        assert made.mode == 2
    assert power.pending(state=made.state, host=made.host()) is None
    assert power.restore(state=made.state, host=made.host(), say=said) is False


@processes
def test_the_lock_is_not_inherited_by_what_a_build_starts(tmp_path: Path, said: Said) -> None:
    made = make(NANO_SUPER, tmp_path)
    with power.session(state=made.state, host=made.host(), policy=policy(made), say=said):
        child = subprocess.Popen(["/bin/sleep", "60"], close_fds=False)
    try:
        assert hold(made, Policy(wanted="keep"), said).mode is not None
    finally:
        child.kill()
        child.wait()


# --- looking


@processes
@pytest.mark.parametrize("name", BOARDS)
def test_status_shows_modes_and_what_needs_a_reboot(name: str, tmp_path: Path) -> None:
    made = make(name, tmp_path, start=BOARDS[name].default)
    first = made.snapshot()
    status = power_status.status(state=made.state, host=made.host())
    assert status.present is not None
    assert status.present.id == status.default == made.board.default
    assert [row.mode.name for row in status.modes] == [mode.name for mode in made.board.modes.values()]
    mask = made.board.modes[made.board.default].mask
    assert [row.reboot for row in status.modes] == [mode.mask != mask for mode in made.board.modes.values()]
    assert status.faults == ()
    assert made.snapshot() == first
    console = Console(width=100)
    with console.capture() as capture:
        console.print(power_view(status))
    assert made.board.model in capture.get()
    assert "at boot" in capture.get()


def test_status_off_a_jetson(tmp_path: Path) -> None:
    files = {
        "sys/devices/system/cpu/present": "0-3",
        "sys/devices/system/cpu/online": "0,2-3",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "4200000",
        "sys/class/hwmon/hwmon1/pwm1": "120",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": "99500",
        "sys/class/thermal/thermal_zone0/trip_point_0_type": "critical",
        "sys/class/thermal/thermal_zone0/trip_point_0_temp": "50000",
        "sys/class/thermal/thermal_zone0/trip_point_1_type": "passive",
        "sys/class/thermal/thermal_zone0/trip_point_1_temp": "99000",
        "sys/class/hwmon/hwmon2/oc1_event_cnt": "7",
    }
    for place, text in files.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(f"{text}\n")
    status = power_status.status(state=tmp_path / "state", host=LocalHost(root=tmp_path, environ={}, uid=1000))
    assert status.why_not == "not a Jetson"
    assert [cpu.core for cpu in status.cpus] == [0, 2, 3]
    assert status.fan == ("hwmon1_pwm1 120 of 255",)
    assert status.throttling == (
        "cpu-thermal at 99.5 °C, throttles from 99.0 °C",
        "over-current oc1: 7 events since boot",
    )
    console = Console(width=100)
    with console.capture() as capture:
        console.print(power_view(status))
    assert "not a Jetson" in capture.get()
    assert "3 of 4 online" in capture.get()
    assert "4200 MHz" in capture.get()


# --- marks


def test_no_marks_where_nothing_is_known_against_it() -> None:
    present = Present(id=0, name="MAXN")
    promise = Promise(cpu_khz={"cpu0": 1000}, gpu_hz=None)
    assert stage_marks(before=present, after=present, promise=promise, cpu_khz={"cpu0": 990}, gpu_hz=5) == ()
    assert stage_marks(before=None, after=None) == ()


def test_marks_of_lost_cores_and_slow_clocks() -> None:
    present = Present(id=0, name="MAXN")
    promise = Promise(cpu_khz={"cpu0": 2_000_000, "cpu1": 2_000_000}, gpu_hz=10**9, emc_hz=3 * 10**9)
    marks = stage_marks(
        before=present, after=None, promise=promise, cpu_khz={"cpu0": 1_000_000}, gpu_hz=5e8, emc_hz=3e9
    )
    assert marks == (
        "the power mode changed from MAXN (id 0) to not measured",
        "cores went offline: cpu1",
        "1 cores fell below the mode's clock (cpu0: 1000 of 2000 MHz)",
        "GPU fell below the mode's clock (500 of 1000 MHz)",
    )


# --- nvpmodel.conf


@pytest.mark.parametrize("name", BOARDS)
def test_conf_of_each_board(name: str) -> None:
    board = BOARDS[name]
    modes = parse_conf(conf(board))
    assert modes.default == board.default
    assert {mode.id: mode.name for mode in modes.modes} == {key: mode.name for key, mode in board.modes.items()}
    for key, fake in board.modes.items():
        mode = modes.by_id(key)
        assert mode is not None
        assert len(mode.cores_online) == fake.cores
        assert len(mode.cores_offline) == board.cores - fake.cores
        assert mode.caps["GPU"] == (fake.gpu_hz or math.inf)
        assert mode.tpc_pg_mask == (None if "xavier" in name else fake.mask)
    maxn = modes.maxn()
    assert (maxn.id if maxn else None) == next(
        (key for key, mode in board.modes.items() if mode.name.startswith("MAXN")), None
    )
    assert modes.strongest().id == board.target


@pytest.mark.parametrize(("old", "new", "reboot"), [(2, 0, True), (3, 0, False), (2, 1, True), (0, 0, False)])
def test_needs_reboot(old: int, new: int, reboot: bool) -> None:
    modes = parse_conf(conf(BOARDS["agx-orin"]))
    first, second = modes.by_id(old), modes.by_id(new)
    assert first is not None
    assert second is not None
    assert needs_reboot(first, second) is reboot
    assert (AGX_ORIN[old].mask != AGX_ORIN[new].mask) is reboot


def test_maxn_super_before_maxn() -> None:
    modes = parse_conf("< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=5 NAME=MAXN_SUPER >\n")
    maxn = modes.maxn()
    assert maxn is not None
    assert maxn.id == 5


def test_nvidias_own_untidiness() -> None:
    text = """# comment
<PARAM TYPE=CLOCK NAME=EMC >
MAX_FREQ /sys/kernel/nvpmodel_clk_cap/emc

<POWER_MODEL ID=3 NAME=25W>
\tCPU_ONLINE CORE_0 1   # trailing
CPU_ONLINE CORE_1 0
TPC_POWER_GATING TPC_PG_MASK 0xf0
CPU_A78_0 MAX_FREQ -1
GPU_POWER_CONTROL_ENABLE GPU_PWR_CNTL_EN on
SOMETHING NEW AND LONGER 5
EMC MAX_FREQ 0
< FAN_CONFIG DEFAULT=quiet >
< PM_CONFIG DEFAULT=3 >
"""
    for ending in ("\n", "\r\n"):
        modes = parse_conf(text.replace("\n", ending))
        (mode,) = modes.modes
        assert (mode.id, mode.name, mode.tpc_pg_mask, modes.default) == (3, "25W", 240, 3)
        assert (sorted(mode.cores_online), sorted(mode.cores_offline)) == ([0], [1])
        assert mode.caps == {"CPU_A78_0": math.inf, "EMC": math.inf}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no POWER_MODEL"),
        ("< PM_CONFIG DEFAULT=2 >", "no POWER_MODEL"),
        ("\n< POWER_MODEL NAME=X >", "line 2: a POWER_MODEL needs ID"),
        ("< POWER_MODEL ID=zero NAME=X >", "line 1"),
        ("< POWER_MODEL ID=1 NAME=X >\n< POWER_MODEL ID=1 NAME=Y >", "line 2: a second POWER_MODEL with ID=1"),
    ],
)
def test_a_conf_that_makes_no_sense(text: str, message: str) -> None:
    with pytest.raises(PowerError, match=message):
        parse_conf(text)


names = st.from_regex(r"[A-Z0-9_]{1,12}", fullmatch=True)
spaces = st.sampled_from(["", " ", "  ", "\t"])


@st.composite
def confs(draw: st.DrawFn) -> tuple[str, dict[int, tuple[str, int, int, int]]]:
    """A conf in some shape that NVIDIA might give it, and what it says: name, mask, cores online, CPU cap."""
    wanted: dict[int, tuple[str, int, int, int]] = {}
    lines: list[str] = []
    for number in draw(st.lists(st.integers(0, 99), unique=True, min_size=1, max_size=6)):
        name, mask, cores = draw(names), draw(st.integers(0, 255)), draw(st.integers(1, 12))
        cap = draw(st.one_of(st.just(-1), st.integers(1, 10**10)))
        wanted[number] = (name, mask, cores, cap)
        settings = [f"CPU_ONLINE CORE_{core} {int(core < cores)}" for core in range(12)]
        settings += [f"TPC_POWER_GATING TPC_PG_MASK {mask}", f"CPU_A78_0 MAX_FREQ {cap}", "GPU MIN_FREQ 0"]
        lines += draw(st.sampled_from([[], ["# a comment"], ["", ""], ["< PARAM TYPE=FILE NAME=X >", "A /sys/b"]]))
        lines.append(
            f"<{draw(spaces)}POWER_MODEL ID={number} NAME={name}{draw(st.sampled_from([' ', '']))}>{draw(spaces)}"
        )
        lines += [f"{draw(spaces)}{line}{draw(spaces)}" for line in draw(st.permutations(settings))]
    lines.append(f"< PM_CONFIG DEFAULT={next(iter(wanted))} >")
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines), wanted


@given(confs())
def test_whatever_its_layout_a_conf_says_the_same(drawn: tuple[str, dict[int, tuple[str, int, int, int]]]) -> None:
    text, wanted = drawn
    modes = parse_conf(text)
    assert modes.default == next(iter(wanted))
    found = {
        mode.id: (mode.name, mode.tpc_pg_mask, len(mode.cores_online), mode.caps["CPU_A78_0"]) for mode in modes.modes
    }
    assert found == {
        key: (name, mask, cores, math.inf if cap < 0 else cap) for key, (name, mask, cores, cap) in wanted.items()
    }
    maxn = modes.maxn()
    assert (maxn is None) == (not any(name.startswith("MAXN") for name, *_ in wanted.values()))
    assert modes.strongest() in modes.modes


@given(st.text(alphabet=st.sampled_from("<> #=\n\tPOWER_MODELIDNAMECPU_ONLINE CORE_01-MAX_FREQ")))
def test_any_text_is_modes_or_a_power_error(text: str) -> None:
    with suppress(PowerError):
        assert parse_conf(text).modes


@given(st.text())
def test_any_output_is_understood_or_not(text: str) -> None:
    found = parse_query(text)
    assert found is None or (found.id >= 0 and found.name in text)
    assert all(device in text for device in parse_show(text))


# --- what the programs print


@pytest.mark.parametrize(
    ("text", "present"),
    [
        ("NVPM WARN: fan mode is not set!\nNV Power Mode: MAXN_SUPER\n2\n", Present(id=2, name="MAXN_SUPER")),
        ("NV Power Mode: MODE_30W\nNVPM ERROR: Error opening /sys/kernel/x: 13\n2\n", Present(id=2, name="MODE_30W")),
        ("3\nNV Power Mode: 25W\n1\n7\n", Present(id=1, name="25W")),
        ("NV Fan Mode:quiet\nNV Power Mode:15W\r\n0\r\n", Present(id=0, name="15W")),
        ("NV Power Mode: MAXN\n", None),
        ("NVPM ERROR: something\n", None),
        ("", None),
    ],
)
def test_query(text: str, present: Present | None) -> None:
    assert parse_query(text) == present


def test_show() -> None:
    clocks = parse_show("""SOC family:tegra234  Machine:NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super
Online CPUs: 0-5
cpu0:  Online=1 Governor=schedutil MinFreq=729600 MaxFreq=1344000 CurrentFreq=729600 IdleStates: WFI=1 c7=1
GPU MinFreq=306000000 MaxFreq=918000000 CurrentFreq=306000000
EMC MinFreq=204000000 MaxFreq=3199000000 CurrentFreq=2133000000 FreqOverride=0
FAN Dynamic Speed Control=nvfancontrol hwmon0_pwm1=69
NV Power Mode: 25W
""")
    assert list(clocks) == ["cpu0", "GPU", "EMC", "FAN"]
    assert clocks["cpu0"]["c7"] == "1"
    assert clocks["GPU"]["MaxFreq"] == "918000000"
    kept = nvpmodel.settings(clocks)
    assert kept["EMC FreqOverride"] == "0"
    assert not [name for name in kept if "Current" in name or "FAN" in name]
    assert parse_show("Error: run as root\nNV Power Mode: X\n") == {}


# --- the lock in a folder where everybody can write


@pytest.fixture
def planted(tmp_path: Path) -> tuple[LocalHost, Path]:
    (tmp_path / "run/lock").mkdir(parents=True)
    return LocalHost(environ={}, root=tmp_path), tmp_path / "run/lock" / power.LOCK_FILE


def take_lock(host: LocalHost) -> None:
    assert host.lock_folder is not None
    with power.exclusive(host.root / "state", host):
        pass


@pytest.mark.parametrize("there", [True, False])
def test_a_planted_link_is_not_followed(planted: tuple[LocalHost, Path], tmp_path: Path, there: bool) -> None:
    host, lock = planted
    target = tmp_path / "target"
    if there:
        target.write_text("somebody's")
        target.chmod(0o600)
    lock.symlink_to(target)
    with pytest.raises(PowerError, match="not a regular file"):
        take_lock(host)
    assert target.exists() is there
    assert not there or target.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_planted_there_is_not_waited_for(planted: tuple[LocalHost, Path], make: Callable[[Path], None]) -> None:
    host, lock = planted
    make(lock)
    with pytest.raises(PowerError, match="not a regular file"):
        take_lock(host)


def test_a_lock_that_another_run_made_meanwhile_is_used_as_it_is(
    planted: tuple[LocalHost, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, lock = planted
    opens, look = [], os.open

    def late(path: Path, flags: int, mode: int = 0o777) -> int:
        opens.append(flags)
        if len(opens) == 1:
            os.close(look(path, os.O_CREAT | os.O_WRONLY, 0o600))
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return look(path, flags, mode)

    monkeypatch.setattr(os, "open", late)
    take_lock(host)
    assert len(opens) == 3
    assert lock.stat().st_mode & 0o777 == 0o600


def test_the_lock_can_be_opened_by_every_user(planted: tuple[LocalHost, Path]) -> None:
    host, lock = planted
    before = os.umask(0o077)
    try:
        take_lock(host)
    finally:
        os.umask(before)
    assert lock.stat().st_mode & 0o777 == 0o644
    take_lock(host)

"""A miniature built on a fake board: the mode is held during the run, and the board is found as it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import board
from tests.engine.conftest import Mini

pytestmark = pytest.mark.engine
Fresh = Callable[[], Mini]


@pytest.fixture
def orin(tmp_path: Path) -> board.Made:
    return board.make("agx-orin", tmp_path)


def test_a_run_is_timed_under_maxn_and_the_board_is_put_back(fresh: Fresh, orin: board.Made) -> None:
    mini, before = fresh(), orin.snapshot()
    mini.knob("gdal", "sleep 2")
    answer = mini.ok("build-all", "--image", "cuda", JETPARE_SYSROOT=str(orin.root))
    record = mini.newest()
    assert (record.host["power_mode"], record.host["model"]) == ("MAXN", orin.board.model)
    assert record.host["power"]["locked"] is True
    assert "power mode MAXN" in answer.out
    row = mini.row("cuda/gdal")
    # The fake board's clocks do not follow what jetson_clocks sets: that is seen, and said.
    assert any("fell below the mode's clock (cpu0: 730 of 2202 MHz" in mark for mark in row.marks)
    assert "fell below" in answer.out
    assert row.telemetry is not None
    assert row.telemetry.cores_online is not None
    assert row.telemetry.cores_online.max == orin.board.cores
    assert orin.snapshot() == before
    assert not (mini.root / ".jetpare/power.json").exists()


def test_clocks_that_hold_leave_no_mark(fresh: Fresh, orin: board.Made) -> None:
    for name in ("cur", "max"):
        for core in (orin.root / "sys/devices/system/cpu").glob("cpu*/cpufreq"):
            (core / f"scaling_{name}_freq").write_text("2201600\n")
    gpu = orin.root / "sys/class/devfreq/17000000.gpu"
    (gpu / "cur_freq").write_text((gpu / "max_freq").read_text())
    mini = fresh()
    mini.knob("gdal", "sleep 2")
    mini.ok("compile-gdal", "--power", "keep", JETPARE_SYSROOT=str(orin.root))
    assert mini.row("cuda/gdal").marks == ()


def test_keep_leaves_the_mode_and_names_it(fresh: Fresh, orin: board.Made) -> None:
    mini, before = fresh(), orin.mode
    mini.ok("extract-cudnn", "--power", "keep", JETPARE_SYSROOT=str(orin.root))
    assert orin.mode == before
    assert mini.newest().host["power_mode"] == orin.board.modes[before].name


def test_a_failed_stage_puts_the_board_back(fresh: Fresh, orin: board.Made) -> None:
    mini, before = fresh(), orin.snapshot()
    mini.knob("gdal", "exit 3")
    assert mini("compile-gdal", JETPARE_SYSROOT=str(orin.root)).code == 5
    assert orin.snapshot() == before


def test_an_unknown_mode_changes_nothing(fresh: Fresh, orin: board.Made) -> None:
    mini, before = fresh(), orin.snapshot()
    answer = mini("extract-cudnn", "--power", "MAXM", JETPARE_SYSROOT=str(orin.root))
    assert answer.code == 14
    assert "MAXN" in answer.err
    assert orin.snapshot() == before


def test_power_shows_the_board_and_restore_has_nothing_to_do(fresh: Fresh, orin: board.Made) -> None:
    mini = fresh()
    shown = mini.ok("power", JETPARE_SYSROOT=str(orin.root)).out
    assert orin.board.model in shown
    assert all(mode.name in shown for mode in orin.board.modes.values())
    assert "nothing to restore" in mini.ok("power", "--restore", JETPARE_SYSROOT=str(orin.root)).err


def test_after_a_kill_every_command_tells_what_is_pending_and_restore_does_it(fresh: Fresh, orin: board.Made) -> None:
    mini, before = fresh(), orin.snapshot()
    mini.knob("gdal", "while sleep 0.2; do echo still here; done")
    environ = {"JETPARE_SYSROOT": str(orin.root)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JETPARE_SYSROOT", str(orin.root))
        with mini.started("compile-gdal") as run:
            deadline = time.monotonic() + 30
            while "still here" not in "".join(path.read_text() for path in mini.root.rglob("cuda-gdal.log")):
                assert time.monotonic() < deadline
                time.sleep(0.2)
            run.kill()
    assert orin.snapshot() != before
    mini.knob("gdal", ":")
    assert "ended without restoring the board" in mini.ok("plan", **environ).err
    mini.ok("clean", **environ)  # which must not throw the note away
    assert "ended without restoring the board" in mini.ok("power", **environ).err
    mini.ok("power", "--restore", **environ)
    assert orin.snapshot() == before
    assert "restoring the board" not in mini.ok("plan", **environ).err


def test_elsewhere_it_says_so(fresh: Fresh) -> None:
    assert "not a Jetson" in " ".join(fresh().ok("power").out.split())

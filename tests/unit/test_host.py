"""The host: paths below a root, programs, and what a machine is."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from pathlib import Path

import pytest

from jetpare.base.errors import ToolError
from jetpare.board.host import LocalHost, host_facts, l4t_release, read_number, read_optional

ENVIRON = {"PATH": "/usr/bin:/bin"}


def tree(root: Path, files: dict[str, str]) -> LocalHost:
    for place, text in files.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return LocalHost(root=root, environ=ENVIRON, uid=1000)


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_files(tmp_path: Path) -> None:
    host = tree(tmp_path, {"sys/b/temp": "51\n", "sys/a/temp": "x\n", "sys/a/other": ""})
    assert host.read_text("/sys/b/temp") == "51\n"
    assert host.glob("/sys/*/temp") == ("/sys/a/temp", "/sys/b/temp")
    assert host.glob("/sys/nothing*") == ()
    with pytest.raises(FileNotFoundError) as raised:
        host.read_text("/sys/c/temp")
    assert raised.value.errno == errno.ENOENT
    assert (read_number(host, "/sys/b/temp"), read_number(host, "/sys/a/temp"), read_number(host, "/sys/c/temp")) == (
        51,
        None,
        None,
    )
    assert read_optional(host, "/sys/a/temp") == "x"


def test_a_sensor_that_is_off_is_not_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = tree(tmp_path, {"sys/temp": "0"})

    def off(_: Path) -> bytes:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(Path, "read_bytes", off)
    assert read_number(host, "/sys/temp") is None


@pytest.mark.processes
def test_run_merges_both_outputs_and_closes_stdin(tmp_path: Path) -> None:
    host = LocalHost(root=tmp_path, environ=ENVIRON)
    script(tmp_path / "usr/sbin/tool", 'read answer; echo "out $answer $1 $LC_ALL"; echo err >&2; read more || exit 3')
    completed = host.run(("/usr/sbin/tool", "-q"), stdin="no\n", timeout=10)
    assert completed.output == "out no -q C\nerr\n"
    assert completed.status == 3


@pytest.mark.processes
def test_sudo_is_found_below_the_root_too(tmp_path: Path) -> None:
    host = LocalHost(root=tmp_path, environ=ENVIRON)
    script(tmp_path / "usr/bin/sudo", 'echo "sudo $1"; shift; exec "$@"')
    script(tmp_path / "usr/sbin/tool", "echo tool $1")
    completed = host.run(("/usr/sbin/tool", "-q"), timeout=10, sudo=("/usr/bin/sudo", "-n"))
    assert completed.output == "sudo -n\ntool -q\n"


@pytest.mark.processes
def test_a_program_that_is_missing_broken_or_hangs_is_an_error(tmp_path: Path) -> None:
    host = tree(tmp_path, {"usr/bin/text": "no program"})
    with pytest.raises(ToolError, match="not found"):
        host.run(("/usr/bin/none",), timeout=10)
    with pytest.raises(ToolError, match="cannot be started: Permission denied"):
        host.run(("/usr/bin/text",), timeout=10)
    script(tmp_path / "usr/bin/hangs", "echo waiting; sleep 60")
    started = time.monotonic()
    with pytest.raises(ToolError, match=r"no answer within 0.3 s. waiting"):
        host.run(("/usr/bin/hangs",), timeout=0.3)
    assert time.monotonic() - started < 5


@pytest.mark.processes
def test_running_sees_a_script_by_its_path(tmp_path: Path) -> None:
    host = LocalHost(root=tmp_path, environ=ENVIRON)
    script(tmp_path / "usr/bin/tool", "read line")
    assert not host.running("/usr/bin/tool")
    with subprocess.Popen([tmp_path / "usr/bin/tool"], stdin=subprocess.PIPE) as program:
        deadline = time.monotonic() + 5
        while not host.running("/usr/bin/tool"):  # its command line may not be there yet in the moment of its start
            assert time.monotonic() < deadline
        assert not host.running("/usr/bin/too")
        program.communicate(b"\n")
    assert not host.running("/usr/bin/tool")


def test_lock_folder_only_where_it_can_be_used(tmp_path: Path) -> None:
    host = LocalHost(root=tmp_path, environ=ENVIRON)
    assert host.lock_folder is None
    (tmp_path / "run/lock").mkdir(parents=True)
    assert host.lock_folder == tmp_path / "run/lock"


def test_is_root_is_a_parameter() -> None:
    assert LocalHost(environ=ENVIRON, uid=0).is_root
    assert not LocalHost(environ=ENVIRON, uid=1000).is_root
    assert LocalHost(environ=ENVIRON).is_root == (os.geteuid() == 0)


@pytest.mark.parametrize(
    ("compatible", "family"),
    [
        ("nvidia,p3767-0005\0nvidia,tegra234\0", "Orin"),
        ("nvidia,jetson-xavier\0nvidia,tegra194\0", "Xavier"),
        ("nvidia,tegra264\0", "Thor"),
        ("nvidia,tegra2345\0", None),
        ("raspberrypi,4-model-b\0brcm,bcm2711\0", None),
        ("", None),
    ],
)
def test_what_a_jetson_is(tmp_path: Path, compatible: str, family: str | None) -> None:
    facts = host_facts(tree(tmp_path, {"proc/device-tree/compatible": compatible}))
    assert facts.family == family


def test_model_release_and_jetpack(tmp_path: Path) -> None:
    host = tree(
        tmp_path,
        {
            "proc/device-tree/compatible": "nvidia,tegra234\0",
            "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
            "etc/nv_tegra_release": "# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic, EABI: aarch64, "
            "DATE: Fri Sep 13 04:36:44 UTC 2024\n# KERNEL_VARIANT: oot\n",
        },
    )
    facts = host_facts(host)
    assert facts.model == "NVIDIA Jetson AGX Orin Developer Kit"
    assert (facts.l4t, facts.jetpack) == ("36.4.0", "6.1")


def test_a_container_on_a_jetson_is_no_host(tmp_path: Path) -> None:
    facts = host_facts(tree(tmp_path, {"proc/device-tree/compatible": "nvidia,tegra234\0", ".dockerenv": ""}))
    assert facts.family == "Orin"
    assert facts.container


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    facts = host_facts(LocalHost(root=tmp_path, environ=ENVIRON))
    assert (facts.family, facts.model, facts.l4t, facts.jetpack, facts.container) == (None, None, None, None, False)


@pytest.mark.parametrize(
    ("text", "release"),
    [("# R35 (release), REVISION: 4.1, GCID: 1", "35.4.1"), ("", None), ("something else\n# R36, REVISION: 4.0", None)],
)
def test_l4t_release(text: str, release: str | None) -> None:
    assert l4t_release(text) == release

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from docker.errors import DockerException
from packaging.version import Version

from jetpare.base.errors import EngineError, ToolError
from jetpare.build import doctor, wheel_index
from jetpare.build.doctor import Diagnosis, Needs
from jetpare.build.guards import check_tools
from jetpare.build.network import NetworkSettings, read_settings
from jetpare.engine import api, disk
from jetpare.engine.model import Engine, EngineFacts
from tests.fakes import FakeDocker, digest, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

GIB = 1024**3


def said(*, version: str = "26.1.5+dfsg1", buildx: str | None = "0.13.1+ds1", driver: str = "overlay2") -> EngineFacts:
    return EngineFacts(
        host="unix:///var/run/docker.sock", version=Version(version) if version else None, version_text=version,
        api_version="1.45", storage_driver=driver, store=driver, data_root=Path("/nowhere/docker"), os="linux",
        arch="amd64", cpus=2, memory_bytes=24 * GIB, kernel="6.1", buildx=Version(buildx) if buildx else None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("version", "driver", "status"),
    [
        ("26.1.5+dfsg1", "overlay2", "ok"),
        ("20.10.24", "overlay2", "failed"),
        ("", "overlay2", "warning"),
        ("26.1.5", "vfs", "warning"),
    ],
)
def test_engine_version_and_driver(version: str, driver: str, status: str) -> None:
    assert doctor.check_engine(said(version=version, driver=driver)).status == status


@pytest.mark.parametrize(("buildx", "status"), [("0.13.1+ds1", "ok"), ("0.12.1", "failed"), (None, "failed")])
def test_buildx(buildx: str | None, status: str) -> None:
    found = doctor.check_buildx(said(buildx=buildx))
    assert found.status == status
    assert bool(found.advice) == (status != "ok")


@pytest.mark.parametrize(("free", "status"), [(30 * 10**9, "ok"), (10**9, "failed"), (None, "warning")])
def test_disk(free: int | None, status: str) -> None:
    found = doctor.check_disk(free, 20 * 10**9, said())
    assert found.status == status
    assert "20.0 GB" in found.detail


def test_a_remote_engines_disk_is_not_this_machines(tmp_path: Path) -> None:
    remote = Engine(docker="docker", env={}, overrides={}, private=False, host="ssh://jetson")
    assert disk.free_bytes(remote, said(), tmp_path) is None


def test_what_is_built_already_need_not_be_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = FakeDocker(root=str(tmp_path))
    docker.add(digest("ours"), "ours:1", layers={digest("layer"): 5 * 10**9})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    local = opened(docker, host="unix:///x")
    for held, need, status in (
        ((), 10**9, "ok"),
        ((), 6 * 10**9, "failed"),
        (("ours:1",), 6 * 10**9, "ok"),
        (("ours:1",), 7 * 10**9, "failed"),
    ):
        facts = replace(said(), data_root=tmp_path)
        assert doctor.check_room(local, facts, need, state=tmp_path, held=held).status == status


def test_a_data_root_that_may_not_be_entered_is_one_that_cannot_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = tmp_path / "root" / "docker"

    look = Path.stat

    def refuse(self: Path, **words: bool) -> os.stat_result:
        if self == hidden:
            raise PermissionError(13, "Permission denied", str(self))
        return look(self, **words)

    monkeypatch.setattr(Path, "stat", refuse)
    local, facts = opened(FakeDocker(), host="unix:///x"), replace(said(), data_root=hidden)
    assert disk.data_folder(local, facts, tmp_path) is None
    assert disk.free_bytes(local, facts, tmp_path) is None
    assert doctor.check_room(local, facts, 1, state=tmp_path, held=()).status == "warning"


def test_memory_suggests_jobs_that_fit() -> None:
    assert doctor.check_memory(24 * GIB, 8).status == "ok"
    found = doctor.check_memory(8 * GIB, 12)
    assert found.status == "warning"
    assert "jobs = 5" in found.advice
    assert doctor.check_memory(0, 2).detail.startswith("not measured")
    assert "jobs = 1" in doctor.check_memory(GIB, 2).advice


def binfmt(sysroot: Path, name: str | None, text: str = "") -> Path:
    folder = sysroot / "proc/sys/fs/binfmt_misc"
    folder.mkdir(parents=True)
    (folder / "register").touch()
    if name:
        (folder / name).write_text(text)
    return sysroot


def platform(
    sysroot: Path, target: str = "linux/arm64", *, host: str = "linux/amd64", local: bool = True, cross: bool = False
) -> Diagnosis:
    return doctor.check_platform(host, target, sysroot, local=local, cross=cross)


def test_platform_native_needs_nothing(tmp_path: Path) -> None:
    assert platform(tmp_path, "linux/amd64").status == "ok"
    assert platform(tmp_path, "linux/arm64/v8", host="linux/arm64").status == "ok"


def test_a_cross_build_needs_emulation_too_but_is_not_slow(tmp_path: Path) -> None:
    missing = platform(tmp_path, cross=True)
    assert missing.status == "failed"
    assert "scripts/host/emulation.sh arm64" in missing.advice
    ready = binfmt(tmp_path, "qemu-aarch64", "enabled\nflags: PF\n")
    found = platform(ready, cross=True)
    assert (found.status, found.advice) == ("ok", "")
    assert "cross-built" in found.detail


@pytest.mark.parametrize(
    ("handler", "text", "status", "word"),
    [
        ("qemu-aarch64", "enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: POCF\noffset 0\n", "warning", "emulated"),
        ("qemu-aarch64", "enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: OC\n", "failed", "flag F"),
        ("qemu-aarch64", "disabled\nflags: F\n", "failed", "disabled"),
        ("qemu-arm", "enabled\nflags: F\n", "failed", "no emulator"),
        (None, "", "failed", "no emulator"),
    ],
)
def test_platform_emulated(tmp_path: Path, handler: str | None, text: str, status: str, word: str) -> None:
    found = platform(binfmt(tmp_path, handler, text))
    assert found.status == status
    assert word in found.detail
    assert found.advice


def test_platform_where_it_cannot_be_seen(tmp_path: Path) -> None:
    assert "not mounted" in platform(tmp_path).detail
    assert platform(tmp_path, local=False).status == "warning"
    assert platform(tmp_path, "nonsense").status == "failed"


def jetson(sysroot: Path, **files: str) -> Path:
    texts = {
        "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,tegra234\0",
        "proc/sys/kernel/osrelease": "5.15.148-tegra\n",
        "proc/modules": "nvgpu 2654208 23 - Live 0x0000000000000000 (O)\n",
        **files,
    }
    for name, text in texts.items():
        (sysroot / name).parent.mkdir(parents=True, exist_ok=True)
        (sysroot / name).write_text(text)
    return sysroot


def raw(sysroot: Path, version: str = "28.0.1", *, ours: bool = False) -> Diagnosis:
    return doctor.check_raw_table(Version(version), sysroot, ours=ours)


def test_the_raw_table_trap_on_a_jetson(tmp_path: Path) -> None:
    found = raw(jetson(tmp_path))
    assert found.status == "failed"
    assert "DOCKER_INSECURE_NO_IPTABLES_RAW=1" in found.advice
    assert raw(tmp_path, "27.5.1").status == "ok"
    assert raw(tmp_path, ours=True).status == "ok"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("proc/modules", "iptable_raw 16384 1 - Live 0x0\n"),
        ("proc/net/ip_tables_names", "filter\nraw\n"),
        ("lib/modules/5.15.148-tegra/modules.builtin", "kernel/net/ipv4/netfilter/iptable_raw.ko\n"),
        ("lib/modules/5.15.148-tegra/modules.dep", "kernel/net/ipv4/netfilter/iptable_raw.ko: x.ko\n"),
    ],
)
def test_a_jetson_with_iptable_raw_is_fine(tmp_path: Path, name: str, text: str) -> None:
    assert raw(jetson(tmp_path, **{name: text})).status == "ok"


def test_other_machines_are_no_jetsons(tmp_path: Path) -> None:
    assert raw(tmp_path).detail == "not a Jetson"
    assert raw(jetson(tmp_path, **{"proc/device-tree/compatible": "raspberrypi,4\0"})).detail == "not a Jetson"


@pytest.fixture
def index() -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path.strip("/")))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://user:secret@127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("code", "status"), [(200, "ok"), (404, "warning"), (403, "warning"), (502, "failed")])
def test_index(index: str, code: int, status: str) -> None:
    found = doctor.check_index(f"{index}/{code}", NetworkSettings())
    assert (found.name, found.status) == ("index", status)
    assert found.detail.startswith(f"http://{index.rpartition('@')[2]}/{code}: answers")
    assert "secret" not in f"{found}"


def test_pips_default_index_is_asked_without_pip(index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel_index, "default_index", lambda: f"{index}/200")  # a process would fail here
    assert doctor.check_index(None, NetworkSettings()).detail == "pip's default: answers"
    monkeypatch.setattr(wheel_index, "default_index", lambda: "http://127.0.0.1:1/")
    found = doctor.check_index(None, NetworkSettings())
    assert found.status == "failed"
    assert found.detail.startswith("pip's default: no answer")
    assert "Connection refused" in found.detail


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/simple", "https://nowhere.invalid/simple", "no url at all"])
def test_an_index_that_is_not_there(url: str) -> None:
    assert doctor.check_index(url, NetworkSettings()).status == "failed"


def test_a_proxy_that_is_not_there_is_used_unless_told_not_to(index: str, tmp_path: Path) -> None:
    def status(**environ: str) -> str:
        return doctor.check_index(f"{index}/200", read_settings(environ, tmp_path, tmp_path)).status

    assert status(http_proxy="http://127.0.0.1:1") == "failed"
    assert status(http_proxy="http://127.0.0.1:1", NO_PROXY="127.0.0.1") == "ok"


def test_without_an_engine_the_rest_is_still_said(tmp_path: Path, index: str) -> None:
    def nothing() -> Engine:
        raise EngineError("No Docker engine answers")

    needs = Needs(
        disk_bytes=1, jobs=2, platform="linux/amd64", indexes=(f"{index}/200",), images=("a:1",), stand_ins=("b",)
    )
    found = doctor.check(nothing, state=tmp_path, needs=needs, sysroot=tmp_path)
    by_name = {finding.name: finding for finding in found}
    assert by_name["engine"].status == "failed"
    images = [finding for finding in found if finding.name == "base image"]
    assert [finding.status for finding in images] == ["warning", "ok"]
    assert images[0].detail == "a:1: not measured: no engine answers"
    assert images[1].detail == "b: stand-in, built here"
    assert [finding.name for finding in found if finding.status == "failed"] == ["engine"]
    assert found[-1].status == "ok"


def test_with_an_engine_every_line_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "buildx_version", lambda *_: Version("0.13.1"))
    docker = FakeDocker()
    docker.add(digest("here"), "here:1")
    docker.faults["inspect_distribution"] = DockerException("no such host")
    local = opened(docker, host="unix:///x")
    needs = Needs(disk_bytes=1, jobs=2, platform="linux/amd64", indexes=(), images=("here:1", "there:1"))
    found = doctor.check(lambda: local, state=tmp_path, needs=needs, sysroot=tmp_path)
    assert [(finding.name, finding.status) for finding in found] == [
        ("engine", "ok"),
        ("buildx", "ok"),
        ("disk", "warning"),
        ("memory", "ok"),
        ("platform", "ok"),
        ("jetson network", "ok"),
        ("base image", "ok"),
        ("base image", "failed"),
    ]
    assert [finding.detail for finding in found[-2:]] == ["here:1: in the engine already", "there:1: no such host"]


@pytest.mark.parametrize("version", [None, "0.11.2"])
def test_a_build_does_not_start_without_a_buildx_that_can_do_it(version: str | None) -> None:
    with pytest.raises(ToolError, match=r"buildx: .*0\.13"):
        check_tools(said(buildx=version))
    check_tools(said())

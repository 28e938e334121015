"""The private engine, on a machine whose package manager, network and dockerd are made up."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from jetpare.base import process
from jetpare.base.errors import BusyError, EngineError
from jetpare.engine import apt, disk, folders, model, private
from jetpare.engine.folders import EngineFolders
from jetpare.engine.model import Engine
from tests.fakes import FakeDocker, opened

NEW = {"docker.io": "26.1.5+dfsg1-9", "docker-buildx": "0.13.1+ds1-3", "docker-cli": "26.1.5+dfsg1-9"}
OLD = {"docker.io": "20.10.24+dfsg1-1", "docker-buildx": "", "docker-cli": ""}
TRIXIE = 'ID=debian\nVERSION_CODENAME=trixie\nPRETTY_NAME="Debian 13"\n'
BOOKWORM = 'ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian 12"\n'
JAMMY = 'ID=ubuntu\nVERSION_CODENAME=jammy\nPRETTY_NAME="Ubuntu 22.04"\n'


class Host:
    """A machine with apt. It does what the programs that `engine-up` starts would do to it."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.environ = {"PATH": str(folder / "bin"), "HOME": str(folder), "SSL_CERT_FILE": str(folder / "ca.pem")}
        self.folders = EngineFolders.of(self.state)
        self.packages, self.mirrors = NEW, ""
        self.docker = FakeDocker()
        self.bridges: dict[str, str] = {}  # by name, their addresses
        self.bootstrapped: list[tuple[str, ...]] = []  # suite and mirrors of each root that was made
        self.comes_up = True
        self.said: list[str] = []
        (folder / "bin").mkdir()
        for name in ("apt-get", "unshare", "setsid", "chroot", "bash", "mmdebstrap"):
            (folder / "bin" / name).touch(mode=0o755)
        (folder / "ca.pem").write_text("our authority")
        self.release = folder / "os-release"
        self.release.write_text(TRIXIE)

    def run(self, argv: Sequence[str | Path], **_: object) -> str:
        """Do what `process.run` does."""
        program, *words = (str(word) for word in argv)
        actions: Mapping[str, Callable[[list[str]], str]] = {
            "apt-cache": lambda words: f"{words[-1]}:\n  Installed: (none)\n  Candidate: {self.packages[words[-1]]}\n",
            "apt-get": lambda _: self.mirrors,
            "unshare": self.make_root,
            "bash": self.start,
            "/usr/sbin/chroot": lambda words: self.network(words[words.index("--") + 1 :]),
        }
        return actions[program](words)

    def make_root(self, words: list[str]) -> str:
        options = [word for word in words if word.startswith("--")]
        suite, root, *mirrors = [word for word in words if not word.startswith("--") and word != "mmdebstrap"]
        self.bootstrapped.append((suite, *mirrors))
        wanted = next(word for word in options if word.startswith("--include=")).partition("=")[2].split(",")
        assert {"docker.io", "docker-buildx", "iptables", "tini"} <= set(wanted)
        for name in ("usr/bin/docker", "usr/libexec/docker/cli-plugins/docker-buildx", "usr/sbin/iptables-nft"):
            (Path(root) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(root) / name).touch(mode=0o755)
        return ""

    def network(self, words: list[str]) -> str:
        self.bridges.pop(words[1], None)
        if words[0] == "up":
            self.bridges[words[1]] = words[2]
        return ""

    def start(self, words: list[str]) -> str:
        _, rootfs, _, run, log, _, bridge = words
        assert bridge in self.bridges, "dockerd needs its bridge"
        settings = json.loads((Path(rootfs) / "etc/docker/daemon.json").read_text())
        self.docker.store = "containerd" if settings["features"]["containerd-snapshotter"] else "overlay2"
        Path(log).write_text("starting\nfailed to mount overlay: operation not permitted\n")
        if self.comes_up:
            (Path(run) / "docker.sock").touch()
        return ""

    def up(self, store: private.Store = "overlay2") -> Engine:
        return private.up(state=self.state, environ=self.environ, store=store, say=self.said.append)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    monkeypatch.setattr(process, "run", made.run)
    monkeypatch.setattr(apt, "SYSTEM_PATH", str(tmp_path / "sbin"))
    monkeypatch.setattr(private, "OS_RELEASE", made.release)
    monkeypatch.setattr(EngineFolders, "run", property(lambda _: tmp_path / "run"))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(private, "UP_SECONDS", 0.5)
    monkeypatch.setattr(model, "connect", lambda _: made.docker)
    monkeypatch.setattr(
        folders, "Engine", lambda **words: Engine(**words, connector=lambda _: made.docker)  # type: ignore[arg-type,return-value]
    )  # fmt: skip
    return made


def test_engine_up_makes_a_root_a_network_and_an_engine(host: Host) -> None:
    engine = host.up()
    assert engine.private
    assert engine.host == f"unix://{host.folders.socket}"
    assert engine.docker == str(host.folders.rootfs / "usr/bin/docker")
    assert host.bootstrapped == [("trixie",)]
    assert list(host.bridges) == [host.folders.bridge]
    settings = json.loads((host.folders.rootfs / "etc/docker/daemon.json").read_text())
    assert settings["storage-driver"] == "overlay2"
    trusted = host.folders.rootfs / "etc/ssl/certs/ca-certificates.crt"
    assert trusted.read_text() == "our authority"
    assert "is up (overlay2 store)" in host.said[-1]


def test_an_engine_that_runs_is_left_alone(host: Host) -> None:
    host.up()
    bridges, host.bridges = host.bridges, {}
    assert host.up().host == f"unix://{host.folders.socket}"
    assert "runs already" in host.said[-1]
    assert len(host.bootstrapped) == len(bridges) == 1
    assert host.bridges == {}
    with pytest.raises(EngineError, match=r"overlay2 store.*invoke engine-down && invoke engine-up --store containerd"):
        host.up("containerd")


def test_the_containerd_store_names_no_storage_driver(host: Host) -> None:
    host.up("containerd")
    assert "storage-driver" not in json.loads((host.folders.rootfs / "etc/docker/daemon.json").read_text())
    assert host.docker.store == "containerd"


def test_an_engine_that_does_not_come_up_shows_the_end_of_its_log_and_leaves_no_network(host: Host) -> None:
    host.comes_up = False
    with pytest.raises(EngineError, match="operation not permitted"):
        host.up()
    assert host.bridges == {}
    assert not host.folders.run.exists()
    host.comes_up = True
    host.up()
    assert len(host.bootstrapped) == 1, "the root is made once"


def test_an_old_debian_takes_a_newer_ones_docker_from_its_own_mirror(host: Host) -> None:
    host.packages = OLD
    host.release.write_text(BOOKWORM)
    host.mirrors = "bookworm-updates http://other/debian\nbookworm cdrom:[x]\nbookworm http://mirror/debian\n"
    host.up()
    assert host.bootstrapped == [("trixie", "http://mirror/debian")]


def test_an_old_ubuntu_is_told_what_it_can_do(host: Host) -> None:
    host.packages = OLD
    host.release.write_text(JAMMY)
    with pytest.raises(EngineError, match=r"Ubuntu 22\.04.*Install Docker"):
        host.up()
    assert not host.folders.rootfs.exists()


@pytest.mark.parametrize(
    ("program", "says"), [("apt-get", "apt"), ("setsid", "apt-get install util-linux coreutils bash")]
)
def test_a_machine_without_the_tools_is_told_which(host: Host, program: str, says: str) -> None:
    (Path(host.environ["PATH"]) / program).unlink()
    with pytest.raises(EngineError, match=says):
        host.up()
    assert not host.folders.home.exists()


def test_a_private_engine_needs_root(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.up()
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(EngineError, match="sudo invoke engine-up"):
        host.up()
    with pytest.raises(EngineError, match="sudo invoke engine-down"):
        private.down(state=host.state, purge=True)
    assert host.folders.rootfs.exists()


def test_only_one_engine_up_at_a_time(host: Host) -> None:
    host.state.mkdir()
    with (host.state / "engine.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match=r"engine\.lock"):
            host.up()
    host.up()


def test_engine_down_keeps_the_images_and_purge_removes_them(host: Host) -> None:
    private.down(state=host.state, purge=True, say=host.said.append)
    assert host.said == ["There is no private engine."]
    host.up()
    (host.folders.data / "layer").touch()
    private.down(state=host.state, purge=False, say=host.said.append)
    assert host.bridges == {}
    assert not host.folders.run.exists()
    assert (host.folders.data / "layer").exists()
    private.down(state=host.state, purge=True, say=host.said.append)
    assert list(host.state.iterdir()) == []


def test_the_data_of_a_private_engine_is_seen_from_outside(host: Host) -> None:
    engine = host.up()
    host.docker.root = "/engine/data"  # as the engine sees it
    said = model.EngineFacts(
        host=engine.host, version=None, version_text="", api_version="", storage_driver="", store="",
        data_root=Path("/engine/data"), os="linux", arch="amd64", cpus=1, memory_bytes=1, kernel="", buildx=None,
    )  # fmt: skip
    assert disk.data_folder(engine, said, host.state) == host.folders.data
    free = disk.free_bytes(engine, said, host.state)
    assert free is not None
    assert free > 0
    assert disk.free_bytes(opened(host.docker), said, host.state) is None, "on another machine"


# --- processes of an engine


@pytest.mark.processes
@pytest.mark.parametrize("first", ["", 'trap "" TERM; '], ids=["by its own way", "by force"])
def test_engine_down_ends_every_process_of_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    here = EngineFolders.of(tmp_path / "state")
    here.home.mkdir(parents=True)
    monkeypatch.setattr(EngineFolders, "run", property(lambda _: tmp_path / "run"))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(private, "DOWN_SECONDS", 1.0)
    said: list[str] = []
    bash = shutil.which("bash")
    assert bash
    script = f"{first}sleep 60 & echo $! >{tmp_path}/child; wait"
    with process.start([bash, "-c", f"exec -a unshare sh -c '{script}' inside {here.mark}"]) as started:
        until = time.monotonic() + 10
        while not (noted := (tmp_path / "child")).exists() or not noted.read_text().endswith("\n"):
            assert time.monotonic() < until
            time.sleep(0.01)
        child = int(noted.read_text())
        assert private.supervisor(here) == started.pid
        assert private.supervisor(EngineFolders.of(tmp_path / "other")) is None
        private.down(state=tmp_path / "state", purge=False, say=said.append)
        assert private.supervisor(here) is None
        until = time.monotonic() + 10  # in a real engine the kernel ends it with its namespace; here it was signalled
        while ends_with(child, b"60\0"):
            assert time.monotonic() < until
            time.sleep(0.01)
    assert said == ["The private engine is stopped."]


def ends_with(pid: int, words: bytes) -> bool:
    """Return whether a process runs whose command line ends so; one that nobody has reaped yet has none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().endswith(words)
    except OSError:
        return False


@pytest.mark.processes
def test_mmdebstrap_is_installed_where_it_is_missing(tmp_path: Path) -> None:
    tool = tmp_path / "mmdebstrap"
    installer = tmp_path / "apt-get"
    installer.write_text(
        "#!/bin/sh\nPATH=/usr/bin:/bin\ncase $* in\nupdate) ;;\n"
        f'*mmdebstrap) [ "$DEBIAN_FRONTEND" = noninteractive ] && touch {tool} && chmod 755 {tool} ;;\nesac\n'
    )
    installer.chmod(0o755)
    env = {**apt.apt_environment({}), "PATH": str(tmp_path)}
    said: list[str] = []
    apt.require_mmdebstrap(env, said.append)
    assert tool.exists()
    assert len(said) == 1
    tool.write_text("kept")
    apt.require_mmdebstrap(env, said.append)
    assert tool.read_text() == "kept"
    assert len(said) == 1


def test_apt_finds_the_systems_programs_and_the_callers_first() -> None:
    path = apt.apt_environment({"PATH": "/own", "http_proxy": "http://p"})
    assert path["PATH"].split(":")[0] == "/own"
    assert "/usr/sbin" in path["PATH"].split(":")
    assert path["http_proxy"] == "http://p"

"""Start and stop a Docker engine of this project's own, in a folder: for a Debian machine that has none.

Its root is a small Debian or Ubuntu system made by mmdebstrap. Its images are in ``state/engine/data``; its socket is
in a short folder below /run, because a unix socket's path may have only 107 bytes. It has a network bridge of its own,
does not touch a system engine, and survives the command that started it. scripts/host/engine-start.sh isolates it.
"""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import json
import os
import re
import shlex
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from packaging.version import Version

from jetpare.base import files, process
from jetpare.base.callbacks import Say
from jetpare.base.errors import BusyError, EngineError
from jetpare.base.files import write_atomically
from jetpare.engine import api
from jetpare.engine.apt import SYSTEM_PATH, apt_environment, require_mmdebstrap, system_path
from jetpare.engine.containers import process_name
from jetpare.engine.folders import EngineFolders, engine, tools
from jetpare.engine.model import Engine

Store = Literal["overlay2", "containerd"]

SCRIPTS = files.SCRIPTS / "host"
HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
OS_RELEASE = Path("/etc/os-release")
FALLBACK_SUITE = "trixie"  # the first Debian whose docker.io and docker-buildx are new enough
UP_SECONDS, DOWN_SECONDS = 60.0, 30.0
KEEP_CACHE = "60GB"  # BuildKit drops older caches above this; a full rehearsal needs about 20 GB


# --- starting


def up(*, state: Path, environ: Mapping[str, str], store: Store = "overlay2", say: Say = lambda _line: None) -> Engine:
    """Start the private engine of *state*, unless it runs, and return it; make its root first if it has none.

    *say* gets one line for each thing that happens. Raises EngineError if this machine cannot run one, or if the engine
    does not answer within 60 s.
    """
    folders = EngineFolders.of(state)
    _require(environ)
    with _locked(folders):
        running = engine(state=state, environ=environ)
        if running is not None and not api.not_answering(running):
            _require_store(running, store)
            say(f"The private engine runs already: {running.host}")
            return running
        if supervisor(folders) is not None:
            say("The private engine does not answer: stopping it and starting it again.")
        _kill(folders, grace=DOWN_SECONDS)
        if tools(state=state) is None:
            _make_root(folders, environ, say)
        _configure(folders, store, environ)
        _network(folders, "up", free_subnet(Path("/proc/net/route").read_text(), seed=folders.mark))
        folders.run.mkdir(mode=0o711, exist_ok=True)
        words: list[str | Path] = [folders.rootfs, folders.data, folders.run, folders.log, folders.mark, folders.bridge]
        process.run(["bash", SCRIPTS / "engine-start.sh", *words], env={**environ, "PATH": system_path(environ)})
        started = _wait_until_up(folders, state, environ)
        say(f"The private engine is up ({store} store): {started.host}; its log is {folders.log}")
        return started


def _require(environ: Mapping[str, str]) -> None:
    """Raise EngineError if this machine cannot run a private engine."""
    instead = "Install Docker (23 or newer, with buildx), or point DOCKER_HOST at an engine."
    if not Path("/proc/self/ns/mnt").exists():
        raise EngineError(f"A private engine needs Linux. {instead}")
    if os.geteuid() != 0:
        raise EngineError(f"A private engine needs root: run `sudo invoke engine-up`. {instead}")
    path = system_path(environ)
    if not shutil.which("apt-get", path=path):
        raise EngineError(f"A private engine is made with apt, which this machine does not have. {instead}")
    missing = [tool for tool in ("unshare", "setsid", "chroot", "bash") if not shutil.which(tool, path=path)]
    if missing:
        raise EngineError(
            f"A private engine needs {', '.join(missing)}. Run `apt-get install util-linux coreutils bash`."
        )


def _require_store(running: Engine, store: Store) -> None:
    with api.client(running) as docker:
        now = api.store_of(docker.info())
    if now != store:
        raise EngineError(
            f"The private engine runs with the {now} store. To change it: "
            f"`invoke engine-down && invoke engine-up --store {store}`. Each store keeps its own images."
        )


@contextmanager
def _locked(folders: EngineFolders) -> Iterator[None]:
    """Hold the lock that lets only one `engine-up` or `engine-down` of a project run. Raises BusyError."""
    folders.home.mkdir(parents=True, exist_ok=True)
    with (folders.home.parent / "engine.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"{lock.name}: another engine-up or engine-down is running. Wait until it ends.") from error
        yield


def _make_root(folders: EngineFolders, environ: Mapping[str, str], say: Say) -> None:
    env = apt_environment(environ)
    require_mmdebstrap(env, say)
    sources, packages = _sources(env)
    say(f"Making the private engine's root in {folders.rootfs} ({sources[0]}; about 450 MB, half a minute) ...")
    partial = folders.home / "rootfs.partial"
    remove_tree(partial)
    partial.mkdir(parents=True)
    options = ["--variant=apt", f"--include={','.join(packages)}"]
    # In a mount namespace of its own: the mounts of mmdebstrap end with it, even when it is killed.
    process.run(
        ["unshare", "--mount", "mmdebstrap", *options, sources[0], partial, *sources[1:]],
        env=env,
    )
    remove_tree(folders.rootfs)
    partial.rename(folders.rootfs)


def _sources(env: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return the suite with a new enough Docker (and its mirror, if not mmdebstrap's default), and packages."""
    packages = ["ca-certificates", "docker.io", "docker-buildx", "iptables", "iproute2", "mount", "tini"]
    system = os_release(OS_RELEASE.read_text())
    suite = system.get("VERSION_CODENAME", "")
    if (
        suite
        and _candidate("docker.io", env) >= api.OLDEST_ENGINE
        and _candidate("docker-buildx", env) >= api.OLDEST_BUILDX
    ):
        return [suite], packages + (["docker-cli"] if _candidate("docker-cli", env) >= api.OLDEST_ENGINE else [])
    if system.get("ID") != "debian":
        raise EngineError(
            f"{system.get('PRETTY_NAME', 'This system')} has no docker.io {api.OLDEST_ENGINE} or newer with "
            f"docker-buildx {api.OLDEST_BUILDX} or newer. Install Docker, or point DOCKER_HOST at an engine."
        )
    return [FALLBACK_SUITE, *_mirror(suite, env)], [*packages, "docker-cli"]


def _candidate(package: str, env: Mapping[str, str]) -> Version:
    """Return the version of *package* that apt would install; 0 if it knows none."""
    for line in process.run(["apt-cache", "policy", package], env={**env, "LC_ALL": "C"}).splitlines():
        name, _, value = line.strip().partition(": ")
        if name == "Candidate":
            return api.parse_version(value.rpartition(":")[2]) or Version("0")
    return Version("0")


def _mirror(suite: str, env: Mapping[str, str]) -> list[str]:
    """Return the mirror of *suite* that this host uses; empty (mmdebstrap's default) if it is not a URL."""
    listing = process.run(["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)"], env=env)
    found = [line.split(maxsplit=1)[1] for line in listing.splitlines() if line.split(maxsplit=1)[0] == suite]
    return [uri for uri in found if uri.startswith(("http://", "https://"))][:1]


def os_release(text: str) -> dict[str, str]:
    """Return the values in the text of an /etc/os-release by their keys."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}


def _configure(folders: EngineFolders, store: Store, environ: Mapping[str, str]) -> None:
    """Write the engine's daemon.json, and copy the certificates that this host trusts into its root."""
    folders.data.mkdir(exist_ok=True)
    settings = {
        "features": {"containerd-snapshotter": store == "containerd"},
        **({"storage-driver": store} if store == "overlay2" else {}),
        # One rule instead of the built-in ones, which drop cache mounts (such as ccache's) unused for two days.
        "builder": {"gc": {"enabled": True, "policy": [{"all": True, "keepStorage": KEEP_CACHE}]}},
    }
    write_atomically(folders.rootfs / "etc/docker/daemon.json", json.dumps(settings, indent=2) + "\n")
    bundle = Path(environ.get("SSL_CERT_FILE") or HOST_CERTIFICATES)
    if bundle.is_file():
        write_atomically(folders.rootfs / "etc/ssl/certs/ca-certificates.crt", bundle.read_bytes(), mode=0o644)


def free_subnet(routes: str, *, seed: str) -> str:
    """Return a gateway address with its /24, such as 10.213.7.1/24, that is in no route of /proc/net/route, *routes*.

    The same *seed* gets the same address as long as it is free.
    """
    taken = []
    for line in routes.splitlines()[1:]:
        words = line.split()
        address, mask = (int.from_bytes(bytes.fromhex(words[column]), "little") for column in (1, 7))
        if mask:  # the default route is not a subnet
            taken.append(ipaddress.ip_network((address & mask, mask.bit_count())))
    start = int(hashlib.sha256(seed.encode()).hexdigest(), 16)
    for offset in range(56 * 256):
        number = (start + offset) % (56 * 256)
        subnet = ipaddress.ip_network(f"10.{200 + number // 256}.{number % 256}.0/24")
        if not any(subnet.overlaps(other) for other in taken):
            return f"{subnet[1]}/24"
    raise EngineError(
        "No free private subnet in 10.200.0.0 to 10.255.255.255 for the engine's bridge. `ip route` lists those in use."
    )


def _network(folders: EngineFolders, *words: str) -> None:
    """Run engine-network.sh on this host's network, with the programs of the private root."""
    script = (SCRIPTS / "engine-network.sh").read_bytes()
    action, *address = words
    argv: list[str | Path] = [
        "/usr/sbin/chroot",
        folders.rootfs,
        "/bin/sh",
        "-s",
        "--",
        action,
        folders.bridge,
        *address,
    ]
    process.run(argv, env={"PATH": SYSTEM_PATH}, stdin=script)


def _wait_until_up(folders: EngineFolders, state: Path, environ: Mapping[str, str]) -> Engine:
    deadline = time.monotonic() + UP_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.2)
        started = engine(state=state, environ=environ)
        if started is not None and not api.not_answering(started):
            return started
        if supervisor(folders) is None:
            break
    tail = "\n".join(folders.log.read_text(errors="replace").splitlines()[-15:]) if folders.log.exists() else ""
    _kill(folders, grace=0)
    raise EngineError(f"The private engine did not come up. The end of {folders.log}:\n{tail}")


# --- stopping


def down(*, state: Path, purge: bool, say: Say = lambda _line: None) -> None:
    """Stop the private engine of *state*, if there is one; with *purge*, also remove it with all its images.

    Removes its processes, mounts, bridge and firewall rules, and nothing of another engine.
    """
    folders = EngineFolders.of(state)
    if not folders.home.exists() and not folders.run.exists():
        say("There is no private engine.")
        return
    if os.geteuid() != 0:
        raise EngineError("The private engine belongs to root: run `sudo invoke engine-down`.")
    with _locked(folders):
        was_up = supervisor(folders) is not None
        _kill(folders, grace=DOWN_SECONDS)
        say("The private engine is stopped." if was_up else "The private engine was not running.")
        if purge:
            remove_tree(folders.home)
            say(f"Removed {folders.home}.")
    if purge:
        (folders.home.parent / "engine.lock").unlink(missing_ok=True)


def supervisor(folders: EngineFolders) -> int | None:
    """Return the id of the `unshare` process that holds the running engine of *folders*; None if there is none.

    It is found by its command line, because a process id in a file may be another process's by now.
    """
    for pid, words in running_processes():
        if words[:1] == ["unshare"] and "inside" in words and folders.mark in words:
            return pid
    return None


def running_processes() -> Iterator[tuple[int, list[str]]]:
    """Yield the id and the words of the command line of every process."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue  # it has ended
            yield int(entry.name), words


def _children(parent: int) -> list[int]:
    """Return the process ids of the children of *parent*."""
    found = []
    for pid, _ in running_processes():
        with suppress(OSError):  # it may have ended
            # The name, in parentheses, may contain anything; the parent is the second word after it.
            if int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(pid)
    return found


def _kill(folders: EngineFolders, *, grace: float) -> None:
    """Stop the engine (with SIGKILL after *grace* seconds), then remove its network, control groups and run folder."""
    pid = supervisor(folders)
    if pid is not None:
        # The first process of its namespace: when it ends, the kernel ends all the others.
        first, top = identities(_children(pid)), identities([pid])
        send(first, signal.SIGTERM)
        if not _gone(folders, grace):
            send({**first, **top}, signal.SIGKILL)
            if not _gone(folders, DOWN_SECONDS):
                raise EngineError(
                    f"Process {pid} of the private engine does not end, even by SIGKILL. Its log is {folders.log}. "
                    "Run `invoke engine-down` again, or restart the machine."
                )
    if (folders.rootfs / "usr/sbin/iptables-nft").exists():
        _network(folders, "down")
    for group in [*Path("/sys/fs/cgroup").glob(folders.mark), *Path("/sys/fs/cgroup").glob(f"*/{folders.mark}")]:
        for folder, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):  # an empty group may stay busy for a moment; leaving it is harmless
                Path(folder).rmdir()
    remove_tree(folders.run)


def identities(pids: Iterable[int]) -> dict[int, str]:
    """Return the identity of each process in *pids* that still runs."""
    found = {}
    for pid in pids:
        with suppress(OSError):  # it has ended
            found[pid] = process_name(pid)
    return found


def send(processes: Mapping[int, str], number: signal.Signals) -> None:
    """Send *number* to each of *processes* whose identity is unchanged: its id may be another process's by now."""
    for pid, name in processes.items():
        with suppress(FileNotFoundError, ProcessLookupError):
            if process_name(pid) == name:
                os.kill(pid, number)


def _gone(folders: EngineFolders, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while supervisor(folders) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def remove_tree(folder: Path, *, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
    """Remove *folder* and all in it. Raises EngineError, and removes nothing, while anything is mounted in it."""
    if not folder.exists():
        return
    inside = f"{folder.resolve()}/"
    busy = [point for point in mount_points(mountinfo.read_bytes()) if f"{point}/".startswith(inside)]
    if busy:
        raise EngineError(
            f"{folder}: not removed, because {', '.join(busy)} is mounted there. Run `umount {shlex.join(busy)}` first."
        )
    shutil.rmtree(folder)


def mount_points(mountinfo: bytes) -> list[str]:
    """Return the mount points in /proc/self/mountinfo, which escapes blanks and backslashes in octal.

    All other bytes are those of the path, in whatever encoding (Linux: fs/proc_namespace.c, mangle).
    """
    points = (line.split(b" ")[4] for line in mountinfo.split(b"\n") if line)
    return [os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), point)) for point in points]

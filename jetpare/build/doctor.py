"""Check whether a build will work here: a finding for each thing that it needs, with its fix.

Each ``check_...`` judges facts that it is given; ``check`` gathers them. Something that cannot be seen from here, such
as the disk of a remote engine, is a warning that says so, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from packaging.version import Version

from jetpare.base.errors import JetpareError
from jetpare.base.units import size_text
from jetpare.board.host import LocalHost, host_facts
from jetpare.build import network, wheel_index
from jetpare.build.network import NetworkSettings, without_login
from jetpare.config.values import MULTIARCH
from jetpare.engine import api, image_store
from jetpare.engine.disk import free_bytes, is_local
from jetpare.engine.model import Engine, EngineFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


DiagnosisStatus = Literal["ok", "warning", "failed"]

JOB_BYTES = 1.5 * 1024**3  # one compiler process of GDAL, at its largest
INDEX_SECONDS = 5.0
RAW_TABLE_ENGINE = Version("28")  # from here on Docker needs the kernel's iptable_raw
QEMU_NAMES = {"arm64": "aarch64", "amd64": "x86_64", "386": "i386"}


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One line of the doctor's report; ``advice`` is empty if there is nothing to do."""

    name: str
    status: DiagnosisStatus
    detail: str
    advice: str = ""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """The needs of the profile in use.

    ``disk_bytes``: space at the engine's data root. ``held``: references of the images that this space is for; the
    layers that the engine has already need no free space. ``jobs``: compile jobs at once. ``platform``: such as
    linux/arm64. ``cross``: compilers run on the engine's own processor. ``indexes``: URLs of Python package indexes;
    None is pip's default. ``images``: base images by reference; ``stand_ins``: those that jetpare builds itself.
    ``settings``: the network settings of a build, which requests to the indexes use.
    """

    disk_bytes: int
    jobs: int
    platform: str
    cross: bool = False
    indexes: tuple[str | None, ...] = (None,)
    images: tuple[str, ...] = ()
    stand_ins: tuple[str, ...] = ()
    settings: NetworkSettings = field(default_factory=NetworkSettings)
    held: tuple[str, ...] = ()


def check(
    reach: Callable[[], Engine],
    *,
    state: Path,
    needs: Needs,
    sysroot: Path = Path("/"),
) -> tuple[Diagnosis, ...]:
    """Return every finding, in the order in which a build needs the things checked.

    *reach* opens the engine, or raises JetpareError. *sysroot* is the folder that has /proc and /lib.
    """
    try:
        engine = reach()
        said = api.facts(engine)
    except JetpareError as error:
        found = [Diagnosis(name="engine", status="failed", detail=str(error), advice="invoke engine-up")]
        found += [_not_measured(name, "no engine answers") for name in ("buildx", "disk", "memory", "platform")]
        found += [_not_measured("base image", "no engine answers", image) for image in needs.images]
    else:
        found = _of_engine(engine, said, state=state, needs=needs, sysroot=sysroot)
    found += [
        Diagnosis(name="base image", status="ok", detail=f"{name}: stand-in, built here") for name in needs.stand_ins
    ]
    found += [
        _guarded("index", partial(check_index, url, needs.settings), _index_name(url))
        for url in dict.fromkeys(needs.indexes)
    ]
    return tuple(found)


def _of_engine(engine: Engine, said: EngineFacts, *, state: Path, needs: Needs, sysroot: Path) -> list[Diagnosis]:
    """Return the findings about an engine that answers, and about the base images in it."""
    local, ours = is_local(engine), engine.private or not is_local(engine)
    platform = partial(check_platform, said.platform, needs.platform, sysroot, local=local, cross=needs.cross)
    return [
        check_engine(said),
        check_buildx(said),
        _guarded("disk", lambda: check_room(engine, said, needs.disk_bytes, state=state, held=needs.held)),
        check_memory(said.memory_bytes, needs.jobs),
        _guarded("platform", platform),
        _guarded("jetson network", lambda: check_raw_table(said.version, sysroot, ours=ours)),
        *(_guarded("base image", partial(_check_image, engine, image), image) for image in needs.images),
    ]


def _guarded(name: str, one: Callable[[], Diagnosis], subject: str = "") -> Diagnosis:
    """Run one check; if it cannot be done on this machine, report that instead, so that the others still run."""
    try:
        return one()
    except (OSError, ValueError, JetpareError) as error:
        return _not_measured(name, str(error), subject)


def _not_measured(name: str, why: str, subject: str = "") -> Diagnosis:
    detail = f"{subject}: not measured: {why}" if subject else f"not measured: {why}"
    return Diagnosis(name=name, status="warning", detail=detail)


# --- engine


def check_engine(said: EngineFacts) -> Diagnosis:
    """Check that the engine is new enough for named contexts."""
    detail = f"{said.version_text or 'unknown version'} at {said.host}, {said.storage_driver} ({said.store} store)"
    advice = f"Update Docker to {api.OLDEST_ENGINE} or newer, or run `invoke engine-up` for a private engine."
    if said.version is None:
        return Diagnosis(name="engine", status="warning", detail=detail, advice=advice)
    if said.version < api.OLDEST_ENGINE:
        return Diagnosis(name="engine", status="failed", detail=detail, advice=advice)
    if said.storage_driver == "vfs":
        slow = "vfs copies every layer in full, which needs many times the disk: set overlay2 as the storage driver."
        return Diagnosis(name="engine", status="warning", detail=detail, advice=slow)
    return Diagnosis(name="engine", status="ok", detail=detail)


def check_buildx(said: EngineFacts) -> Diagnosis:
    """Check that buildx is new enough to report its progress as JSON."""
    if said.buildx is None:
        advice = (
            f"Install the buildx plugin {api.OLDEST_BUILDX} or newer (package docker-buildx or docker-buildx-plugin)."
        )
        return Diagnosis(name="buildx", status="failed", detail="the Docker CLI has no buildx plugin", advice=advice)
    if said.buildx < api.OLDEST_BUILDX:
        advice = f"Update the buildx plugin to {api.OLDEST_BUILDX} or newer."
        return Diagnosis(name="buildx", status="failed", detail=str(said.buildx), advice=advice)
    return Diagnosis(name="buildx", status="ok", detail=str(said.buildx))


def check_room(engine: Engine, said: EngineFacts, need: int, *, state: Path, held: Iterable[str]) -> Diagnosis:
    """Check that *need* bytes are free, or are taken already by parts of the images *held* that a build uses again.

    Both the doctor and the build call this, so that they give the same answer.
    """
    free = free_bytes(engine, said, state)
    enough = free is None or free >= need
    return check_disk(free, need, said, there=0 if enough else image_store.held_bytes(engine, held))


def check_disk(free: int | None, need: int, said: EngineFacts, *, there: int = 0) -> Diagnosis:
    """Check that there is room for the build. *there*: bytes that it does not have to write again."""
    wanted = f"{size_text(need)} needed"
    if free is None:
        why = f"{said.data_root} of {said.host} cannot be seen from here; {wanted}"
        return _not_measured("disk", why)
    built = f" ({size_text(there)} of it built already)" if there else ""
    detail = f"{size_text(free)} free, {wanted}{built}"
    if free + there < need:
        advice = (
            "Free some: `invoke clean --cache` removes this project's images and caches, `docker system df` shows the "
            "engine's. Or lower disk_gb in build.toml."
        )
        return Diagnosis(name="disk", status="failed", detail=detail, advice=advice)
    return Diagnosis(name="disk", status="ok", detail=detail)


def check_memory(memory_bytes: int, jobs: int) -> Diagnosis:
    """Check that *jobs* compilers fit into the engine's memory at once."""
    fit = max(1, int(memory_bytes / JOB_BYTES))
    detail = f"{size_text(memory_bytes)} for {jobs} compile jobs"
    if memory_bytes <= 0:
        return _not_measured("memory", "the engine does not report it")
    if jobs > fit:
        advice = f"Set jobs = {fit} in build.toml (about {size_text(JOB_BYTES)} each), or the compiler may be killed."
        return Diagnosis(name="memory", status="warning", detail=detail, advice=advice)
    return Diagnosis(name="memory", status="ok", detail=detail)


# --- platform


def check_platform(host: str, target: str, sysroot: Path, *, local: bool, cross: bool = False) -> Diagnosis:
    """Check that the engine can run programs of *target*, natively or emulated. *cross*: compilers run natively."""
    if target.split("/")[:2] == host.split("/")[:2]:
        return Diagnosis(name="platform", status="ok", detail=f"{target}, native")
    arch = [*target.split("/"), "", ""][1]
    if not local:
        return _not_measured("platform", f"{target} on a remote {host} engine needs an emulator there")
    detail = f"{target} on {host}"
    script = f"`scripts/host/emulation.sh {arch}` (Debian and Ubuntu, as root), or " * (arch in MULTIARCH)
    advice = f"Set up emulation: {script}`docker run --privileged --rm tonistiigi/binfmt --install {arch}`."
    handler = sysroot / "proc/sys/fs/binfmt_misc" / f"qemu-{QEMU_NAMES.get(arch, arch)}"
    trouble = _handler_trouble(handler)
    if trouble:
        return Diagnosis(name="platform", status="failed", detail=f"{detail}: {trouble}", advice=advice)
    if cross:
        detail = f"{detail}, cross-built; the programs that must run are emulated by {handler.name}"
        return Diagnosis(name="platform", status="ok", detail=detail)
    slow = "Emulation is many times slower than the real processor: do not compare the times."
    return Diagnosis(name="platform", status="warning", detail=f"{detail}, emulated by {handler.name}", advice=slow)


def _handler_trouble(handler: Path) -> str:
    """Return why the kernel's *handler* for foreign programs does not work in a container; '' when it does."""
    if not (handler.parent / "register").exists():
        return "binfmt_misc is not mounted (`mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc`)"
    if not handler.is_file():
        return "no emulator is registered"
    lines = handler.read_text().splitlines()
    if "enabled" not in lines:
        return f"{handler.name} is disabled"
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return "" if "F" in flags else f"{handler.name} is registered without flag F, so containers cannot use it"


def has_raw_table(sysroot: Path) -> bool:
    """Return whether the kernel has iptable_raw: in use, loaded, built in, or as a module that can be loaded."""
    release = _text(sysroot / "proc/sys/kernel/osrelease").strip()
    modules = sysroot / "lib/modules" / (release or "unknown")
    return (
        "raw" in _text(sysroot / "proc/net/ip_tables_names").split()
        or any(line.split()[:1] == ["iptable_raw"] for line in _text(sysroot / "proc/modules").splitlines())
        or "/iptable_raw.ko" in _text(modules / "modules.builtin")
        or "/iptable_raw.ko" in _text(modules / "modules.dep")
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def check_raw_table(version: Version | None, sysroot: Path, *, ours: bool) -> Diagnosis:
    """Check that containers get a network: on a Jetson, Docker 28 and newer needs iptable_raw in the kernel.

    *ours*: the engine is on another machine, or is a private one, which does not use iptables.
    """
    name = "jetson network"
    if host_facts(LocalHost(environ={}, root=sysroot)).family is None:
        return Diagnosis(name=name, status="ok", detail="not a Jetson")
    if ours or version is None or version < RAW_TABLE_ENGINE:
        return Diagnosis(name=name, status="ok", detail="this engine does not need iptable_raw")
    if has_raw_table(sysroot):
        return Diagnosis(name=name, status="ok", detail="the kernel has iptable_raw")
    return Diagnosis(
        name=name,
        status="failed",
        detail=f"Docker {version} needs iptable_raw, which this kernel lacks: containers get no network",
        advice="Use Docker 27, or set DOCKER_INSECURE_NO_IPTABLES_RAW=1 in dockerd's environment (if it is set, ignore "
        "this), or build with --network=host.",
    )


# --- reachability


def _check_image(engine: Engine, reference: str) -> Diagnosis:
    name = "base image"
    if image_store.inspect_image(engine, reference) is not None:
        return Diagnosis(name=name, status="ok", detail=f"{reference}: in the engine already")
    trouble = image_store.registry_trouble(engine, reference)
    if not trouble:
        return Diagnosis(name=name, status="ok", detail=f"{reference}: its registry answers")
    advice = f"Check the name, the network and `docker login`, then try `docker pull {reference}`."
    return Diagnosis(name=name, status="failed", detail=f"{reference}: {trouble}", advice=advice)


def check_index(url: str | None, settings: NetworkSettings) -> Diagnosis:
    """Check that the Python package index at *url* (None: pip's default) answers within a few seconds.

    The request uses the certificates and proxies that a build uses, and needs no pip.
    """
    import requests

    where = _index_name(url)
    advice = "Check the network and the proxy, or name another index, or a folder with the wheels, in build.toml."
    target = url or wheel_index.default_index()
    with network.session(settings, retries=1) as session:
        try:
            answer = session.get(f"{target.rstrip('/')}/", timeout=INDEX_SECONDS, stream=True)
        except requests.RequestException as error:
            detail = f"{where}: no answer ({type(error).__name__}: {network.reason(error, settings, target)})"
            return Diagnosis(name="index", status="failed", detail=detail, advice=advice)
        code = answer.status_code
        answer.close()
    status: DiagnosisStatus = "ok"
    if code >= requests.codes.bad_request:
        status = "failed" if code >= requests.codes.server_error else "warning"
    said = "answers" if status == "ok" else f"answers with HTTP {code}"
    return Diagnosis(name="index", status=status, detail=f"{where}: {said}", advice="" if status == "ok" else advice)


def _index_name(url: str | None) -> str:
    """Return the name of an index for the report: its URL without a login or a query."""
    return "pip's default" if url is None else without_login(url)

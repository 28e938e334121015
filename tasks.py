"""jetpare's command line: every task takes flags, makes one call, shows one result."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import Task, task

from jetpare.base.errors import ConfigError, HostError, Interrupted
from jetpare.base.process import signals_as_interrupt
from jetpare.cli import build_tasks, image_tasks, machine_tasks, run_tasks
from jetpare.cli.session import Session

IMAGE = "an image of build.toml, such as cuda"
STAGE_IMAGE = "the image whose stage is meant; default: the last one of build.toml that has it and is not optional"
PROFILE = (
    "a profile of build.toml, or NAME-arm64 for what --platform linux/arm64 makes of it; default: the one for this host"
)
PLATFORM = "build for this platform, such as linux/arm64, in place of the profile's own"
DRY_RUN = "print the bake definition and the command that runs it, and build nothing"
NO_CACHE = "build this stage again although nothing changed"
POWER = "on a Jetson: maxn, keep, or the name of a power mode; default: [power] mode of build.toml"
STAGE = {"image": STAGE_IMAGE, "profile": PROFILE, "power": POWER, "no_cache": NO_CACHE, "dry_run": DRY_RUN}


def session(profile: str = "", platform: str = "") -> Session:
    """The one place where the environment is read. JETPARE_ROOT names another project's folder."""
    root = os.environ.get("JETPARE_ROOT") or Path(__file__).parent
    return Session(root=Path(root), environ=dict(os.environ), profile=profile or None, platform=platform or None)


def refuse_dry(context: Context) -> None:
    """Raise ConfigError under `invoke --dry`, which holds back only what Invoke itself runs, so nothing of ours."""
    if context.config.run.dry:
        raise ConfigError(
            "--dry: Invoke's own flag cannot hold back what jetpare does, so nothing was done. `invoke plan` shows "
            "what a build would do, and `invoke build-all --dry-run` prints the definition and the command."
        )


def command(**options: object) -> Callable[[Callable[..., None]], Task[Any]]:
    """An Invoke task for which a refusal of the machine, or Ctrl-C or SIGTERM, is a message and an exit code."""

    def make(function: Callable[..., None]) -> Task[Any]:
        @functools.wraps(function)
        def guarded(context: Context, *args: object, **flags: object) -> None:
            refuse_dry(context)
            try:
                with signals_as_interrupt():
                    function(context, *args, **flags)
            except KeyboardInterrupt:
                raise Interrupted("Interrupted.") from None
            except OSError as error:
                raise HostError(f"{error.filename or function.__name__}: {error.strerror or error}.") from error

        made: Task[Any] = task(auto_shortflags=False, **options)(guarded)
        return made

    return make


@command(
    iterable=["image"],
    help={
        "image": f"{IMAGE}; repeatable; default: all",
        "profile": PROFILE,
        "platform": PLATFORM,
        "parallel": "build everything in one solve: the shortest wall time, but the stages' times overlap",
        "cold": "no layer cache, and compiler and package caches that start empty, so that every time is a cold one; "
        "with --parallel the images share what they fetch and compile",
        "repeat": "this many runs, cooling down between them, then median and spread; every stage is built again "
        "each time, beside warm compiler and package caches unless --cold is given",
        "power": POWER,
        "dry_run": DRY_RUN,
    },
)
def build_all(  # noqa: PLR0913, PLR0917 - one for each flag
    _: Context,
    image: list[str],
    profile: str = "",
    platform: str = "",
    parallel: bool = False,
    cold: bool = False,
    repeat: int = 1,
    power: str = "",
    dry_run: bool = False,
) -> None:
    """Build the images stage by stage, time every stage, and compare the images."""
    from jetpare.build.request import Request

    request = Request(task="build-all", parallel=parallel, cold=cold, power=power)
    with session(profile, platform) as opened:
        build_tasks.build_all(opened, request, images=tuple(image), repeat=repeat, dry_run=dry_run)


@command(help=STAGE)
def extract_cudnn(
    _: Context, image: str = "", profile: str = "", power: str = "", no_cache: bool = False, dry_run: bool = False
) -> None:
    """Take cuDNN and CUPTI out of JetPack (stage cudnn), with what it needs before."""
    with session(profile) as opened:
        build_tasks.build_stage(opened, "cudnn", image=image or None, power=power, no_cache=no_cache, dry_run=dry_run)


@command(help=STAGE)
def compile_gdal(
    _: Context, image: str = "", profile: str = "", power: str = "", no_cache: bool = False, dry_run: bool = False
) -> None:
    """Compile GDAL with Ninja (stage gdal), with what it needs before."""
    with session(profile) as opened:
        build_tasks.build_stage(opened, "gdal", image=image or None, power=power, no_cache=no_cache, dry_run=dry_run)


@command(help=STAGE)
def install_pytorch(
    _: Context, image: str = "", profile: str = "", power: str = "", no_cache: bool = False, dry_run: bool = False
) -> None:
    """Install PyTorch with uv (stage python), with what it needs before."""
    with session(profile) as opened:
        build_tasks.build_stage(opened, "python", image=image or None, power=power, no_cache=no_cache, dry_run=dry_run)


@command(help=STAGE)
def assemble_runtime(
    _: Context, image: str = "", profile: str = "", power: str = "", no_cache: bool = False, dry_run: bool = False
) -> None:
    """Assemble, check and tag an image (stage runtime), with what it needs before."""
    with session(profile) as opened:
        build_tasks.build_stage(opened, "runtime", image=image or None, power=power, no_cache=no_cache, dry_run=dry_run)


@command(
    iterable=["image"],
    help={
        "image": "an image of build.toml, or any that the engine has; repeatable; the first is the baseline",
        "profile": PROFILE,
        "format_": "text, json, md or html; default: by the suffix of --output, else text",
        "output": "write to this file instead of stdout",
        "json": "the same as --format json",
        "compress": "work out the compressed sizes with gzip or zstd, which takes minutes; default: what is known",
    },
)
def compare(
    context: Context,
    image: list[str],
    profile: str = "",
    format_: str = "",
    output: str = "",
    json: bool = False,
    compress: str = "",
) -> None:
    """Compare images with a baseline: `compare` those of the profile, `compare -- A B` any two."""
    images, form = (*image, *context.remainder.split()), format_ or ("json" if json else "")
    with session(profile) as opened:
        image_tasks.compare(opened, images=images, form=form, output=output, compress=compress)


@command(
    iterable=["image"],
    help={
        "image": "an image of build.toml, or any image reference; repeatable; default: all that are built",
        "profile": PROFILE,
        "json": "print the documented JSON instead of tables",
    },
)
def verify(_: Context, image: list[str], profile: str = "", json: bool = False) -> None:
    """Run the finished images: imports, libraries, GDAL, PyTorch on the CPU and the GPU."""
    with session(profile) as opened:
        image_tasks.verify(opened, images=tuple(image), as_json=json)


@command(
    positional=["name"],
    iterable=["image"],
    help={
        "name": "a path, or the name of a package, a Python distribution, a component or a group",
        "image": "an image of build.toml, or any image reference; repeatable; default: all that are built",
        "profile": PROFILE,
        "layers": "read the layers from the engine's stream where its folders cannot be read: a minute for 6 GB, once",
    },
)
def explain(_: Context, name: str, image: list[str], profile: str = "", layers: bool = False) -> None:
    """Say why something is in an image: who needs it, what asked for it, which layer brought it, how many bytes."""
    with session(profile) as opened:
        image_tasks.explain(opened, name, images=tuple(image), layers=layers)


@command(
    iterable=["image"],
    help={
        "image": "an image of build.toml, or any reference that the engine has; repeatable; default: all",
        "profile": PROFILE,
        "json": "print the documented JSON instead of tables",
        "sarif": "print SARIF 2.1.0, which code hosts and editors show",
        "prune_plan": "show what nothing needs, with bytes and proof, and as [[prune]] rules for build.toml",
        "output": "write to this file instead of stdout",
    },
)
def audit(
    _: Context,
    image: list[str],
    profile: str = "",
    json: bool = False,
    sarif: bool = False,
    prune_plan: bool = False,
    output: str = "",
) -> None:
    """Check the finished images for what is missing, wrong or could go, without running them."""
    forms = {"json": json, "sarif": sarif, "prune-plan": prune_plan}
    with session(profile) as opened:
        image_tasks.audit(opened, images=tuple(image), forms=forms, output=output or None)


@command(
    iterable=["image"],
    help={"image": f"{IMAGE}; repeatable; default: all", "profile": PROFILE, "platform": PLATFORM},
)
def plan(_: Context, image: list[str], profile: str = "", platform: str = "") -> None:
    """Show what would run, in which order, and what the cache should hold already."""
    with session(profile, platform) as opened:
        run_tasks.plan(opened, images=tuple(image))


@command(
    positional=["stage"],
    help={
        "stage": "a stage: cudnn, gdal, python, runtime or slim",
        "image": STAGE_IMAGE,
        "profile": PROFILE,
        "command": "run this shell command there instead of an interactive shell",
    },
)
def shell(_: Context, stage: str, image: str = "", profile: str = "", command: str = "") -> None:
    """Open a shell in a stage's result, for debugging."""
    with session(profile) as opened:
        build_tasks.shell(opened, stage, image=image or None, command=command)


@command(
    positional=["stage"],
    help={"stage": "a stage: cudnn, gdal, python, runtime or slim", "image": STAGE_IMAGE, "profile": PROFILE},
)
def logs(_: Context, stage: str, image: str = "", profile: str = "") -> None:
    """Print the full log of a stage's last build."""
    with session(profile) as opened:
        run_tasks.logs(opened, stage, image=image or None)


@command(
    iterable=["stage"],
    help={
        "stage": "only this stage, such as gdal; repeatable; default: all",
        "last": "only the last N runs of each group; 0: all",
        "json": "print JSON instead of a table",
        "csv": "print CSV instead of a table, a line for each run of a stage",
    },
)
def history(_: Context, stage: list[str], last: int = 0, json: bool = False, csv: bool = False) -> None:
    """Show how long each stage took in the runs so far: median, spread, outliers."""
    with session() as opened:
        run_tasks.history(opened, stages=tuple(stage), last=last, form="json" if json else "csv" if csv else "table")


@command(
    help={
        "run": "the run's id, a folder's name in .jetpare/runs; default: the last one",
        "trace": "write a trace to this file, for ui.perfetto.dev",
    },
)
def timings(_: Context, run: str = "", trace: str = "") -> None:
    """Show one run in detail: where the time went, the longest steps, clocks and load."""
    with session() as opened:
        run_tasks.timings(opened, run, trace_file=trace)


@command(help={"restore": "put back the mode and the clocks that an interrupted run left"})
def power(_: Context, restore: bool = False) -> None:
    """Show the board's power mode, the modes it has, clocks and heat."""
    with session() as opened:
        machine_tasks.power(opened, restore=restore)


@command(help={"profile": PROFILE, "platform": PLATFORM})
def doctor(_: Context, profile: str = "", platform: str = "") -> None:
    """Check engine, disk, memory, platform and network, and say what to do about each fault."""
    with session(profile, platform) as opened:
        machine_tasks.doctor(opened)


@command(help={"store": "the image store of a private engine: overlay2 or containerd"})
def engine_up(_: Context, store: str = "overlay2") -> None:
    """Start a private Docker engine in this folder, unless an engine answers already."""
    with session() as opened:
        machine_tasks.engine_up(opened, store=store)


@command(help={"purge": "remove the engine's folder too, with all its images and caches"})
def engine_down(_: Context, purge: bool = False) -> None:
    """Stop the private engine that engine-up started; no other engine is touched."""
    with session() as opened:
        machine_tasks.engine_down(opened, purge=purge)


@command(help={"cache": "remove build caches and downloads too"})
def clean(_: Context, cache: bool = False) -> None:
    """Remove the images that the runs in this folder made; run records stay."""
    with session() as opened:
        machine_tasks.clean(opened, cache=cache)


ns = Collection()
for each in (
    build_all,
    compare,
    audit,
    verify,
    explain,
    plan,
    doctor,
    extract_cudnn,
    compile_gdal,
    install_pytorch,
    assemble_runtime,
    shell,
    logs,
    history,
    timings,
    power,
    engine_up,
    engine_down,
    clean,
):
    ns.add_task(each)
ns.configure({"run": {"echo": False}})

"""jetpare's command line: every task takes flags, makes one call, shows one result."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import Task

from jetpare.cli import build_tasks, image_tasks, machine_tasks, run_tasks
from jetpare.cli.command import command, number
from jetpare.cli.session import Session

IMAGE = "an image of build.toml, such as cuda"
STAGE_IMAGE = "the image whose stage is meant; default: the last one of build.toml that has it and is not optional"
PROFILE = (
    "a profile of build.toml, or NAME-arm64 for its variant with --platform linux/arm64; default: the one for this host"
)
PLATFORM = "build for this platform, such as linux/arm64, instead of the profile's own"
DRY_RUN = "print the bake definition and the command that runs it, and build nothing"
NO_CACHE = "build this stage again although nothing changed"
POWER = "on a Jetson: maxn, keep, or the name of a power mode; default: [power] mode of build.toml"


def session(profile: str = "", platform: str = "") -> Session:
    """Return a session. Only here is the environment read; JETPARE_ROOT names another project's folder."""
    root = os.environ.get("JETPARE_ROOT") or Path(__file__).parent
    return Session(root=Path(root), environ=dict(os.environ), profile=profile or None, platform=platform or None)


def stage_task(name: str, stage: str, doc: str) -> Task[Any]:
    """Return the task *name*, which builds *stage* and what it needs; *doc* is its line in `invoke --list`."""

    def build(
        _: Context, image: str = "", profile: str = "", power: str = "", no_cache: bool = False, dry_run: bool = False
    ) -> None:
        with session(profile) as opened:
            build_tasks.build_stage(opened, stage, image=image, power=power, no_cache=no_cache, dry_run=dry_run)

    build.__doc__ = doc
    flags = {"image": STAGE_IMAGE, "profile": PROFILE, "power": POWER, "no_cache": NO_CACHE, "dry_run": DRY_RUN}
    return command(name=name, help=flags)(build)


@command(
    iterable=["image"],
    help={
        "image": f"{IMAGE}; repeatable; default: all",
        "profile": PROFILE,
        "platform": PLATFORM,
        "parallel": "build everything in one solve: the shortest wall time, but the stages' times overlap",
        "cold": "build without the layer cache, and with empty compiler and package caches, so that every time is a "
        "cold one; with --parallel the images share downloads and compiled objects",
        "repeat": "this many runs, cooling down between them, then median and spread; every stage is built again "
        "each time, with warm compiler and package caches unless --cold is given",
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
    repeat: str = "1",
    power: str = "",
    dry_run: bool = False,
) -> None:
    """Build the images stage by stage, time every stage, and compare the images."""
    with session(profile, platform) as opened:
        build_tasks.build_all(
            opened,
            images=tuple(image),
            parallel=parallel,
            cold=cold,
            repeat=number("--repeat", repeat),
            power=power,
            dry_run=dry_run,
        )


extract_cudnn = stage_task("extract-cudnn", "cudnn", "Extract cuDNN and CUPTI, after the stages that it needs.")
compile_gdal = stage_task("compile-gdal", "gdal", "Compile GDAL with Ninja, after the stages that it needs.")
install_pytorch = stage_task("install-pytorch", "python", "Install PyTorch with uv, after the stages that it needs.")
assemble_runtime = stage_task(
    "assemble-runtime", "runtime", "Assemble, check and tag an image, after the stages that it needs."
)


@command(
    iterable=["image"],
    help={
        "image": "an image of build.toml, or any that the engine has; repeatable; the first is the baseline",
        "profile": PROFILE,
        "format_": "text, json, md or html; default: by the suffix of --output, else text",
        "output": "write to this file instead of stdout",
        "json": "the same as --format json",
        "compress": "compress the layers with gzip or zstd to get their sizes, which takes minutes; default: show only "
        "sizes that are known",
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
    """Compare images with a baseline: `compare` for those of the profile, `compare -- A B` for any two."""
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
    """Run the finished images and check imports, libraries, GDAL, and PyTorch on the CPU and the GPU."""
    with session(profile) as opened:
        image_tasks.verify(opened, images=tuple(image), as_json=json)


@command(
    positional=["name"],
    iterable=["image"],
    help={
        "name": "a path, or the name of a package, a Python distribution, a component or a group",
        "image": "an image of build.toml, or any image reference; repeatable; default: all that are built",
        "profile": PROFILE,
        "layers": "where the engine's folders cannot be read, read the layers from its stream: a minute for 6 GB, once",
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
    """Check the finished images for what is missing, wrong or unneeded, without running them."""
    forms = {"json": json, "sarif": sarif, "prune-plan": prune_plan}
    with session(profile) as opened:
        image_tasks.audit(opened, images=tuple(image), forms=forms, output=output or None)


@command(
    iterable=["image"],
    help={"image": f"{IMAGE}; repeatable; default: all", "profile": PROFILE, "platform": PLATFORM},
)
def plan(_: Context, image: list[str], profile: str = "", platform: str = "") -> None:
    """Show what a build would run, in which order, and which stages should be in the cache."""
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
        build_tasks.shell(opened, stage, image=image, command=command)


@command(
    positional=["stage"],
    help={"stage": "a stage: cudnn, gdal, python, runtime or slim", "image": STAGE_IMAGE, "profile": PROFILE},
)
def logs(_: Context, stage: str, image: str = "", profile: str = "") -> None:
    """Print the full log of a stage's last build."""
    with session(profile) as opened:
        run_tasks.logs(opened, stage, image=image)


@command(
    iterable=["stage"],
    help={
        "stage": "only this stage, such as gdal; repeatable; default: all",
        "last": "only the last N runs of each group; 0: all",
        "json": "print JSON instead of a table",
        "csv": "print CSV instead of a table, one line for each run of a stage",
    },
)
def history(_: Context, stage: list[str], last: str = "0", json: bool = False, csv: bool = False) -> None:
    """Show how long each stage took in the runs so far: median, spread, outliers."""
    with session() as opened:
        run_tasks.history(opened, stages=tuple(stage), last=number("--last", last), forms={"json": json, "csv": csv})


@command(
    help={
        "run": "the run's id, which is the name of its folder in .jetpare/runs; default: the last one",
        "trace": "write a trace for ui.perfetto.dev to this file",
    },
)
def timings(_: Context, run: str = "", trace: str = "") -> None:
    """Show one run in detail: where the time went, the longest steps, clocks and load."""
    with session() as opened:
        run_tasks.timings(opened, run, trace_file=trace)


@command(help={"restore": "restore the mode and the clocks that an interrupted run changed"})
def power(_: Context, restore: bool = False) -> None:
    """Show the board's power mode, the modes it has, its clocks and temperatures."""
    with session() as opened:
        machine_tasks.power(opened, restore=restore)


@command(help={"profile": PROFILE, "platform": PLATFORM})
def doctor(_: Context, profile: str = "", platform: str = "") -> None:
    """Check engine, disk, memory, platform and network, and say how to fix each fault."""
    with session(profile, platform) as opened:
        machine_tasks.doctor(opened)


@command(help={"store": "the image store of a private engine: overlay2 or containerd"})
def engine_up(_: Context, store: str = "overlay2") -> None:
    """Start a private Docker engine in this folder, unless an engine answers."""
    with session() as opened:
        machine_tasks.engine_up(opened, store=store)


@command(help={"purge": "also remove the engine's folder, with all its images and caches"})
def engine_down(_: Context, purge: bool = False) -> None:
    """Stop the private engine that engine-up started, and no other."""
    with session() as opened:
        machine_tasks.engine_down(opened, purge=purge)


@command(help={"cache": "also remove build caches and downloads"})
def clean(_: Context, cache: bool = False) -> None:
    """Remove the images that the runs in this folder made; keep the run records."""
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

"""Figures of the README and docs/performance.md, measured. Every figure is a ratio, or a difference, within one run.

usage: .venv/bin/python benchmarks/bench.py NAME      from the project's folder, with an engine

  size      the images `cuda` and `slim` against the reference document's own recipe on the same stack; then what the
            audit finds in all images, and what running them shows; it fails where one of them does
  ccache    GDAL compiled cold, then again with the compiler cache that this left
  unchanged `build-all` with nothing changed, against the bare `docker buildx bake` of the same definition
  cold      `build-all --cold --image cuda`, against the bare bake calls of the same definitions
  parallel  `build-all --cold --parallel` against `build-all --cold`: wall times, the sum of the stages that were built
            alone, and the critical path
  where     what the newest `build-all --cold` with both images, one stage after another, spent its time on
  listing   `invoke --list`
  fresh     the README's first command in a fresh clone without engine or cache: wall time, and peak disk by `df`
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from jetpare.base import process
from jetpare.base.units import GB
from jetpare.build import bake, buildx, network, request, secret_files
from jetpare.build.request import Request
from jetpare.config.values import LABEL_PROJECT
from jetpare.engine import containers, discovery, image_store
from jetpare.engine.model import Engine
from jetpare.events import decode
from jetpare.events.recorder import Recorder
from jetpare.events.steps import Timeline, union_seconds
from jetpare.project import naming
from jetpare.project.plan import Plan
from jetpare.project.project import Project, host_architecture, open_project, source_revision
from jetpare.records import trace
from jetpare.records.ledger import Ledger, Record
from jetpare.records.reports import cache_counts

ROOT = Path(__file__).parent.parent
INVOKE = ROOT / ".venv/bin/invoke"
MAIN_COMMAND = "scripts/setup.sh && .venv/bin/invoke engine-up build-all"


class Bench:
    """The project, its plan for this host, and the engine."""

    def __init__(self) -> None:
        self.environ = dict(os.environ)
        self.project: Project = open_project(ROOT, self.environ)
        self.plan: Plan = self.project.plan(profile=None, architecture=host_architecture())
        self.engine: Engine = discovery.find(state=self.project.state_path, environ=self.environ)

    def options(self, **changes: object) -> bake.Options:
        """The options of a plain `build-all`, so that the bare definition is the same."""
        revision = source_revision(ROOT, self.environ)
        made = request.options(self.project, self.plan, Request(task="bench"), run="bench", revision=revision)
        return replace(made, **changes)  # type: ignore[arg-type]

    def bare(self, targets: tuple[str, ...], definition: dict[str, object]) -> tuple[Timeline, float]:
        """One bare call of bake: its timeline and its wall time in seconds."""
        settings = network.read_settings(self.environ, self.project.home)
        buildx.write_definition(self.project.root, self.project.state, definition)
        decoder, recorder = decode.EventDecoder(), Recorder()

        def on_chunk(chunk: bytes) -> None:
            for event in decoder.feed(chunk):
                recorder.add(event)

        begin = time.monotonic()
        with secret_files.build_secrets(self.project, settings):
            status, _ = buildx.run(
                buildx.command(self.engine.docker, naming.definition_file(self.project.state), targets),
                root=self.project.root,
                env=self.engine.env,
                metadata=self.project.state_path / "bench-metadata.json",
                on_chunk=on_chunk,
            )
        wall = time.monotonic() - begin
        recorder.close()
        if status:
            sys.exit("\n".join([f"bake failed: {targets}", *decoder.text]))
        return recorder.timeline(), wall

    def said(self, *words: str, show: Callable[[Any], str]) -> str:
        """What *show* makes of the JSON that a task prints. Raises ToolError where the task fails."""
        return show(json.loads(process.run([INVOKE, *words], env=self.environ, cwd=ROOT)))

    def invoke(self, *words: str) -> float:
        """The wall time of one `invoke` in seconds."""
        begin = time.monotonic()
        process.run([INVOKE, *words], env=self.environ, cwd=ROOT)
        return time.monotonic() - begin


def size(bench: Bench) -> None:
    """Size against the recipe; builds what is missing first."""
    bench.invoke("build-all")
    bench.invoke("build-all", "--image", "slim")
    node = bench.plan.node("cuda/runtime")
    definition = bake.definition(bench.project.config, bench.plan, bench.options())
    target = definition["target"][node.target]
    stages = {
        name: dict(definition["target"][bench.plan.node(f"cuda/{name}").target])
        | {"target": name, "output": ["type=cacheonly"]}
        for name in ("gdal", "python")
    }
    recipe = f"{bench.project.config.project.name}/recipe:{bench.plan.profile_name}"
    definition["target"] |= {f"recipe-{name}": stage for name, stage in stages.items()}
    definition["target"]["recipe"] = target | {
        "dockerfile": "benchmarks/recipe.Dockerfile",
        "contexts": target["contexts"] | {name: f"target:recipe-{name}" for name in stages},
        "output": [f"type=docker,name={recipe}"],
        "labels": {LABEL_PROJECT: bench.project.config.project.name},
    }
    bench.bare(("recipe",), definition)
    tags = {name: naming.image_tag(bench.project.config, name, bench.plan.profile_name) for name in ("cuda", "slim")}
    sizes = {}
    for name, reference in {**tags, "recipe": recipe}.items():
        facts = image_store.inspect_image(bench.engine, reference)
        if facts is None or facts.layers_bytes is None:
            sys.exit(f"{reference}: not measured")
        merged = containers.merged_bytes(bench.engine, facts.id)
        sizes[name] = (facts.layers_bytes, merged)
        print(
            f"{name:8} layers {facts.layers_bytes / GB:.3f} GB, merged {merged / GB:.3f} GB, {facts.layer_count} layers"
        )
    for name in tags:
        ratios = [mine / theirs for mine, theirs in zip(sizes[name], sizes["recipe"], strict=True)]
        print(f"{name} / recipe: layers {ratios[0]:.3f}, merged {ratios[1]:.3f}")
    print(bench.said("audit", "--json", show=_audited))
    print(bench.said("verify", "--json", show=_verified))


def _audited(result: Any) -> str:  # noqa: ANN401 - parsed JSON
    return f"audit of {', '.join(image['name'] for image in result['images'])}: {result['counts']}"


def _verified(result: Any) -> str:  # noqa: ANN401
    counts = ", ".join(
        f"{image['image']} {sum(row['status'] == 'ok' for row in image['rows'])} ok, "
        f"{sum(row['status'] == 'failed' for row in image['rows'])} failed"
        for image in result["images"]
    )
    return f"verify: {counts}; results that differ between the images: {len(result['differing'])}"


def ccache(bench: Bench) -> None:
    """The compile step, cold and warm, with a cache mount of its own."""
    node, name = bench.plan.node("cuda/gdal"), f"bench{int(time.time())}"
    times = []
    for state in ("cold", "warm"):
        options = bench.options(cache_id=name, rebuild={node.label: f"{name}-{state}"})
        definition = bake.definition(bench.project.config, bench.plan, options)
        made, _ = bench.bare((node.target,), definition)
        steps = [step for step in made.steps if "compile-gdal.sh" in step.name and not step.cached]
        times.append(union_seconds(steps))
        counts = cache_counts(bench.project.root / naming.report_folder(bench.project.state, node)) or (0, 0)
        print(f"{state}: compile step {times[-1]:.1f} s, ccache {counts[0]} of {counts[1]} hits")
    print(f"warm / cold: {times[1] / times[0]:.3f}")


def unchanged(bench: Bench) -> None:
    """Alternates the two, and compares medians."""
    bench.invoke("build-all")
    definition = bake.definition(bench.project.config, bench.plan, bench.options())
    nodes = [node for node in bench.plan.nodes if node.baked]
    targets = tuple(target for node in nodes for target in bake.call_targets(node))
    ours, theirs = [], []
    for _ in range(5):
        theirs.append(bench.bare(targets, definition)[1])
        ours.append(bench.invoke("build-all"))
    mine, bare = statistics.median(ours), statistics.median(theirs)
    print(f"build-all {mine:.2f} s, bare bake {bare:.2f} s (medians of 5): {mine - bare:.2f} s over it")


def cold(bench: Bench) -> None:
    """Both build the `cuda` image from nothing, one call for each node, with cache mounts that start empty."""
    plan = bench.project.plan(profile=None, architecture=host_architecture(), images=("cuda",))
    name, bare = f"bench{int(time.time())}", 0.0
    for node in plan.nodes:
        if node.baked:
            options = bench.options(cache_id=name, fresh=frozenset({node.label}))
            bare += bench.bare(bake.call_targets(node), bake.definition(bench.project.config, plan, options))[1]
    ours = bench.invoke("build-all", "--cold", "--image", "cuda")
    print(f"build-all --cold --image cuda {ours:.1f} s, bare bake {bare:.1f} s: ratio {ours / bare:.3f}")


def parallel(bench: Bench) -> None:
    """Side by side first: COPY has no CACHE_ID, and would find the layers that the other run leaves."""
    made = []
    for words in (("--parallel",), ()):
        bench.invoke("build-all", "--cold", *words)
        record, _ = next(Ledger(bench.project.state_path).records())
        if record is None:
            sys.exit("the run left no record that can be read")
        made.append(record)
    print(in_parallel(alone=made[1], beside=made[0]))


def in_parallel(*, alone: Record, beside: Record) -> str:
    """What two cold runs of the same say of each other: *alone* one stage at a time, *beside* all in one solve."""
    stages = sum(row.seconds or 0.0 for row in alone.stages)
    path = sum(float(step["seconds"]) for step in beside.critical_path)
    wall, cached = beside.wall_seconds or 0.0, sum(row.steps_cached for row in beside.stages)
    return (
        f"one at a time: wall {alone.wall_seconds or 0.0:.1f} s, sum of the stages {stages:.1f} s\n"
        f"--parallel: wall {wall:.1f} s, critical path {path:.1f} s in {len(beside.critical_path)} steps; "
        f"{cached} steps from the layer cache\n"
        f"wall of --parallel / sum of the stages: {wall / stages:.3f}\n"
        f"wall of --parallel / critical path: {wall / path:.3f}"
    )


KINDS = {
    "GDAL compiled": ("compile-gdal.sh",),
    "packages (apt)": ("apt-install.sh", "build-packages.sh", "debian-source.sh"),
    "NVIDIA's wheels, for the stand-in bases": ("rehearsal-cuda.sh",),
    "Python packages": ("install-pytorch.sh",),
    "layers and images exported": ("exporting",),
}


def where(bench: Bench) -> None:
    """Seconds of the steps by what they do, by the scripts that they run; the rest is what is left of the wall time."""
    labels = {node.label for node in bench.plan.nodes}
    made = (
        (record, folder)
        for record, folder in Ledger(bench.project.state_path).records()
        if record and record.cold and not record.parallel and {row.label for row in record.stages} == labels
    )
    record, folder = next(made, (None, None))
    if record is None or folder is None:
        sys.exit("there is no such run: `invoke build-all --cold` makes one")
    replayed = [trace.replay(folder / str(row.events)) for row in record.stages if row.events]
    steps = [step for each in replayed for step in (each.steps if each else ()) if not step.cached]
    wall = left = record.wall_seconds or 0.0
    for kind, words in KINDS.items():
        seconds = sum(step.seconds for step in steps if any(word in step.name for word in words))
        left -= seconds
        print(f"{kind:40} {seconds:6.1f} s  {seconds / wall:5.1%}")
    print(f"{'the rest':40} {left:6.1f} s  {left / wall:5.1%}\nwall time {wall:.1f} s")


def listing(bench: Bench) -> None:
    """The front page."""
    times = [bench.invoke("--list") for _ in range(11)][1:]
    print(f"invoke --list: median {statistics.median(times):.2f} s, worst {max(times):.2f} s of {len(times)}")


def fresh() -> None:
    """In a clone of HEAD, with an engine of its own that is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="jetpare-fresh-"))
    environ = {key: value for key, value in os.environ.items() if key not in {"DOCKER_HOST", "DOCKER_CONTEXT"}}
    free = [shutil.disk_usage(folder).free]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(1):
            free.append(shutil.disk_usage(folder).free)

    try:
        process.run(["git", "clone", "--quiet", ROOT, folder / "jetpare"], env=environ)
        watcher = threading.Thread(target=watch)
        watcher.start()
        begin = time.monotonic()
        try:
            out = process.run(["sh", "-c", MAIN_COMMAND], env=environ, cwd=folder / "jetpare")
        finally:
            wall = time.monotonic() - begin
            done.set()
            watcher.join()
        print(out)
        cores = os.cpu_count()
        print(f"`{MAIN_COMMAND}`: {wall / 60:.1f} min on {cores} cores, peak disk {(free[0] - min(free)) / GB:.1f} GB")
        records = sorted((folder / "jetpare/.jetpare/runs").glob("*/run.json"))
        print(json.dumps({"wall_seconds": round(wall), "run": json.loads(records[-1].read_text())["wall_seconds"]}))
    finally:
        invoke = folder / "jetpare/.venv/bin/invoke"
        if invoke.exists():
            process.run([invoke, "engine-down", "--purge"], env=environ, cwd=folder / "jetpare")
        shutil.rmtree(folder, ignore_errors=True)


BENCHES = {
    "size": size,
    "ccache": ccache,
    "unchanged": unchanged,
    "cold": cold,
    "parallel": parallel,
    "where": where,
    "listing": listing,
}


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*BENCHES, "fresh"])
    name = parser.parse_args().name
    if name == "fresh":
        fresh()
    else:
        BENCHES[name](Bench())


if __name__ == "__main__":
    main()

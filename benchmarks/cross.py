"""GDAL for another architecture: compiled across, against the native compile and against emulation.

usage: .venv/bin/python benchmarks/cross.py [stage] [part]    with an engine, and emulation (scripts/host/emulation.sh)

  stage   the gdal stage cold, for this machine and for the other architecture: the same sources, options and jobs
  part    the sources of one library, compiled across and by an emulated compiler; all of GDAL would take an hour
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.bench import Bench
from jetpare.build import bake
from jetpare.events import figures
from jetpare.project import naming
from jetpare.project.plan import Plan
from jetpare.project.project import host_architecture

OTHER = {"amd64": "linux/arm64", "arm64": "linux/amd64"}
LABEL = "cuda/gdal"


def other_plan(bench: Bench) -> Plan:
    """The plan of the stage for the other architecture."""
    own = host_architecture()
    return bench.project.plan(profile=None, architecture=own, platform=OTHER[own], only=LABEL)


def made(bench: Bench, plan: Plan, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of Options
    """The bake definition of *plan*."""
    return bake.definition(bench.project.config, plan, replace(bench.options(), **changes))


def stage(bench: Bench) -> None:
    """Both cold, with caches of their own; what is timed is the stage: packages, configure, compile, install, check."""
    name, seconds = f"bench{int(time.time())}", []
    for plan in (bench.plan, other_plan(bench)):
        node = plan.node(LABEL)
        bench.bare((node.target,), made(bench, plan))  # what it stands on is there
        definition = made(bench, plan, cache_id=name, rebuild={LABEL: name})
        steps, _ = bench.bare((node.target,), definition)
        mine = figures.summary(steps, stage="gdal", target=node.target, others=set())
        seconds.append(mine.seconds or 0.0)
        print(f"gdal stage for {plan.platform} on {plan.host}: {seconds[-1]:.1f} s", flush=True)
    print(f"across / native: {seconds[1] / seconds[0]:.3f}")


def part(bench: Bench) -> None:
    """The same sources with the same options, for the same target."""
    plan = other_plan(bench)
    definition = made(bench, plan)
    target = definition["target"][plan.node(LABEL).target]
    contexts = {key: target["contexts"][key] for key in ("builder", "gdal-source")}
    contexts["debian"] = f"docker-image://{naming.input_tag(bench.project.config, plan, 'debian')}"
    seconds = {}
    for name in ("across", "emulated"):
        folder = bench.project.state / "cross" / name
        kept = {"CACHE_ID"} | ({"BUILDER_PLATFORM", "CROSS"} if name == "across" else set())
        builder = contexts["builder"] if name == "across" else contexts["debian"]
        definition["target"][f"part-{name}"] = target | {
            "dockerfile": "benchmarks/cross.Dockerfile",
            "target": "part",
            "contexts": contexts | {"builder": builder},
            "args": {"REBUILD": str(time.time_ns()), **{key: target["args"][key] for key in kept}},
            "output": [f"type=local,dest={folder}"],
        }
        bench.bare((f"part-{name}",), definition)
        seconds[name] = float((bench.project.root / folder / "seconds").read_text())
        print(f"part of GDAL's compile for {plan.platform}, {name}: {seconds[name]:.1f} s", flush=True)
    print(f"emulated / across: {seconds['emulated'] / seconds['across']:.1f}")


NAMES = {"stage": stage, "part": part}


def main() -> None:
    """Run what was named; both where nothing was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="stage|part")
    names = parser.parse_args().names or list(NAMES)
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"{unknown[0]}: {' or '.join(NAMES)} is wanted")
    bench = Bench()
    for name in names:
        NAMES[name](bench)


if __name__ == "__main__":
    main()

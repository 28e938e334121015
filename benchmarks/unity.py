"""GDAL compiled in units: how fast, whether it is the same, and what a new version needs.

usage: .venv/bin/python benchmarks/unity.py NAME [--profile NAME] [--rounds N] [--variants WORDS]      with an engine

  find      looks for the sources that clash, and writes scripts/image/gdal-unity/VERSION.txt
  proof     compiles GDAL plainly and in units, and compares the two; exit code 1 where they differ
  race      compiles GDAL cold in several ways, in turns: the plain CMake line, and the stage's
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from jetpare.base import process
from jetpare.build import bake, buildx, network, request, secret_files
from jetpare.build.request import Request
from jetpare.engine import discovery
from jetpare.project.plan import Plan
from jetpare.project.project import Project, host_architecture, open_project, source_revision

ROOT = Path(__file__).parent.parent


def definition(project: Project, plan: Plan, *, name: str, arguments: dict[str, str]) -> dict[str, Any]:
    """The bake definition of one stage of unity.Dockerfile, on the gdal stage built plainly and in units."""
    revision = source_revision(ROOT, dict(os.environ))
    options = request.options(project, plan, Request(task="unity"), run="unity", revision=revision)
    made = bake.definition(project.config, plan, options)
    node = plan.node("cuda/gdal")
    stage = made["target"][node.target] | {"target": "gdal", "output": ["type=cacheonly"]}
    for build in ("plain", "unity"):
        made["target"][f"gdal-{build}"] = stage | {"args": stage["args"] | {"GDAL_BUILD": build}}
    base = "gdal-plain" if name == "find" else "gdal-unity"
    made["target"][name] = stage | {
        "dockerfile": "benchmarks/unity.Dockerfile",
        "target": name,
        "contexts": stage["contexts"]
        | {"gdal": f"target:{base}"}
        | ({"plain": "target:gdal-plain"} if name == "proof" else {}),
        "args": {"CACHE_ID": stage["args"]["CACHE_ID"], "REBUILD": str(time.time_ns()), **arguments},
        "output": [f"type=local,dest={project.state / 'unity'}"],
    }
    return made


def run(project: Project, plan: Plan, *, name: str, arguments: dict[str, str]) -> Path:
    """Build it; the folder that its results came to."""
    running = discovery.find(state=project.state_path, environ=dict(os.environ))
    made = definition(project, plan, name=name, arguments=arguments)
    file = buildx.write_definition(project.root, project.state, made, name=f"unity-{name}")
    result = project.state_path / "unity"
    shutil.rmtree(result, ignore_errors=True)
    command = [*buildx.command(running.docker, file, (name,)), "--progress=plain"]
    with secret_files.build_secrets(project, network.read_settings(dict(os.environ), project.home)):
        process.run(command, env={**running.env, **buildx.ENVIRONMENT}, cwd=project.root)
    return result


def find(result: Path, version: str) -> int:
    """Put the list where the gdal stage finds it."""
    target = ROOT / "scripts/image/gdal-unity" / f"{version}.txt"
    shutil.copyfile(result / "units.txt", target)
    print(f"{target.read_text()}\n{target}: now `benchmarks/unity.py proof` says whether the library is the same")
    return 0


def proof(result: Path, version: str) -> int:
    """Show what was compared; 1 where something differs."""
    del version
    found = json.loads((result / "proof.json").read_text())
    print(json.dumps(found, indent=1))
    return 1 if found["differences"] else 0


def race(result: Path, version: str) -> int:
    """A line for each variant: medians, and their ratio to the reference."""
    del version
    rows = json.loads((result / "race.json").read_text())["results"]
    names = list(dict.fromkeys(row["variant"] for row in rows))
    medians = {
        name: [statistics.median(row[kind] for row in rows if row["variant"] == name) for kind in ("wall", "cpu")]
        for name in names
    }
    first = medians[names[0]]
    for name, (wall, cpu) in medians.items():
        print(f"{name:10} {wall:7.1f} s wall ({wall / first[0]:.3f}), {cpu:7.1f} s CPU ({cpu / first[1]:.3f})")
    return 0


VIEWS = {"find": find, "proof": proof, "race": race}


def main() -> int:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=VIEWS)
    parser.add_argument("--profile")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--variants", default="reference stage")
    chosen = parser.parse_args()
    project = open_project(ROOT, dict(os.environ))
    plan = project.plan(profile=chosen.profile, architecture=host_architecture())
    arguments = {"ROUNDS": str(chosen.rounds), "VARIANTS": chosen.variants}
    if "mold" in chosen.variants:
        arguments["FURTHER_PACKAGES"] = "mold"
    result = run(project, plan, name=chosen.name, arguments=arguments)
    return VIEWS[chosen.name](result, plan.profile.gdal)


if __name__ == "__main__":
    sys.exit(main())

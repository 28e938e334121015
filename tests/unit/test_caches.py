"""What is fetched and compiled once for both images: cache mounts, and what a cold run starts without."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from jetpare.base import process
from jetpare.build.request import Request, options
from jetpare.config.load import load_config
from jetpare.project.project import Project
from jetpare.records.ledger import Record
from tests.conftest import ROOT

DOCKERFILES = sorted((ROOT / "dockerfiles").glob("*.Dockerfile"))
BUILT_ON = {"pruned", "slim"}  # stand on a runtime that was built anew
MOUNT = re.compile(r"--mount=type=cache,(\S+)")


def instructions(file: Path) -> list[str]:
    """The instructions of a Dockerfile, each as one line."""
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return "\n".join(lines).replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.stem)
def test_a_run_of_its_own_cache_id_misses_every_layer(file: Path) -> None:
    stage, declared, runs = "", False, 0
    for line in instructions(file):
        if line.startswith("FROM "):
            stage, declared = line.split()[-1], False
        elif re.match(r"ARG CACHE_ID\b", line):
            declared = True
        elif line.startswith("RUN ") and stage not in BUILT_ON:
            runs += 1
            assert declared, f"{file.name}, stage {stage}: {line}"
    assert runs


@pytest.mark.parametrize(
    "file", [*DOCKERFILES, *sorted((ROOT / "benchmarks").glob("*.Dockerfile"))], ids=lambda file: file.stem
)
def test_caches_are_one_for_all_images_and_taken_in_one_order(file: Path) -> None:
    targets: dict[str, str] = {}
    for line in instructions(file):
        mounts = [dict(item.split("=", 1) for item in words.split(",")) for words in MOUNT.findall(line)]
        assert all(mount["sharing"] == "locked" for mount in mounts), line
        assert [mount["target"] for mount in mounts] in (
            [],
            ["/var/cache/apt", "/var/lib/apt/lists"],
            ["/var/cache/apt", "/var/lib/apt/lists", "/var/cache/pip"],
            ["/var/cache/ccache"],
            ["/var/cache/uv"],
            ["/var/cache/wheels"],
        )
        for mount in mounts:
            assert targets.setdefault(mount["target"], mount["id"]) == mount["id"]
    assert targets["/var/cache/apt"] == "apt-cache-${CACHE_ID}"
    assert targets["/var/lib/apt/lists"] == "apt-lists-${CACHE_ID}"


def test_a_cold_run_is_fresh_alone_and_shares_side_by_side() -> None:
    project = Project(root=ROOT, config=load_config(ROOT / "build.toml"), config_digest="", environ={})
    plan = project.plan(profile="rehearsal", architecture="amd64")

    def chosen(**words: bool) -> tuple[str, int]:
        made = options(project, plan, Request(task="t", **words), run="run1", revision=None)  # type: ignore[arg-type]
        return made.cache_id, len(made.fresh)

    assert chosen() == chosen(parallel=True) == ("shared", 0)
    assert chosen(cold=True) == ("run1", sum(node.baked for node in plan.nodes))
    assert chosen(cold=True, parallel=True) == ("run1", 0)


@pytest.mark.processes
def test_apt_keeps_what_it_fetched(tmp_path: Path) -> None:
    """apt-get, mkdir and rm are stand-ins: the first shows what it is given, the others do nothing."""
    said = tmp_path / "said"
    for name, text in {"apt-get": f'{{ echo "$@"; cat "$2"; }} >>{said}', "mkdir": "", "rm": ""}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    env = {
        "PATH": f"{tmp_path}:/usr/bin:/bin", "TMPDIR": str(tmp_path), "JETPARE_CA": "/none", "JETPARE_NET": "/none",
    }  # fmt: skip
    process.run(["sh", ROOT / "scripts/image/apt-install.sh", "one", "two"], env=env)
    text = said.read_text()
    # -c is read after the base's own settings, APT_CONFIG before them.
    update, install = (line for line in text.splitlines() if line.startswith("-c "))
    assert update.endswith(" update -qq")
    assert install.endswith(" one two")
    for hook in ("DPkg::Post-Invoke", "APT::Update::Post-Invoke"):
        assert text.count(f"#clear {hook};\n") == 2
    for option in ('APT::Keep-Downloaded-Packages "true"', 'APT::Get::List-Cleanup "false"', 'Dir::Cache::pkgcache ""'):
        assert text.count(f"{option};\n") == 2


def test_parallel_is_held_against_the_stages_and_the_critical_path() -> None:
    spec = importlib.util.spec_from_file_location("bench", ROOT / "benchmarks/bench.py")
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    common = {
        "tool": "t", "id": "r", "task": "build-all", "status": "succeeded", "pid": 1, "started": 0.0, "profile": "p",
        "platform": "linux/amd64", "cold": True, "config_digest": "", "revision": None, "host": {}, "engine": {},
    }  # fmt: skip
    rows = [
        {"label": "inputs/debian", "status": "ok"},  # not made by BuildKit: no time of its own
        {"label": "cuda/gdal", "status": "ok", "seconds": 150.0, "steps_cached": 1},
        {"label": "cuda/python", "status": "ok", "seconds": 50.0, "steps_cached": 2},
    ]
    steps = [{"name": "a", "seconds": 60.0}, {"name": "b", "seconds": 20.0}]
    alone = Record.model_validate({**common, "parallel": False, "wall_seconds": 210.0, "stages": rows})
    beside = Record.model_validate(
        {**common, "parallel": True, "wall_seconds": 100.0, "stages": rows, "critical_path": steps}
    )
    assert bench.in_parallel(alone=alone, beside=beside).splitlines() == [
        "one at a time: wall 210.0 s, sum of the stages 200.0 s",
        "--parallel: wall 100.0 s, critical path 80.0 s in 2 steps; 3 steps from the layer cache",
        "wall of --parallel / sum of the stages: 0.500",
        "wall of --parallel / critical path: 1.250",
    ]

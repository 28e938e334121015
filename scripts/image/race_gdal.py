"""Compiles GDAL cold in several ways, in turns, and says what each took: wall time, and CPU time of all its processes.

usage: race_gdal.py --options FILE --source FOLDER --output FILE [--rounds N] [--jobs N] VARIANT...

Runs in the finished gdal stage; --options is the list of CMake options that it left (/opt/report/cmake-options.txt).
The variants are those of VARIANTS. What is timed: configure, compile and install, into folders that are empty before.
The machine may have other work, so ratios of CPU time within one run are what to trust; wall time is told beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Options = list[str]


def reference(options: Options) -> Options:
    """One source at a time and no compiler cache: `cmake -G Ninja` with the same drivers and libraries, and no more."""
    ours = ("-DCMAKE_C_COMPILER_LAUNCHER", "-DCMAKE_CXX_COMPILER_LAUNCHER", "-DCMAKE_PROJECT_INCLUDE", "-DJETPARE_")
    return [option for option in options if not option.startswith(ours)]


def linker(name: str) -> Callable[[Options], Options]:
    """As the stage does it, with another linker."""
    kinds = ("EXE", "SHARED", "MODULE")
    return lambda options: [*options, *(f"-DCMAKE_{kind}_LINKER_FLAGS=-fuse-ld={name}" for kind in kinds)]


VARIANTS: Mapping[str, Callable[[Options], Options]] = {
    "reference": reference,
    "stage": lambda options: options,
    "no-ccache": lambda options: [option for option in options if "COMPILER_LAUNCHER" not in option],
    "mold": linker("mold"),
    "gold": linker("gold"),
}


def timed(command: Sequence[object], environ: Mapping[str, str]) -> dict[str, float]:
    """Run one command; seconds of wall and of CPU."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([str(word) for word in command], env=environ, check=True, stdout=subprocess.DEVNULL)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - begin
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": round(wall, 1), "cpu": round(cpu, 1)}


def build(options: Options, *, source: Path, jobs: int) -> dict[str, dict[str, float]]:
    """Configure, compile and install once, from nothing; the times of each."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        environ = {**os.environ, "CCACHE_DIR": str(work / "ccache"), "DESTDIR": str(work / "stage")}
        return {
            "configure": timed(["cmake", "-S", source, "-B", work / "build", "-G", "Ninja", *options], environ),
            "compile": timed(["ninja", "-C", work / "build", "-j", jobs], environ),
            "install": timed(["cmake", "--install", work / "build", "--strip"], environ),
        }


def main(argv: Sequence[str]) -> None:
    """Let the variants take turns; a line for each as it ends, and all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--options", type=Path, required=True)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("variants", nargs="+", choices=VARIANTS)
    chosen = parser.parse_args(argv)
    options = chosen.options.read_text().splitlines()
    results = []
    for number in range(chosen.rounds):
        for name in chosen.variants:
            steps = build(VARIANTS[name](options), source=chosen.source, jobs=chosen.jobs)
            total = {kind: round(sum(step[kind] for step in steps.values()), 1) for kind in ("wall", "cpu")}
            results.append({"variant": name, "round": number, **total, "steps": steps})
            print(f"{name}: {total['wall']:.1f} s wall, {total['cpu']:.1f} s CPU", flush=True)
    found = {"jobs": chosen.jobs, "cores": os.cpu_count(), "results": results}
    chosen.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Time a command of two checkouts in turn, and say whether this one is slower than the other.

usage: .venv/bin/python benchmarks/versions.py OLD [--aa] [--blocks N] [--runs N] [--seed N] [--tolerance SHARE]
                                               [--samples FILE] [--records N] [--old-root FOLDER] [--] [COMMAND...]

OLD is the folder of the other checkout, with its own .venv. COMMAND (default: plan) is what follows `invoke`. Both run
it on the project of this checkout, or of JETPARE_ROOT; with --records, on a copy that has the newest run that often.
Name another project for OLD with --old-root where the two versions read build.toml or .jetpare differently: they would
make each other's kept results anew.
A block is 1 warm-up and --runs runs of each checkout in turn, in an order decided by the seed. With --aa, OLD runs
against itself first: what differs then is noise. On a machine with other work, CPU time counts. 'undecided' means that
the interval is too wide: take more --blocks (at least 6; benchmarks/false_alarms.py says what how many can find).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path

HERE = Path(__file__).parent.parent
sys.path.insert(0, str(HERE))

from jetpare.base.paired import (  # noqa: E402
    PairedRatio,
    Side,
    Turn,
    estimate,
    in_blocks,
    interleaved,
    noise_floor,
    verdict,
)
from jetpare.records.ledger import Ledger  # noqa: E402

WARMUPS = 1  # of each checkout in each block
MEASURES = ("CPU time", "wall time")


def copied(root: Path, records: int, folder: Path) -> Path:
    """Copy the project in *root* into *folder*, with its newest record *records* times, an hour between two runs.

    They are of another profile, so that who looks for a run of this one has to look at all of them.
    """
    newest = next(Ledger(root / ".jetpare").readable(), None)
    if newest is None:
        sys.exit("No run of this project is recorded. `invoke build-all` makes one.")
    for name in ("build.toml", "dockerfiles", "scripts"):
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        copy(root / name, folder / name)
    for number in range(records):
        began = datetime(2025, 1, 1, tzinfo=timezone.utc) + timedelta(hours=number)
        run = f"{began:%Y%m%d-%H%M%S}"  # as every version reads it
        content = newest.model_dump() | {"id": run, "started": began.timestamp(), "profile": "another"}
        (folder / ".jetpare/runs" / run).mkdir(parents=True)
        (folder / ".jetpare/runs" / run / "run.json").write_text(json.dumps(content, indent=2))
    return folder


Times = tuple[float, ...]  # seconds, one for each of MEASURES


def times(checkout: Path, words: list[str], root: Path) -> Times:
    """Run `invoke` with *words* in *checkout* on the project in *root*, and return its CPU time and its wall time."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    argv = [str(checkout / ".venv/bin/invoke"), *words]
    subprocess.run(
        argv, cwd=checkout, env={**os.environ, "JETPARE_ROOT": str(root)}, stdout=subprocess.DEVNULL, check=True
    )
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def ratios(turns: Sequence[Turn], taken: Sequence[Times]) -> dict[str, PairedRatio]:
    """Return the ratio B/A by each of MEASURES. *taken* has the times of each of *turns*."""
    return {
        name: estimate(in_blocks(turns, [(each[number],) for each in taken]), warmups=WARMUPS)
        for number, name in enumerate(MEASURES)
    }


def line(found: PairedRatio) -> str:
    """Return '0.978 [0.965, 0.991], 96.1 % confidence, 8 blocks'."""
    return (
        f"{found.ratio:.3f} [{found.low:.3f}, {found.high:.3f}], "
        f"{100 * found.confidence:.1f} % confidence, {len(found.blocks)} blocks"
    )


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("--aa", action="store_true")
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--tolerance", type=float, default=0.05)
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--records", type=int, default=0)
    parser.add_argument("--old-root", type=Path)
    parser.add_argument("command", nargs="*", default=["plan"])
    return parser.parse_intermixed_args()


def main() -> None:
    """Print the median of both checkouts, their ratio, and the verdict, by CPU time and by wall time."""
    asked = arguments()
    root = Path(os.environ.get("JETPARE_ROOT") or HERE)
    old, new = asked.old.resolve(), HERE
    roots = {new: root, old: asked.old_root.resolve() if asked.old_root else root}
    turns = interleaved(blocks=asked.blocks, pairs=WARMUPS + asked.runs, seed=asked.seed)
    sessions: dict[str, dict[Side, Path]] = {"old/old": {"A": old, "B": old}} if asked.aa else {}
    sessions["new/old"] = {"A": old, "B": new}
    kept: dict[str, list[Times]] = {}
    print(f"seed {asked.seed} decides the order; {len(turns)} runs in each session", flush=True)
    with ExitStack() as stack:
        if asked.records:
            roots = {
                checkout: copied(root, asked.records, Path(stack.enter_context(tempfile.TemporaryDirectory())))
                for checkout, root in roots.items()
            }
        for name, sides in sessions.items():
            kept[name] = [times(sides[turn.side], asked.command, roots[sides[turn.side]]) for turn in turns]
            for measure, found in ratios(turns, kept[name]).items():
                floor = f"noise floor {noise_floor(found):.1%}"
                said = f"{verdict(found, tolerance=asked.tolerance)} (tolerance {asked.tolerance:.1%})"
                print(f"{measure}, {name}: {line(found)}: {said if name == 'new/old' else floor}", flush=True)
    for number, measure in enumerate(MEASURES):
        for side, name in (("A", "old"), ("B", "new")):
            values = [each[number] for turn, each in zip(turns, kept["new/old"], strict=True) if turn.side == side]
            print(
                f"{measure}, {name}: median {statistics.median(values):.3f} s, {min(values):.3f} to {max(values):.3f} s"
            )
    if asked.samples:
        order = "".join(turn.side for turn in turns)
        asked.samples.write_text(
            json.dumps({"seed": asked.seed, "order": order, "measures": MEASURES, "samples": kept})
        )


if __name__ == "__main__":
    main()

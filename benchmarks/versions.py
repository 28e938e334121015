"""Time a command of two checkouts in turn, so that whatever else the machine does is the same for both.

usage: .venv/bin/python benchmarks/versions.py OLD [--runs N] [--records N] [COMMAND...]

OLD is the folder of the other checkout, with its own .venv. COMMAND (default: plan) is what follows `invoke`. Both run
it on the project of this checkout, or of JETPARE_ROOT; with --records, on a copy that has the newest run that often.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path

HERE = Path(__file__).parent.parent
sys.path.insert(0, str(HERE))

from jetpare.records.ledger import Ledger  # noqa: E402


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


def seconds(checkout: Path, words: list[str], root: Path) -> float:
    """Run `invoke` with *words* in *checkout* on the project in *root*, and return the wall time."""
    began = time.monotonic()
    argv = [checkout / ".venv/bin/invoke", *words]
    subprocess.run(
        argv, cwd=checkout, env={**os.environ, "JETPARE_ROOT": str(root)}, stdout=subprocess.DEVNULL, check=True
    )
    return time.monotonic() - began


def main() -> None:
    """Print the median and the range of both checkouts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--records", type=int, default=0)
    parser.add_argument("command", nargs="*", default=["plan"])
    asked = parser.parse_args()
    root = Path(os.environ.get("JETPARE_ROOT") or HERE)
    with ExitStack() as stack:
        if asked.records:
            root = copied(root, asked.records, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        taken: dict[str, list[float]] = {"old": [], "new": []}
        for _ in range(asked.runs):
            for name, checkout in (("old", asked.old.resolve()), ("new", HERE)):
                taken[name].append(seconds(checkout, asked.command, root))
    for name, found in taken.items():
        print(f"{name}: {statistics.median(found):.2f} s, {min(found):.2f} to {max(found):.2f} s in {len(found)} runs")


if __name__ == "__main__":
    main()

"""How long an audit takes from cached inventories: from the files on disk to the findings.

usage: .venv/bin/python benchmarks/audit.py [--runs N]      from the project's folder, with the rehearsal's images

The inventories are taken first where there are none yet, which is not counted. Exit status 1 over the wanted time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from jetpare.audit import audit, subjects
from jetpare.base.units import size_text
from jetpare.engine import api, discovery
from jetpare.project.project import open_project

WANTED = 10.0  # seconds for an image of 5 GB


def main() -> int:
    """Print the median for each image; 1 if one takes too long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    root = Path(os.environ.get("JETPARE_ROOT") or Path(__file__).parent.parent)
    project = open_project(root, dict(os.environ))
    running = discovery.find(state=project.state_path, environ=dict(os.environ))
    plan = project.plan(profile=None, architecture=api.facts(running).arch)
    slow = False
    for name in plan.images:
        seconds = []
        for _ in range(runs):
            began = time.monotonic()
            held, _missing = subjects.candidates(project, plan, running, [name])
            for candidate in held:
                audit.checked(candidate.subject)  # every check, where `invoke audit` would take the kept answer
            seconds.append(time.monotonic() - began)
        median = statistics.median(seconds)
        slow |= median > WANTED
        for candidate in held:
            size, files = size_text(candidate.inventory.content.bytes), len(candidate.inventory.content.files)
            print(f"{name}: {median:.2f} s, median of {runs} ({size}, {files} names, with the baseline's inventory)")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())

"""How long an audit takes from cached inventories: from the file on disk to the report.

usage: .venv/bin/python benchmarks/audit.py [--runs N]      from the project's folder, with the rehearsal's images

The inventories are taken first where there are none yet, which is not counted. Exit status 1 over the wanted time.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from rich.console import Console

from jetpare.audit import audit
from jetpare.base.units import size_text
from jetpare.engine import api, discovery
from jetpare.project.project import open_project
from jetpare.views import audit_text

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
        taken = audit.run(project, plan, running, images=[name]).subjects
        seconds = []
        for _ in range(runs):
            began = time.monotonic()
            found = audit.run(project, plan, running, images=[name])
            Console(file=io.StringIO(), width=100).print(audit_text.audit(found))
            seconds.append(time.monotonic() - began)
        median = statistics.median(seconds)
        slow |= median > WANTED
        for subject in taken:
            size, files = size_text(subject.inventory.bytes), len(subject.inventory.files)
            print(
                f"{name}: {median:.2f} s, median of {runs} ({size}, {files} names, the baseline's inventory beside it)"
            )
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())

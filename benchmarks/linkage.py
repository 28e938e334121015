"""jetpare's model of the loader against the real one, over every ELF file of an image.

usage: .venv/bin/python benchmarks/linkage.py [--json] IMAGE...      from the project's folder, with an engine

The image's own ld.so runs in a container of it; what is compared is told in tests/real_loader.py. Beside it: what
jetpare makes of the linkage, and in which time. Exit status 1 if a file differs for no known reason.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from jetpare.engine import discovery
from jetpare.image import linkage
from jetpare.image.inventory import Inventory
from jetpare.image.read import inventory_reader
from tests.real_loader import compare_image

ROOT = Path(__file__).parent.parent


def summary(inventory: Inventory) -> dict[str, Any]:
    """What jetpare makes of it, and how long that takes."""
    began = time.monotonic()
    found = linkage.resolve(inventory)
    seconds = time.monotonic() - began
    return {
        "seconds": round(seconds, 2),
        "edges": dict(Counter(edge.status for edge in found.edges)),
        "dlopen names": dict(Counter(each.status for each in found.dlopens)),
        "missing": sorted({f"{edge.user}: {edge.name}" for edge in found.edges if edge.status == "missing"}),
        "missing dlopen names": [f"{each.user}: {each.name}" for each in found.dlopens if each.status == "missing"],
    }


def image(reference: str) -> dict[str, Any]:
    """One image; its inventory is taken where there is none yet."""
    state = ROOT / ".jetpare"
    running = discovery.find(state=state, environ=dict(os.environ))
    inventory = inventory_reader.take(running, reference, state=state)
    return {**compare_image(running, inventory), **summary(inventory)}


def main() -> int:
    """Print the counts; 1 if a file differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args()
    made = {reference: image(reference) for reference in chosen.images}
    if chosen.json:
        print(json.dumps(made, indent=2))
    else:
        for reference, counts in made.items():
            print(reference, *(f"  {name}: {value}" for name, value in counts.items()), sep="\n")
    return int(any(counts["differing"] for counts in made.values()))


if __name__ == "__main__":
    sys.exit(main())

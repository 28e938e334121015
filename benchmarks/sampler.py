"""What the telemetry sampler costs: CPU seconds of its thread per second, on this machine.

Usage: python benchmarks/sampler.py [--seconds 20] [--interval 1.0] [--root FOLDER]

With --root, the sensors of a tree such as tests/unit/test_telemetry.py builds for an AGX Orin are read instead.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from jetpare.board import sensors

LIMIT_PERCENT = 1.0


def main() -> None:
    """Sample for a while, and print the cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--interval", type=float, default=sensors.INTERVAL)
    parser.add_argument("--root", type=Path, default=Path("/"))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "telemetry.jsonl"
        begin = time.monotonic()
        with sensors.Sampler(root=chosen.root, disk=Path(folder), file=file, interval=chosen.interval) as sampler:
            time.sleep(chosen.seconds)
        wall = time.monotonic() - begin
        size = file.stat().st_size
    taken = len(sampler.samples)
    percent = sampler.cpu_seconds / wall * 100
    print(f"{taken} samples in {wall:.1f} s, {size / taken:.0f} bytes each")
    print(f"thread: {sampler.cpu_seconds * 1000:.2f} ms CPU, {sampler.cpu_seconds / taken * 1e6:.0f} µs a sample")
    print(f"cost: {percent:.3f} % of a core (limit {LIMIT_PERCENT:g} %)")
    if percent > LIMIT_PERCENT:
        sys.exit(1)


if __name__ == "__main__":
    main()

"""How long it takes to look into two images, against reading `docker save` of them. Everything within one run.

usage: .venv/bin/python benchmarks/inventory.py [IMAGE ...]      default: both images of this project's profile

The page cache is as it is; the images were just built, or read, on any machine where this makes sense.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from jetpare.base.callbacks import Say  # noqa: E402
from jetpare.base.units import GB  # noqa: E402
from jetpare.engine import api, discovery  # noqa: E402
from jetpare.engine.model import Engine  # noqa: E402
from jetpare.image.inventory import Inventory  # noqa: E402
from jetpare.image.read import answer, in_container, inventory_reader  # noqa: E402
from jetpare.project import naming  # noqa: E402
from jetpare.project.project import host_architecture, open_project  # noqa: E402

MB = 10**6


def images(environ: dict[str, str]) -> list[str]:
    """The tags of the default profile's images."""
    project = open_project(Path(environ.get("JETPARE_ROOT") or ROOT), environ)
    plan = project.plan(profile=None, architecture=host_architecture())
    return [naming.image_tag(project.config, name, plan.profile_name) for name in plan.images]


def take(running: Engine, references: list[str], state: Path) -> tuple[list[Inventory], float, float]:
    """The inventories, and the wall and processor time of this process in seconds."""
    begin, used = time.monotonic(), time.process_time()
    taken = [
        inventory_reader.take(running, each, state=state, say=lambda text: print(f"  {text}")) for each in references
    ]
    return taken, time.monotonic() - begin, time.process_time() - used


def save(running: Engine, references: list[str]) -> tuple[int, float]:
    """Bytes and seconds of reading `docker save` of each image."""
    begin, size = time.monotonic(), 0
    with api.client(running, timeout=3600) as docker:
        calls: Any = docker.api
        for each in references:
            size += sum(len(chunk) for chunk in calls.get_image(each, chunk_size=1 << 20))
    return size, time.monotonic() - begin


def main() -> None:
    """Print all of it."""
    environ = dict(os.environ)
    running = discovery.find(state=ROOT / ".jetpare", environ=environ)
    references = sys.argv[1:] or images(environ)
    ends: list[tuple[int, float]] = []
    gather = answer.gather

    def listening(lines: Iterable[bytes], say: Say) -> answer.Tables:
        """Hears what the collector says of its memory and its time."""

        def heard() -> Iterator[bytes]:
            for line in lines:
                if line.startswith(b'["end"'):
                    ends.append(json.loads(line)[1])
                yield line

        return gather(heard(), say)

    setattr(in_container, "gather", listening)  # noqa: B010 - the name is that module's by import
    with tempfile.TemporaryDirectory(prefix="jetpare-bench-") as folder:
        taken, cold, cold_used = take(running, references, Path(folder))
        _, warm, warm_used = take(running, references, Path(folder))
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for reference, each in zip(references, taken, strict=True):
        print(f"{reference}: {each.bytes / GB:.2f} GB, {len(each.files)} names, {len(each.elfs)} ELF, by {each.how}")
    inside = sum(seconds for _, seconds in ends)
    print(f"cold: {cold:.1f} s; of a processor: {inside:.1f} s in containers, {cold_used:.1f} s here")
    print(f"from cache: {warm:.2f} s; of a processor: {warm_used:.2f} s")
    print(
        f"memory: {host * 1024 / MB:.0f} MB here, {max((kib for kib, _ in ends), default=0) * 1024 / MB:.0f} MB there"
    )
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} (what else runs counts)")
    size, seconds = save(running, references)
    print(f"docker save: {size / GB:.2f} GB read in {seconds:.1f} s: {seconds / cold:.1f} times as long")


if __name__ == "__main__":
    main()

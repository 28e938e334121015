"""Write what a tree holds as JSON lines. Runs inside any container: Python 3.8, standard library only."""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from typing import Any

from jetpare.image.collector import limits
from jetpare.image.collector.databases import ImageTree, distributions, loader_cache, loader_dirs, packages, texts
from jetpare.image.collector.tree import contents, first_names, look_all, scan, shared_sizes

# --- everything together


def tables(
    entries: list[limits.TreeEntry], looks: dict[str, limits.Look], faults: list[str]
) -> Iterator[limits.TableRows]:
    """The tables of an Inventory, as (name, rows); rows of the order of its columns, or objects with named columns."""
    first = first_names(entries)
    files = contents(entries)
    several = shared_sizes(files)
    digests = {file.path: looks.get(file.path, {}).get("digest") for file in files if file.size in several}
    entries = sorted(entries, key=lambda entry: entry.path)
    yield "files", [_file_row(entry, first, digests) for entry in entries]

    tree = ImageTree(entries, {path: seen["content"] for path, seen in looks.items() if "content" in seen})
    yield "elfs", [_elf_row(path, looks[path]["elf"]) for path in sorted(looks) if "elf" in looks[path]]
    yield "packages", list(packages(tree, faults))
    yield "distributions", list(distributions(tree, faults))
    yield "loader_dirs", loader_dirs(tree)
    yield "loader_cache", loader_cache(tree.read("/etc/ld.so.cache") or b"", faults)
    yield "interpreters", [[path, looks[path]["script"]] for path in sorted(looks) if "script" in looks[path]]
    yield (
        "mentions",
        [[path, line, text] for path in sorted(looks) for line, text in looks[path].get("mentions", ())],
    )
    yield "texts", list(texts(tree, faults))
    yield (
        "faults",
        faults
        + tree.faults
        + [f"{path}: {fault}" for path in sorted(looks) for fault in looks[path].get("faults", ())],
    )


def _file_row(entry: limits.TreeEntry, first: dict[Any, str], digests: dict[str, str | None]) -> list[Any]:
    name = entry.path if entry.inode is None else first[entry.inode]
    return [*entry[:7], None if name == entry.path else name, digests.get(name)]


def _elf_row(path: str, elf: dict[str, Any]) -> dict[str, Any]:
    """With its path; auditwheel uses patchelf on all that it puts into a *.libs folder."""
    return {"path": path, **elf, "patched": elf["patched"] or ".libs/" in path}


# --- inside a container


def collect(root: str, tell: Callable[[int, int], None]) -> Iterator[limits.TableRows]:
    """The tables of the tree below *root*, which is '' for the real one."""
    faults: list[str] = []
    entries = scan(root, faults)
    files = contents(entries)
    tell(0, len(files))
    looks = look_all(root, files, lambda done: tell(done, len(files)))
    yield from tables(entries, looks, faults)


def main() -> None:
    """Read / and write the tables to stdout: a line of JSON for each (name, some rows); "end" is the last one.

    It tells of the memory in KiB, of this process and its largest helper, and of the seconds of a processor.
    """
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # nothing else writes there

    def line(name: str, rows: Any) -> None:  # noqa: ANN401
        out.write(json.dumps([name, rows], separators=(",", ":")) + "\n")

    def tell(done: int, total: int) -> None:
        line("progress", [done, total])
        out.flush()

    for name, rows in collect("", tell):
        for start in range(0, len(rows), limits.ROWS):
            line(name, rows[start : start + limits.ROWS])
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    line("end", [sum(each.ru_maxrss for each in used), sum(each.ru_utime + each.ru_stime for each in used)])
    out.flush()
    sys.stderr.flush()

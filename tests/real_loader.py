"""The real loader beside the model: what ld.so says of a file, read from its own account, and what `jetpare.image.loader` says.

Compared is each object that would be loaded, in order, who asked for it by which name, by which rule and under which path
it was found, each name that is not found, and each version that is missing.
"""

from __future__ import annotations

import posixpath
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jetpare.engine.model import Engine
from jetpare.image.inventory import Elf, Inventory
from jetpare.image.linkage import unmet
from jetpare.image.loader import Loader, Process, SearchRule

SECONDS = 600
# One file a line of the input.
LIST = """
while IFS= read -r file; do
  printf '\\n@ %s\\n' "$file"
  LD_TRACE_LOADED_OBJECTS=1 LD_DEBUG=files,libs "$1" "$file" 2>&1
  printf '\\n# %s\\n' $?
done
"""
RULES = {
    "RPATH": "rpath",
    "RUNPATH": "runpath",
    "LD_LIBRARY_PATH": "LD_LIBRARY_PATH",
    "system search path": "default",
}
NEEDED = re.compile(r"file=(.+) \[0\];  needed by (.+) \[0\]")
MAPPED = re.compile(r"file=(.+) \[0\];  generating link map")
SEARCH = re.compile(r" search path=.*\t\t\((.+?)(?: from file .*)?\)")
VERSION = re.compile(r"version `(.+)' not found \(required by (.+?)\)")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a loader makes of one file. ``loaded``: who asked, for which name, by which rule it was found, and where."""

    loaded: tuple[tuple[str, str, str, str], ...] = ()
    absent: tuple[str, ...] = ()
    versions: frozenset[tuple[str, str]] = frozenset()  # version, the path of whoever wants it
    refused: str = ""  # why nothing is loaded at all


def listed(lines: Sequence[str]) -> Listing:
    """What ld.so says of one file; the last line is its exit status."""
    loaded: list[tuple[str, str, str, str]] = []
    absent: list[str] = []
    versions: set[tuple[str, str]] = set()
    user = name = rule = path = ""
    for raw in lines:
        line = re.sub(r"^ *\d+:\t", "", raw)
        if needed := NEEDED.match(line):
            name, user = needed.groups()
            rule, path = "path", name
        elif search := SEARCH.match(line):
            rule = RULES[search[1]]
        elif line.startswith(" search cache="):
            rule = "cache"
        elif line.startswith("  trying file="):
            path = line.partition("=")[2]
        elif (mapped := MAPPED.match(line)) and user:
            loaded.append((user, mapped[1], rule, path))
        elif line.endswith(" => not found"):
            absent.append(line.strip().removesuffix(" => not found"))
        elif wanted := VERSION.search(line):
            versions.add((wanted[1], wanted[2]))
    stopped = [line for line in lines if "error while loading shared libraries: " in line]
    refused = "" if lines[-1] == "# 0" or versions else (stopped[0] if stopped else lines[-1])
    return Listing(loaded=tuple(loaded), absent=tuple(absent), versions=frozenset(versions), refused=refused)


def modelled(loader: Loader, elf: Elf) -> Listing:
    """What the model says of one file. ld.so is not setuid when it is asked, whatever the file is."""
    if why := loader.why_not(elf):
        return Listing(refused=why)
    process = loader.start(elf, secure=False)
    called = headings(loader, process)
    loaded = (
        (
            each.parent.found,
            each.name,
            called.get((each.rule, posixpath.dirname(each.found)), str(each.rule)),
            each.found,
        )
        for each in process.objects
        if each.parent is not None
    )
    return Listing(
        loaded=tuple(loaded),
        absent=tuple(need.name for need in process.needs if not need.object),
        versions=frozenset(
            (version, user.found)
            for user in process.objects
            for name in user.elf.versions_needed.keys() & process.names.keys()
            for version in unmet(user.elf, name, process.names[name].elf)
        ),
        refused=next((need.wrong[1] for need in process.needs if need.wrong), ""),
    )


def headings(loader: Loader, process: Process) -> Mapping[tuple[SearchRule | None, str], str]:
    """What ld.so calls a rule and its folder: it knows each folder by the first search path from which it was read."""
    root = process.root
    paths: list[tuple[SearchRule, tuple[str, ...]]] = [("default", loader.search.default), ("runpath", root.runpath)]
    paths += [("rpath", root.rpath), ("LD_LIBRARY_PATH", process.environment)]
    for each in process.objects[1:]:
        paths += [("rpath", each.rpath), ("runpath", each.runpath)]
    first: dict[str, SearchRule] = {}
    called: dict[tuple[SearchRule | None, str], str] = {}
    for rule, folders in paths:
        for folder in folders:
            called[rule, folder] = first.setdefault(folder, rule)
    return called


def split(text: str) -> Iterator[tuple[str, list[str]]]:
    """The output of LIST, file by file."""
    for part in text.split("\n@ ")[1:]:
        path, *lines = part.splitlines()
        yield path, [line for line in lines if line]


def explained(elf: Elf, model: Listing, real: Listing) -> str | None:
    """Why the two may differ, where that is no fault of the model."""
    if real.refused and not elf.needed and model == Listing():
        return "no dynamic section, or an empty one: nothing that a loader could do"
    return None


def differences(model: Listing, real: Listing) -> list[str]:
    """What one has and the other has not."""
    found = [f"model: {model.refused}; ld.so: {real.refused}"] if model.refused != real.refused else []
    for name in ("loaded", "absent", "versions"):
        mine, theirs = list(getattr(model, name)), list(getattr(real, name))
        if mine != theirs:
            found.append(f"{name}, model alone: {[each for each in mine if each not in theirs]}")
            found.append(f"{name}, ld.so alone: {[each for each in theirs if each not in mine]}")
    return found


def compare(inventory: Inventory, said: str) -> dict[str, Any]:
    """Both over every ELF file of *inventory*: counts, and the files that differ."""
    loader = Loader(inventory)
    real = {path: listed(lines) for path, lines in split(said)}
    reasons: Counter[str] = Counter()
    differing: dict[str, list[str]] = {}
    for elf in inventory.elfs:
        model, other = modelled(loader, elf), real.get(elf.path, Listing(absent=("ld.so was not asked",)))
        if model == other or (model.refused and other.refused):
            reasons["equal"] += 1
        elif why := explained(elf, model, other):
            reasons[why] += 1
        else:
            differing[elf.path] = differences(model, other)
    return {
        "files": len(inventory.elfs),
        "needed": sum(len(elf.needed) for elf in inventory.elfs),
        "loaded": sum(len(each.loaded) for each in real.values()),
        "by rule": dict(Counter(rule for each in real.values() for _, _, rule, _ in each.loaded)),
        "not found": sum(len(each.absent) for each in real.values()),
        "refused": sum(bool(each.refused) for each in real.values()),
        "outcome": dict(reasons),
        "differing": differing,
    }


def ask(argv: Sequence[str], inventory: Inventory, env: Mapping[str, str], cwd: str | None = None) -> str:
    """What ld.so says of every ELF file; *argv* starts a shell that runs LIST."""
    paths = "".join(f"{elf.path}\n" for elf in inventory.elfs)
    done = subprocess.run(
        argv,
        input=paths,
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def compare_image(running: Engine, inventory: Inventory) -> dict[str, Any]:
    """`compare` with the ld.so of an image, in a container without network or privileges, its root read-only."""
    path = Loader(inventory).interpreter or ""
    closed = ["--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    run = [running.docker, "run", "-i", "--rm", *closed, "--memory", "2g", "--pids-limit", "100", "--entrypoint"]
    said = ask([*run, "/bin/sh", inventory.image_id, "-c", LIST, "sh", path], inventory, running.env)
    return compare(inventory, said)

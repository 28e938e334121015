"""Digest what decides a stage's result, so that two runs that did the same work can be told."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jetpare.base.files import digest
from jetpare.build.bake import call_targets
from jetpare.project.naming import BASE_SETTINGS, DOWNLOADS, LABEL_REVISION, REBUILD_PREFIX
from jetpare.project.plan import Node
from jetpare.records.ledger import order

NO_ARGUMENTS: Mapping[str, str] = MappingProxyType({})


def inputs_digest(root: Path, content: Mapping[str, Any], node: Node) -> str:
    """Return a digest of everything in the project that decides what building *node* gives.

    It covers its target and those it links to, without outputs, cache ids, the commit and what only asks for a stage to
    be built again; the stages of their Dockerfiles that they are made of, and what these take from the project; the
    content of folders, wherever they are. A base's settings are left out: they follow from the base. Two runs with the
    same digest did the same work, on any machine and in any checkout; after a difference BuildKit may still find much
    in its cache.
    """
    found = hashlib.sha256()
    taken: set[Path] = set()
    for target in sorted(_linked(content["target"], node.target)):
        table = dict(content["target"][target])
        kept = {key: table[key] for key in ("target", "platforms", "dockerfile") if key in table}
        kept["labels"] = {key: value for key, value in table.get("labels", {}).items() if key != LABEL_REVISION}
        arguments: dict[str, str] = table.get("args", {})
        kept["args"] = {
            key: value for key, value in arguments.items() if key != "CACHE_ID" and not key.startswith(REBUILD_PREFIX)
        }
        kept["contexts"] = {
            name: _content(root, context)
            for name, context in table.get("contexts", {}).items()
            if name != BASE_SETTINGS
        }
        found.update(json.dumps(kept, sort_keys=True).encode())
        dockerfile = root / str(table.get("dockerfile", ""))
        if dockerfile.is_file():
            text = stages_text(dockerfile.read_text(encoding="utf-8"), str(table.get("target", "")), arguments)
            found.update(text.encode())
            taken.update(path for name in project_sources(text) for path in _files(root, name))
    for path in sorted(taken):
        found.update(f"{path.relative_to(root)}\0{_file_content(path)}\n".encode(errors="surrogateescape"))
    return f"sha256:{found.hexdigest()}"


def stages_text(dockerfile: str, target: str, arguments: Mapping[str, str] = NO_ARGUMENTS) -> str:
    """Return what is before the first FROM, and the stages that *target* is made of; all of it if there is no such."""
    head, named = _parts(dockerfile)
    wanted = stages_of(dockerfile, target, arguments)
    return head + "".join(part for name, part in named.items() if name in wanted) if wanted else dockerfile


def stages_of(dockerfile: str, target: str, arguments: Mapping[str, str] = NO_ARGUMENTS) -> tuple[str, ...]:
    """Return the names of the stages that *target* is made of, itself first; none if there is no such stage.

    A stage that is named by way of an argument (FROM x-${NAME}) is the one that *arguments*, or its default, says.
    """
    head, named = _parts(dockerfile)
    values = {**dict(re.findall(r"(?im)^ARG\s+(\w+)=(\S*)", head)), **arguments}
    wanted = [target] if target in named else []
    for stage in wanted:  # grows while it is walked
        text = re.sub(r"\$\{(\w+)\}", lambda match: values.get(match[1], ""), named[stage])
        sources = re.findall(r"(?im)^FROM\s+(?:--\S+\s+)*(\S+)|\bfrom=([^\s,]+)", text)
        wanted += [one for pair in sources for one in pair if one in named and one not in wanted]
    return tuple(wanted)


def _parts(dockerfile: str) -> tuple[str, dict[str, str]]:
    """Return what is before the first FROM, and the text of each stage that has a name."""
    head, *parts = re.split(r"(?im)^(?=FROM\s)", dockerfile)
    return head, {match[1]: part for part in parts if (match := re.match(r"(?i)FROM\s.*\sAS\s+(\S+)", part))}


def own_stages(root: Path, content: Mapping[str, Any], nodes: Iterable[Node]) -> dict[str, frozenset[str]]:
    """Return, by label, the stages of a Dockerfile that belong to each of *nodes*, which are in the plan's order.

    Those are what its targets are made of, without what the nodes that it needs are made of. So a helper stage, such as
    one that only another stage copies from, belongs to the first node that needs it.
    """
    made: dict[str, frozenset[str]] = {}
    own: dict[str, frozenset[str]] = {}
    groups: dict[str, str] = {}
    for node in nodes:
        names: set[str] = set()
        for target in call_targets(node):
            table = content["target"][target]
            text = (root / str(table["dockerfile"])).read_text(encoding="utf-8")
            names.update(stages_of(text, str(table["target"]), table.get("args", {})))
        needed = (made[need] for need in node.needs if groups.get(need) == node.group)
        own[node.label] = frozenset(names).difference(*needed)
        made[node.label], groups[node.label] = frozenset(names), node.group
    return own


def only_builds(dockerfile: str, target: str) -> bool:
    """Say whether every command of the stages that *target* is made of runs on the builder, none on the target."""
    stages = re.split(r"(?im)^(?=FROM\s)", stages_text(dockerfile, target))[1:]
    return all("${BUILDER_PLATFORM}" in stage.splitlines()[0] for stage in stages if re.search(r"(?m)^RUN\s", stage))


def project_sources(dockerfile: str) -> list[str]:
    """Return what a Dockerfile's bind mounts, COPYs and ADDs take from the project itself: paths and patterns.

    A script sees nothing but what is mounted next to it, so these are all the files that decide what a stage does.
    """
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    instructions = re.sub(r"\\\s*\n", " ", "\n".join(lines)).splitlines()
    found: list[str] = []
    for instruction in instructions:
        word, _, rest = instruction.strip().partition(" ")
        if word.upper() == "RUN":
            mounts = (dict(_pairs(options)) for options in re.findall(r"--mount=(\S+)", rest))
            own = (mount for mount in mounts if mount.get("type", "bind") == "bind" and "from" not in mount)
            found += [mount.get("source") or mount.get("src") or "." for mount in own]
        elif word.upper() in {"COPY", "ADD"} and not re.search(r"--from=", rest):
            words = re.sub(r"--\S+\s+", "", rest).strip()
            names = json.loads(words) if words.startswith("[") else words.split()
            found += [name for name in names[:-1] if "://" not in name and not name.startswith("<<")]
    return list(dict.fromkeys(found))


def _pairs(options: str) -> Iterator[tuple[str, str]]:
    """Yield the options of a mount: 'type=bind,source=x,readonly'."""
    for option in options.split(","):
        key, _, value = option.partition("=")
        yield key.lower(), value


def _files(root: Path, pattern: str) -> Iterator[Path]:
    """Yield the files that *pattern* names below *root*, those in folders too."""
    name = pattern.strip("/")
    for path in [root / name] if (root / name).exists() else root.glob(name or "*"):
        yield from (each for each in (path.rglob("*") if path.is_dir() else [path]) if _counts(each))


def _counts(path: Path) -> bool:
    """Say whether *path* is a file that a build sees: not bytecode that Python left in the project."""
    return path.is_file() and "__pycache__" not in path.parts


def newest_rebuild(content: Mapping[str, Any], node: Node) -> str:
    """Return the newest run that was to build again a stage of which *node* is made; '' for none."""
    arguments = content["target"][node.target].get("args", {})
    runs = (value for key, value in arguments.items() if key.startswith(REBUILD_PREFIX))
    return max(runs, key=order, default="")


def _content(root: Path, context: str) -> str:
    """Return what identifies the content of a build context, which is *context* itself where it is not a folder."""
    folder = root / context
    if ":" in context or _is_download(folder):
        return context
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file()):
        found.update(f"{path.relative_to(folder)}\0{_file_content(path)}\n".encode(errors="surrogateescape"))
    return f"sha256:{found.hexdigest()}"


def _is_download(folder: Path) -> bool:
    """Return whether *folder* is named for the checksum of the one file that it holds, or will hold."""
    return folder.parent.name == DOWNLOADS and re.fullmatch(r"[0-9a-f]{64}", folder.name) is not None


def _file_content(path: Path) -> str:
    """Return what git keeps of a file: where a link points to; otherwise the content, and whether it can be run."""
    if path.is_symlink():
        return f"link {path.readlink()}"
    known = path.stat()
    runs = "x" if known.st_mode & stat.S_IXUSR else "-"
    return f"{runs} {_checksum(path, (known.st_ino, known.st_size, known.st_mtime_ns))}"


@cache
def _checksum(path: Path, _stamp: tuple[int, int, int]) -> str:
    """Return the file's checksum, computed once as long as its *_stamp* stays the same: wheels have gigabytes."""
    return digest(path)


def _linked(targets: Mapping[str, Any], target: str) -> set[str]:
    found = {target}
    for name, context in targets[target].get("contexts", {}).items():
        if context.startswith("target:") and name != BASE_SETTINGS:
            found |= _linked(targets, context.removeprefix("target:"))
    return found

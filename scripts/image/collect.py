"""Collects the files that match patterns into one tree, links kept, and writes down what it took.

usage: COLLECT='usr/lib/*/libfoo*.so*
       opt/maybe/* ?' collect.py [--root /] [--stage /opt/stage]

COLLECT holds one pattern a line, relative to the root; a trailing `` ?`` marks one that may match nothing. Every
other pattern must match, or nothing is written and all that did not are named. A file goes to the same path in the
tree, but below its real parent folders (usr/local/cuda is a link in JetPack's images), a link stays a link, and what
it points at comes with it, link by link. Folders are taken with all they hold.

Leaves, in the tree:
  usr/share/jetpare/cudnn.tsv    path, type, size in bytes, soname, real path, link target; a header, then a line each
  etc/ld.so.conf.d/00-jetpare-libraries.conf    folders of shared libraries that the loader does not search by itself
"""

from __future__ import annotations

import argparse
import glob
import os
import shutil
import sys
from pathlib import Path, PurePosixPath

import elf

MANIFEST = "usr/share/jetpare/cudnn.tsv"
LOADER = "etc/ld.so.conf.d/00-jetpare-libraries.conf"
COLUMNS = ("path", "type", "size", "soname", "real_path", "target")
MAX_LINKS = 40  # as in Linux


class Refused(Exception):  # noqa: N818 - what happened, in a word
    """A pattern, or what it matches, cannot be collected."""


def main(argv: list[str]) -> int:
    """Collect; exit 1 with every fault named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("/"))
    parser.add_argument("--stage", type=Path, default=Path("/opt/stage"))
    args = parser.parse_args(argv)
    try:
        rows = collect(os.environ.get("COLLECT", ""), root=args.root.resolve(), stage=args.stage)
    except Refused as error:
        print(f"collect: {error}", file=sys.stderr)
        return 1
    total = sum(int(row["size"]) for row in rows)
    print(f"collected {len(rows)} files and links, {total} bytes")
    return 0


def collect(text: str, *, root: Path, stage: Path) -> list[dict[str, str]]:
    """Copy what the patterns in *text* match below *root* into *stage*; the manifest's rows. Refused when it cannot."""
    matches, missing = match(text, root)
    if missing:
        raise Refused("these patterns match nothing: " + ", ".join(missing))
    taken: set[Path] = set()
    for path in matches:
        take(path, root, taken)
    for path in sorted(taken):
        copy(path, root, stage)
    rows = [describe(path, root) for path in sorted(taken) if not is_folder(path)]
    write_manifest(rows, stage / MANIFEST)
    write_loader(rows, stage / LOADER)
    return rows


def match(text: str, root: Path) -> tuple[list[Path], list[str]]:
    """What the patterns match, and those that match nothing but should. Refused for one that could leave *root*."""
    matches: list[Path] = []
    missing: list[str] = []
    patterns = [line.strip() for line in text.splitlines() if line.strip()]
    if not patterns:
        raise Refused("no patterns in COLLECT")
    for line in patterns:
        optional = line.endswith(" ?")
        pattern = line[:-2].strip() if optional else line
        if pattern.startswith("/") or ".." in PurePosixPath(pattern).parts:
            raise Refused(f"{pattern}: patterns are relative to the root and hold no '..'")
        found = sorted(expand(pattern, root))
        if not found and not optional:
            missing.append(pattern)
        matches += found
    return matches, missing


def expand(pattern: str, root: Path) -> list[Path]:
    """What *pattern* names below *root*. Links on the way resolve inside it: *root* need not be where programs run."""
    places = [root]
    parts = PurePosixPath(pattern).parts
    for number, part in enumerate(parts):
        rest = "/".join(parts[number:]) if part == "**" else part
        # glob.glob, and not Path.glob: that one does not see a link whose target is missing
        places = [
            place / name
            for place in places
            for name in glob.glob(rest, root_dir=rooted(place, root), recursive=True)  # noqa: PTH207
        ]
        if part == "**":
            break
    return places


def take(path: Path, root: Path, taken: set[Path]) -> None:
    """Add *path*, by its real parent folders, and all that it points at or holds, to *taken*."""
    path = rooted(path.parent, root) / path.name
    if path in taken:
        return
    if not os.path.lexists(path):
        raise Refused(f"{path} is what a link points at, and is not there")
    taken.add(path)
    if path.is_symlink():
        take(follow(path, root), root, taken)
    elif path.is_dir():
        for child in path.iterdir():
            take(child, root, taken)


def rooted(path: Path, root: Path) -> Path:
    """*path* with its links resolved as they resolve inside *root*. Refused when it leaves the root."""
    real = root
    for part in path.relative_to(root).parts:
        real = real / part
        hops = 0
        while real.is_symlink():
            real = rooted(follow(real, root), root)
            hops += 1
            if hops > MAX_LINKS:
                raise Refused(f"{path}: too many links")
    return real


def follow(link: Path, root: Path) -> Path:
    """Where *link* points, inside *root* (an absolute target starts there)."""
    target = str(link.readlink())
    base = root if target.startswith("/") else link.parent
    path = Path(os.path.normpath(base / target.lstrip("/")))
    if path != root and root not in path.parents:
        raise Refused(f"{link} points out of the root: {target}")
    return path


def is_folder(path: Path) -> bool:
    """A folder itself, not a link to one."""
    return path.is_dir() and not path.is_symlink()


def copy(path: Path, root: Path, stage: Path) -> None:
    """Copy one file, link or empty folder to its place in the tree, with its mode and time."""
    target = stage / path.relative_to(root)
    if is_folder(path):
        target.mkdir(parents=True, exist_ok=True)
        shutil.copystat(path, target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, target, follow_symlinks=False)


def describe(path: Path, root: Path) -> dict[str, str]:
    """The manifest's row for one file or link."""
    link = path.is_symlink()
    values = (
        "/" + str(path.relative_to(root)),
        "link" if link else "file",
        "0" if link else str(path.lstat().st_size),
        "" if link else elf.soname(path),
        "/" + str(rooted(path, root).relative_to(root)),
        str(path.readlink()) if link else "",
    )
    return dict(zip(COLUMNS, values))  # noqa: B905 - both are six long, and `strict` is not in every base's Python


def write_manifest(rows: list[dict[str, str]], path: Path) -> None:
    """A header and a line for each row, tab-separated."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(COLUMNS), *("\t".join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def write_loader(rows: list[dict[str, str]], path: Path) -> None:
    """Name the folders that hold collected libraries, except those that the loader always searches."""
    folders = {PurePosixPath(row["path"]).parent for row in rows if row["soname"]}
    named = sorted(str(folder) for folder in folders if not searched(folder))
    if named:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(named) + "\n")


def searched(folder: PurePosixPath) -> bool:
    """Whether Debian's and Ubuntu's loader searches *folder* with no configuration of ours."""
    inside = folder.parts[1:]
    if inside[:1] == ("usr",):
        inside = inside[1:]
    return inside == ("lib",) or (inside[:1] == ("lib",) and inside[-1].endswith("-linux-gnu"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

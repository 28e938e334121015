"""Checks that a virtual environment holds exactly what was asked for, and writes down what that is.

usage: check_python.py --venv /opt/venv --report python.json [--cuda 1] [--provided 'nvidia-* triton']
                       [--indexes URL...] [--uv VERSION] [--machine aarch64] -- torch==2.8.0 ...

Run by a Python whose environment has pip, and of the same version as the one checked: what a requirement means is
read with pip's own copy of `packaging`. Exit 1, with every fault named, when a version differs from its pin, a
distribution is there that nothing asked for, a dependency is neither installed nor provided, or torch was not built for
CUDA although it had to be. Nothing is imported from the environment: torch's libraries need not be there yet.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
from fnmatch import fnmatchcase
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Installed = dict[str, metadata.Distribution]


def main(argv: list[str]) -> int:
    """Check, record, and say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--uv", default="")
    parser.add_argument("--cuda", choices=("0", "1", ""), default="0")
    parser.add_argument("--provided", default="")
    parser.add_argument("--indexes", default="")
    parser.add_argument("--machine", default=platform.machine(), help="what the packages are for")
    parser.add_argument("requirements", nargs="+")
    args = parser.parse_args(argv)

    (site,) = args.venv.glob("lib/python3*/site-packages")
    found = {canonicalize_name(dist.metadata["Name"]): dist for dist in metadata.distributions(path=[str(site)])}
    wanted = [Requirement(text) for text in args.requirements]
    faults = [*pins(wanted, found), *dependencies(found, args.provided.split(), args.machine)]
    if args.cuda == "1":
        faults += cpu_torch(site, found)
    record = {
        "schema": 1,
        "python": platform.python_version(),
        "uv": args.uv,
        "requirements": args.requirements,
        "provided": args.provided.split(),
        "indexes": [without_credentials(url) for url in args.indexes.split()],
        "distributions": {name: {"version": dist.version, "bytes": size(dist)} for name, dist in sorted(found.items())},
        "torch_cuda": torch_cuda(site),
        "faults": faults,
    }
    args.report.write_text(json.dumps(record, indent=1) + "\n")
    for fault in faults:
        print(f"check_python: {fault}", file=sys.stderr)
    return 1 if faults else 0


def pins(wanted: Sequence[Requirement], found: Installed) -> Iterator[str]:
    """Faults of the versions: what was asked for and is not so, and what nothing asked for."""
    for requirement in wanted:
        dist = found.get(canonicalize_name(requirement.name))
        if dist is None:
            yield f"{requirement} is not installed"
        elif not requirement.specifier.contains(dist.version, prereleases=True):
            yield f"{requirement} was asked for, {dist.version} is installed"
    for name in sorted(found.keys() - {canonicalize_name(requirement.name) for requirement in wanted}):
        yield f"{name} {found[name].version} is installed, and no requirement names it"


def dependencies(found: Installed, provided: Sequence[str], machine: str) -> Iterator[str]:
    """Faults of what the installed distributions say they need."""
    for name, dist in sorted(found.items()):
        for text in dist.requires or ():
            need = Requirement(text)
            if need.marker is not None and not need.marker.evaluate({"extra": "", "platform_machine": machine}):
                continue
            key = canonicalize_name(need.name)
            if any(fnmatchcase(key, canonicalize_name(pattern)) for pattern in provided):
                continue
            if key not in found:
                yield f"{name} needs {need}: pin it in the requirements, or name it as provided"
            elif not need.specifier.contains(found[key].version, prereleases=True):
                yield f"{name} needs {need}, {found[key].version} is installed"


def cpu_torch(site: Path, found: Installed) -> Iterator[str]:
    """Faults of a torch that must have been built for CUDA."""
    dist = found.get("torch")
    if dist is None:
        yield "CUDA was asked for, and torch is not installed"
        return
    if "+cpu" in dist.version or torch_cuda(site) is None:
        yield f"torch {dist.version} is a CPU build (its version.py names no CUDA): look at the index it came from"
    if not (site / "torch/lib/libtorch_cuda.so").is_file():
        yield f"torch {dist.version} has no lib/libtorch_cuda.so"


def torch_cuda(site: Path) -> str | None:
    """The CUDA version that torch was built with, from its version.py; None for a CPU build or none."""
    path = site / "torch/version.py"
    if not path.is_file():
        return None
    match = re.search(r"^cuda\b[^=]*= *['\"]([\d.]+)['\"]", path.read_text(), re.MULTILINE)
    return match[1] if match else None


def size(dist: metadata.Distribution) -> int:
    """Bytes on disk of the files that a distribution's record names."""
    paths = (Path(str(file.locate())) for file in dist.files or ())
    return sum(path.lstat().st_size for path in paths if path.exists())


def without_credentials(url: str) -> str:
    """*url* with no user name and no password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Lays NVIDIA's wheels out at JetPack's paths, so that libraries stand where the real base has them.

usage: nvidia-wheels.py {runtime|devel|all} WHEELS [--root /] [--cuda /usr/local/cuda-12.6] [--machine aarch64]

The wheels hold one file a library, named by its soname (libcudnn.so.9). JetPack holds libcudnn.so.9.10.2 with the link
libcudnn.so.9, and, where one develops, libcudnn.so and the headers. For the stand-in bases, ``runtime`` writes what
l4t-cuda has; ``devel`` adds what only l4t-jetpack has: cuDNN, CUPTI, nvToolsExt, headers, development links and static
libraries. ``all`` writes all that the wheels hold.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

CUDA = "/usr/local/cuda-12.6"
DEVEL_ONLY = frozenset({"nvidia_cudnn_cu12", "nvidia_cuda_cupti_cu12", "nvidia_nvtx_cu12"})
SHARED = re.compile(r"(?P<name>lib.+?)\.so\.(?P<major>[\d.]+)$")


def main(argv: list[str]) -> int:
    """Write one of the two layouts; exit 1 when the wheels are not the ones it expects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("runtime", "devel", "all"))
    parser.add_argument("wheels", type=Path)
    parser.add_argument("--root", type=Path, default=Path("/"))
    parser.add_argument("--cuda", type=PurePosixPath, default=PurePosixPath(CUDA), help="where CUDA stands in the root")
    parser.add_argument("--machine", default=platform.machine(), help="what the libraries are for")
    args = parser.parse_args(argv)
    place = Place(args.root, args.root / args.cuda.relative_to("/"), args.machine)
    wheels = sorted(args.wheels.glob("*.whl"))
    if not wheels:
        print(f"no wheels in {args.wheels}", file=sys.stderr)
        return 1
    for wheel in wheels:
        lay_out(wheel, place=place, part=args.part)
    if args.part == "runtime":
        link_cuda(place)
    return 0


class Place(NamedTuple):
    """Where everything goes: the root, the folder of CUDA in it, and the machine that the libraries are for."""

    root: Path
    cuda: Path
    machine: str


def lay_out(wheel: Path, *, place: Place, part: str) -> None:
    """Write what *wheel* gives to one of the layouts."""
    project, version = wheel.name.split("-")[:2]
    cudnn = project.startswith("nvidia_cudnn_")
    devel = part != "runtime"
    libraries, headers = folders(place, cudnn=cudnn)
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            path = PurePosixPath(member.filename)
            if "lib" in path.parts[:-1] and (match := SHARED.match(path.name)):
                if devel:
                    link(libraries / f"{match['name']}.so", path.name)
                if part == "all" or devel == (project in DEVEL_ONLY):
                    # cuDNN's files carry three numbers, its wheel four
                    full = ".".join(version.split(".")[:3]) if cudnn else version
                    real = f"{match['name']}.so.{full}"
                    extract(archive, member, libraries / real)
                    link(libraries / path.name, real)
            elif devel and path.suffix == ".a":
                extract(archive, member, libraries / path.name)
            elif devel and "include" in path.parts and path.suffix in {".h", ".hpp", ".cuh"}:
                below = path.relative_to(PurePosixPath(*path.parts[: path.parts.index("include") + 1]))
                extract(archive, member, headers / below)


def folders(place: Place, *, cudnn: bool) -> tuple[Path, Path]:
    """Where JetPack keeps the libraries and the headers of cuDNN, and those of everything else."""
    if cudnn:
        multiarch = f"{place.machine}-linux-gnu"
        return place.root / "usr/lib" / multiarch, place.root / "usr/include" / multiarch
    target = place.cuda / "targets" / f"{place.machine}-linux"
    return target / "lib", target / "include"


def extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """Write one member of a wheel to *path*."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def link(path: Path, target: str) -> None:
    """Make *path* a link to *target*, unless it is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_symlink():
        path.symlink_to(target)


def link_cuda(place: Place) -> None:
    """The links of a CUDA installation, and the loader's path to its libraries."""
    root, cuda, machine = place
    target = f"targets/{machine}-linux"
    link(root / "usr/local/cuda", cuda.name)
    link(cuda / "lib64", f"{target}/lib")
    link(cuda / "include", f"{target}/include")
    (cuda / target / "include").mkdir(parents=True, exist_ok=True)
    loader = root / "etc/ld.so.conf.d/000_cuda.conf"
    loader.parent.mkdir(parents=True, exist_ok=True)
    loader.write_text(f"/usr/local/cuda/{target}/lib\n")
    tegra = [f"/usr/lib/{machine}-linux-gnu/{name}{os.linesep}" for name in ("tegra", "tegra-egl", "nvidia")]
    (loader.parent / "nvidia-tegra.conf").write_text("".join(tegra))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

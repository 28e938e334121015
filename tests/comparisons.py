"""A whole Comparison made by hand, with the inventories it stands on: a baseline, a smaller image, one not built."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jetpare.base.versions import ImageCheck, version_rows
from jetpare.compare.comparison import (
    BUILT,
    NOT_BUILT,
    Comparison,
    Duplicates,
    DuplicateSet,
    GroupBytes,
    HiddenFigures,
    ImageFigures,
    LayerFigures,
    Nobody,
    Overwritten,
    PathBytes,
    StageTime,
    WasteFigures,
)
from jetpare.compare.differences import complete
from jetpare.image.attribution import Component
from jetpare.image.inventory import Distribution, File, Inventory, Package, Settings
from tests.inventories import image as inventory

CUDA, CUDNN, TORCH, GDAL, BASE, OTHERS = (
    "CUDA math libraries", "cuDNN", "PyTorch", "GDAL", "base system", "development files",
)  # fmt: skip
SITE = "/opt/venv/lib/python3.11/site-packages"
EXPECTED = {"python": "3.11", "cuda_runtime": "12.6", "cudnn": "9.10", "gdal": "3.10.3", "torch": "2.8.0"}
MEASURED = {
    "python": "3.11.2", "cuda_runtime": "12.6.77", "cudnn": "9.10.2", "gdal": "3.10.3", "torch": "2.8.0+cu128",
    "cudnn_compiled": "9.8.0", "tensorrt": None,
}  # fmt: skip
CHECKS = (
    ImageCheck(
        name="torch", status="ok", detail="torch 2.8.0+cu128: matmul, conv2d and inverse are right", seconds=2.2
    ),
    ImageCheck(name="cudnn", status="ok", detail="compiled against 9.8.0, 9.10.2 is there", seconds=0.001),
    ImageCheck(name="gdal", status="ok", detail="GeoTIFF written, warped and read back", seconds=0.152),
)
RUN = "20250102-030405"
# component: key, kind, name, version, group, and its files with their bytes, by image
CONTENT: dict[str, tuple[str, str, str, str | None, str, dict[str, dict[str, int]]]] = {
    "libcublas": (
        "cuda:libcublas", "cuda", "libcublas", "12.6.4", CUDA,
        {"jetpack": {"/usr/local/cuda/lib64/libcublasLt.so.12": 480_000_000, "/usr/local/cuda/lib64/libcublasLt_static.a": 910_000_000},
         "cuda": {"/usr/local/cuda/lib64/libcublasLt.so.12": 480_000_000}},
    ),
    "cudnn": (
        "collected:cudnn", "collected", "cudnn", "9.10.2", CUDNN,
        {name: {"/usr/lib/x86_64-linux-gnu/libcudnn_engines_precompiled.so.9": 530_000_000, "/usr/include/cudnn.h": 3_000}
         for name in ("jetpack", "cuda")},
    ),
    "torch": (
        "python:torch", "python", "torch", "2.8.0+cu128", TORCH,
        {name: {f"{SITE}/torch/lib/libtorch_cuda.so": 1_020_000_000, f"{SITE}/torch/lib/libtorch_cpu.so": 430_000_000}
         for name in ("jetpack", "cuda")},
    ),
    "numpy": (
        "python:numpy", "python", "numpy", "1.26.4", "Python packages",
        {name: {f"{SITE}/numpy/core/_multiarray_umath.so": 7_000_000} for name in ("jetpack", "cuda")},
    ),
    "gdal": (
        "gdal", "gdal", "GDAL", "3.10.3", GDAL,
        {name: {"/usr/local/lib/libgdal.so.36": 21_000_000} for name in ("jetpack", "cuda")},
    ),
    "libgdal32": (
        "debian:libgdal32", "debian", "libgdal32", "3.6.2", GDAL,
        {"jetpack": {"/usr/lib/libgdal.so.32": 24_000_000, "/usr/share/gdal/<script>alert(1)|`x`.json": 9_000}},
    ),
    "libc6": (
        "debian:libc6", "debian", "libc6", "2.36", BASE,
        {name: {"/lib/x86_64-linux-gnu/libc.so.6": 1_900_000} for name in ("jetpack", "cuda")},
    ),
    "libproj25": (
        "debian:libproj25", "debian", "libproj25", "9.1.1", GDAL, {"cuda": {"/usr/lib/libproj.so.25": 3_400_000}},
    ),
    "libssl3": (
        "debian:libssl3", "debian", "libssl3", None, BASE,
        {"jetpack": {"/usr/lib/libssl.so.3": 690_000}, "cuda": {"/usr/lib/libssl.so.3": 700_000}},
    ),
    "cuda-dev": (
        "debian:cuda-nvcc-12-6", "debian", "cuda-nvcc-12-6", "12.6.85", OTHERS,
        {"jetpack": {"/usr/local/cuda/bin/nvcc": 22_000_000, "/usr/local/cuda/nvvm/bin/cicc": 61_000_000}},
    ),
    "nobody": (
        "nobody", "nobody", "nobody", None, "nobody",
        {name: {"/opt/left over\n.bin": 900_000, "/var/log/dpkg.log": 210_000} for name in ("jetpack", "cuda")},
    ),
}  # fmt: skip
SSL_VERSIONS = {"jetpack": "3.0.15", "cuda": "3.0.17"}
SETTINGS = {
    "jetpack": Settings(
        env={"PATH": "/opt/venv/bin:/usr/local/cuda/bin:/usr/bin", "NVIDIA_DRIVER_CAPABILITIES": "all",
             "NVIDIA_REQUIRE_CUDA": "cuda>=12.6", "LD_LIBRARY_PATH": "/usr/local/cuda/lib64"},
        cmd=("/bin/bash",), labels={"jetpare.profile": "rehearsal"},
    ),
    "cuda": Settings(
        env={"PATH": "/opt/venv/bin:/usr/bin", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility,video",
             "LD_LIBRARY_PATH": "/usr/local/cuda/lib64"},
        cmd=("python3",), labels={"jetpare.profile": "rehearsal"},
    ),
}  # fmt: skip


def made_inventory(name: str) -> Inventory:
    """The inventory of 'jetpack' or 'cuda'."""
    entries: dict[str, int | str | File] = {}
    packages, distributions = [], []
    for key, (_, kind, title, version, _, by_image) in CONTENT.items():
        files = by_image.get(name, {})
        entries |= files
        if not files:
            continue
        if kind == "debian":
            number = SSL_VERSIONS[name] if key == "libssl3" else str(version)
            packages.append(Package(name=title, version=number, architecture="amd64", files=tuple(files)))
        if kind == "python":
            info = f"{SITE}/{title}-{version}.dist-info"
            distributions.append(
                Distribution(name=title, version=str(version), location=SITE, info=info, files=tuple(files))
            )
    entries["/lib64"] = "-> usr/lib64"
    return inventory(
        entries, packages=tuple(packages), distributions=tuple(distributions), settings=SETTINGS[name],
        image_id=f"sha256:{'ab' if name == 'jetpack' else 'cd'}" + "0" * 62,
    )  # fmt: skip


def components(name: str) -> tuple[Component, ...]:
    """What owns the files of made_inventory(name)."""
    found = [
        Component(
            key=key, kind=kind, name=title, group=group, bytes=sum(by_image[name].values()), files=len(by_image[name]),
            version=SSL_VERSIONS[name] if short == "libssl3" else version,
        )
        for short, (key, kind, title, version, group, by_image) in CONTENT.items()
        if name in by_image
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda component: -component.bytes))


def groups(name: str) -> tuple[GroupBytes, ...]:
    """The groups of components(name), largest first."""
    rows = components(name)
    made = [
        GroupBytes(name=group, bytes=sum(row.bytes for row in rows if row.group == group),
              files=sum(row.files for row in rows if row.group == group))
        for group in dict.fromkeys(row.group for row in rows)
    ]  # fmt: skip
    return tuple(sorted(made, key=lambda group: -group.bytes))


def figures(name: str, **changes: Any) -> ImageFigures:
    """An image with every figure measured but the compressed size."""
    held = made_inventory(name)
    left = next(row for row in components(name) if row.kind == "nobody")
    hidden = 2_400_000 if name == "jetpack" else 0
    top = held.bytes + hidden - 400_000_000
    image = ImageFigures(
        name=name,
        reference=f"jetpare/{name}:rehearsal",
        status=BUILT,
        id=held.image_id,
        created="2025-01-02T03:14:15Z",
        profile="rehearsal",
        platform="linux/amd64",
        base=f"l4t-{name} (stand-in)",
        base_digest="sha256:" + "1" * 64,
        revision="2" * 40,
        layers=(
            LayerFigures(index=1, diff_id="sha256:" + "3" * 64, size=400_000_000, instruction="COPY / /"),
            LayerFigures(index=2, diff_id="sha256:" + name[0] * 64, size=top, instruction="COPY /opt/stage / # buildkit"),
        ),
        layers_left=125,
        sizes={"layers": held.bytes + hidden, "merged": held.bytes, "pull": None, "alone": None},
        budget=6_500_000_000 if name == "cuda" else None,
        versions=version_rows(MEASURED, EXPECTED),
        checks=CHECKS,
        config=SETTINGS[name],
        groups=groups(name),
        components=components(name),
        nobody=Nobody(
            bytes=left.bytes, files=left.files, share=left.bytes / held.bytes,
            largest=(PathBytes(path="/opt/left over\n.bin", bytes=900_000), PathBytes(path="/var/log/dpkg.log", bytes=210_000)),
        ),
        waste=WasteFigures(
            duplicates=Duplicates(
                bytes=7_000_000,
                sets=(DuplicateSet(bytes=7_000_000, size=7_000_000, count=2, paths=("/usr/lib/a.so", "/usr/lib/b|c.so")),),
            ),
            overwritten=Overwritten(
                bytes=hidden,
                entries=(HiddenFigures(path="/usr/lib/libz.so.1", bytes=hidden, instruction="RUN apt-get upgrade # buildkit"),) if hidden else (),
            ),
        ),
        stages=(
            StageTime(label=f"{name}/gdal", seconds=305.6 if name == "jetpack" else 25.2,
                      cache="cold" if name == "jetpack" else "warm", run=RUN),
            StageTime(label=f"{name}/python", seconds=15.7, cache="cold", run=RUN),
            StageTime(label=f"{name}/runtime", seconds=12.0, cache="cold", run=RUN,
                      marks=() if name == "jetpack" else ("the clocks fell to 1.2 GHz",)),
        ),
    )  # fmt: skip
    return replace(image, **changes)


MISSING = ImageFigures(
    name="third",
    reference="jetpare/third:rehearsal",
    status=NOT_BUILT,
    notes=("run 20250101-000000 failed before it was finished",),
)
INVENTORIES = {name: made_inventory(name) for name in ("jetpack", "cuda")}


def skeleton(*images: ImageFigures, **changes: Any) -> Comparison:
    """A Comparison of *images* in which nothing is worked out yet."""
    made = Comparison(
        generated="2025-01-02T03:20:00Z",
        tool={"name": "jetpare", "version": "0.1.0"},
        profile="rehearsal",
        description="stand-in bases on Debian bookworm; no Jetson, no GPU",
        baseline="jetpack",
        engine={"version": "26.1.5", "store": "overlay2", "platform": "linux/amd64"},
        images=images,
        host={"model": None, "cores": 2, "memory_bytes": 25_276_514_304, "power_mode": None},
        caveat="A rehearsal: the base system and the GPU are not real; sizes, stages, links and failures are.",
        notes=("Every check runs on the CPU: nothing here says that the GPU works.",),
    )
    return replace(made, **changes)


def finding(number: str, severity: str, **more: Any) -> dict[str, Any]:
    """A finding as the audit's JSON has it."""
    evidence = [{"path": "/usr/lib/libx.so", "detail": "needs <libnone.so.1>"}]
    row = {"id": number, "severity": severity, "title": f"finding {number}", "image": "cuda", "subject": "libx.so"}
    return {**row, "evidence": evidence, "searched": [], "bytes": 1_200_000, "advice": "Look.", "waived": None, **more}


FINDINGS = (finding("A17", "warning"), finding("A7", "note"), finding("A2", "error", waived="looked at"))


def full(*, min_saving_percent: float = 10, **changes: Any) -> Comparison:
    """jetpack, cuda, and 'third', which is not built, with everything worked out."""
    made = skeleton(figures("jetpack"), figures("cuda"), MISSING, **{"findings": FINDINGS, **changes})
    return complete(made, INVENTORIES, min_saving_percent=min_saving_percent)

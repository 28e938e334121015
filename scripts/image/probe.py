"""Measures what an image holds and checks that it works, on the CPU, with the standard library and the image alone.

usage: python probe.py [--output FILE]        (the report goes to stdout as well)
       docker run --rm -i IMAGE /opt/venv/bin/python - < scripts/image/probe.py

A check is `ok`, `failed` or `not measured`. The last is for what cannot be known here: a library that a Jetson mounts
into the container at run time (libcuda.so.1, the tegra libraries) is rightly absent while an image is built.
Exit 1 when a check failed. The report:
{"schema": 1, "versions": {name: value or null}, "checks": [{name, status, detail, seconds}]}
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import math
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Mounted from the host on a Jetson; CUDA's and TensorRT's own libraries, which must be in the image, begin alike.
HOST_LIBRARY = re.compile(
    r"\blib(?:cuda\.so|nv(?!rtc|JitLink|ToolsExt|tx|jpeg|infer|onnx|blas|fatbin|vm|perf|dla_compiler))\S*"
)
NOT_FOUND = re.compile(r"(\S+\.so[\w.]*): cannot open shared object file")
PRIMES = (7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43)  # of GDALChecksumImage
FIVE_DIGITS = 10000  # cuDNN and TensorRT number their versions from here on with two digits for the minor one
WIDTH, HEIGHT = 40, 30


class Failed(Exception):  # noqa: N818 - what happened, in a word
    """A check's result is not what it must be."""


class NotMeasured(Exception):  # noqa: N818
    """A check cannot be done here."""


# --- what is there


def versions() -> dict[str, str | None]:
    """Every version that can be measured; None where a thing is missing or does not say."""
    measures: dict[str, Callable[[], str | None]] = {
        "python": platform.python_version,
        "glibc": lambda: platform.libc_ver()[1] or None,
        "torch": lambda: str(__import__("torch").__version__),
        "torchvision": lambda: str(__import__("torchvision").__version__),
        "numpy": lambda: str(__import__("numpy").__version__),
        "torch_cuda": lambda: __import__("torch").version.cuda,
        "torch_cuda_available": cuda_available,
        "gpu": lambda: str(__import__("torch").cuda.get_device_name()),
        "gdal": gdal_version,
        "cuda_runtime": lambda: library_version("libcudart.so.12", "libcudart.so.13", "libcudart.so.11.0"),
        "cudnn": cudnn_version,
        "cudnn_compiled": cudnn_compiled,
        "tensorrt": tensorrt_version,
    }
    found: dict[str, str | None] = {}
    for name, measure in measures.items():
        try:
            found[name] = measure()
        except Exception:  # noqa: BLE001 - whatever keeps a version from being measured, the checks below say it
            found[name] = None
    return found


def cuda_available() -> str | None:
    """Whether torch can use a GPU; None where none was given, as while an image is built, since that tells nothing."""
    import torch

    return str(torch.cuda.is_available()) if torch.cuda.is_available() or os.environ.get("VERIFY_GPU") else None


def gdal_version() -> str | None:
    """GDAL's version, as the first gdalinfo on PATH tells it."""
    match = re.match(r"GDAL ([\w.]+)", run("gdalinfo", "--version"))
    return match[1] if match else None


def load(*names: str) -> ctypes.CDLL:
    """The first of *names* that the loader finds. OSError when it finds none."""
    for name in names[:-1]:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    return ctypes.CDLL(names[-1])


def library_version(*names: str) -> str | None:
    """The version in the real file name of a library, found the way the loader finds it."""
    load(*names)
    stems = tuple(name.split(".so")[0] + ".so" for name in names)  # not libcudart-1a2b3c.so, which wheels bring along
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = Path(line.split(" ")[-1])
        if path.name.startswith(stems) and (match := re.search(r"\.so\.([\d.]+)$", path.resolve().name)):
            return match[1]
    return None


def cudnn_version() -> str:
    """Version of the cuDNN that the loader finds: 91002 is 9.10.2, 8904 is 8.9.4."""
    return dotted(int(load("libcudnn.so.9", "libcudnn.so.8").cudnnGetVersion()))


def cudnn_compiled() -> str:
    """Version of the cuDNN that torch was compiled against."""
    import torch

    return ".".join(str(part) for part in torch._C._cudnn.getCompileVersion())  # noqa: SLF001 - nothing public says it


def tensorrt_version() -> str:
    """Version of the TensorRT that the loader finds: 100300 is 10.3.0, 8601 is 8.6.1."""
    return dotted(int(load("libnvinfer.so.10", "libnvinfer.so.8").getInferLibVersion()))


def dotted(number: int) -> str:
    """A version out of NVIDIA's number: two digits each, and three for all before major version 9 together."""
    unit = 1000 if number < FIVE_DIGITS else 10000
    return f"{number // unit}.{number % unit // 100}.{number % 100}"


# --- does it work


def check_torch() -> str:
    """Import, a product of matrices and a convolution, against values worked out by hand."""
    import torch

    product = torch.tensor([[1.0, 2.0], [3.0, 4.0]]) @ torch.tensor([[5.0, 6.0], [7.0, 8.0]])
    expect(product.tolist(), [[19.0, 22.0], [43.0, 50.0]], "matmul")
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    result = torch.nn.functional.conv2d(image, torch.ones(1, 1, 3, 3))
    expect(result.flatten().tolist(), [45.0, 54.0, 81.0, 90.0], "conv2d")
    inverse = torch.linalg.inv(torch.tensor([[2.0, 0.0], [0.0, 4.0]]))
    expect(inverse.tolist(), [[0.5, 0.0], [0.0, 0.25]], "inverse")
    return f"torch {torch.__version__}: matmul, conv2d and inverse are right on the CPU"


def check_cudnn() -> str:
    """Torch accepts the cuDNN that is there: the same major version, and no older than it was compiled against."""
    import torch

    if torch.version.cuda is None:
        raise NotMeasured("torch is a CPU build")
    version = torch.backends.cudnn.version()  # raises RuntimeError when the versions do not fit
    if version is None:
        raise Failed("torch finds no cuDNN")
    return f"compiled against {cudnn_compiled()}, {cudnn_version()} is there"


def check_torchvision() -> str:
    """Import, and an operator of its own compiled library."""
    import torch
    from torchvision.ops import nms

    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    expect(nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist(), [0, 2], "nms")
    return "import and ops.nms"


def check_numpy() -> str:
    """A system of equations, and an array shared with torch (both built for one NumPy ABI)."""
    import numpy as np
    import torch

    expect(
        np.linalg.solve(np.array([[3.0, 1.0], [1.0, 2.0]]), np.array([9.0, 8.0])).round(9).tolist(), [2.0, 3.0], "solve"
    )
    expect(torch.from_numpy(np.arange(3)).tolist(), [0, 1, 2], "from_numpy")
    return "linalg.solve, and its arrays shared with torch"


def check_gdal() -> str:
    """Write a GeoTIFF, warp it to another coordinate system and back; its checksum, also worked out here, stays."""
    tool = shutil.which("gdalinfo")
    if tool is None:
        raise Failed("no gdalinfo on PATH")
    if any(Path("/usr/local/lib").glob("libgdal.so.*")):
        linked = re.search(r"libgdal\.so\S* => (\S+)", run("ldd", tool))
        if linked is None or not linked[1].startswith("/usr/local/lib/"):
            raise Failed(f"{tool} uses {linked[1] if linked else 'no libgdal'}, not the one in /usr/local/lib")
    pixels = bytes((x * 7 + y * 13 + x * y) % 251 for y in range(HEIGHT) for x in range(WIDTH))
    expected = sum(value % PRIMES[index % len(PRIMES)] for index, value in enumerate(pixels)) & 0xFFFF
    with tempfile.TemporaryDirectory() as folder:
        plain, written, warped, back = (Path(folder, name) for name in ("a.tif", "b.tif", "c.tif", "d.tif"))
        plain.write_bytes(tiff(pixels))
        # On the equator, so that degrees and metres are proportional and nearest neighbours map one to one.
        size = ("-ts", str(WIDTH), str(HEIGHT))
        corners = ("-a_ullr", "0", "0.3", "0.4", "0")
        run("gdal_translate", "-q", "-co", "COMPRESS=DEFLATE", "-a_srs", "EPSG:4326", *corners, plain, written)
        run("gdalwarp", "-q", "-t_srs", "EPSG:3857", *size, written, warped)
        run("gdalwarp", "-q", "-t_srs", "EPSG:4326", *size, warped, back)
        for path, code in ((written, 4326), (warped, 3857), (back, 4326)):
            told = json.loads(run("gdalinfo", "-json", "-checksum", path))
            expect(told["bands"][0]["checksum"], expected, f"checksum in EPSG:{code}")
            if f'"EPSG",{code}]' not in told["coordinateSystem"]["wkt"].replace(" ", ""):
                raise Failed(f"a GeoTIFF written in EPSG:{code} does not say so when read")
    return f"{tool}: GeoTIFF written, warped EPSG:4326 to 3857 and back, checksum {expected} throughout"


def tiff(pixels: bytes) -> bytes:
    """The smallest TIFF of WIDTH x HEIGHT grey bytes: a header, one strip, one directory."""
    # tag, type (3 short, 4 long), value: size, depth, no compression, black is zero, the strip, one sample
    tags = ((256, 3, WIDTH), (257, 3, HEIGHT), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1))
    tags += ((278, 3, HEIGHT), (279, 4, len(pixels)))
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, kind, 1, v) for tag, kind, v in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory + b"\0\0\0\0"


def check_data() -> str:
    """Time zones and certificates: data that no library names, and that a smaller base may lack."""
    from zoneinfo import ZoneInfo

    ZoneInfo("Europe/Berlin")
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    if not bundle.is_file() or not bundle.stat().st_size:
        raise Failed(f"{bundle} is missing or empty: https would trust nobody")
    return "time zones and certificates"


CHECKS: dict[str, Callable[[], str]] = {
    "torch": check_torch,
    "cudnn": check_cudnn,
    "torchvision": check_torchvision,
    "numpy": check_numpy,
    "gdal": check_gdal,
    "data": check_data,
}


def expect(found: object, expected: object, what: str) -> None:
    """Failed unless the numbers of both, however nested, agree."""
    flat_found, flat_expected = flat(found), flat(expected)
    if len(flat_found) != len(flat_expected) or not all(map(math.isclose, flat_found, flat_expected)):
        raise Failed(f"{what}: {found}, expected {expected}")


def flat(value: object) -> list[float]:
    """The numbers of nested lists, in order."""
    if isinstance(value, list):
        return [number for item in value for number in flat(item)]
    return [float(str(value))]


def run(*argv: str | Path) -> str:
    """Stdout of a program. Failed, with what it said, when it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    except FileNotFoundError as error:
        raise Failed(f"{argv[0]} is not there") from error
    if done.returncode:
        raise Failed(f"{argv[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def judge(error: Exception) -> tuple[str, str]:
    """Status and detail of a check that did not get through."""
    text = " ".join(str(error).split())
    if isinstance(error, NotMeasured):
        return "not measured", text
    missing = NOT_FOUND.search(text)
    if missing and HOST_LIBRARY.fullmatch(missing[1]):
        return "not measured", f"needs the host's {missing[1]}"
    return "failed", text if isinstance(error, Failed) else f"{type(error).__name__}: {text}"


def check_all() -> list[dict[str, object]]:
    """Do every check; one that fails keeps no other from being done."""
    results: list[dict[str, object]] = []
    for name, check in CHECKS.items():
        begin = time.monotonic()
        try:
            status, detail = "ok", check()
        except Exception as error:  # noqa: BLE001 - each check stands alone
            status, detail = judge(error)
        seconds = round(time.monotonic() - begin, 3)
        results.append({"name": name, "status": status, "detail": detail, "seconds": seconds})
    return results


def main(argv: list[str]) -> int:
    """Measure, check, report; exit 1 when a check failed."""
    parser = argparse.ArgumentParser(description="Measures what an image holds and checks that it works.")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args(argv)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # also for the programs that the checks start
    sys.dont_write_bytecode = True
    checks = check_all()
    report = {"schema": 1, "versions": versions(), "checks": checks}
    text = json.dumps(report, indent=1) + "\n"
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(text)
    sys.stdout.write(text)
    failed = [check for check in checks if check["status"] == "failed"]
    for check in failed:
        print(f"probe: {check['name']} failed: {check['detail']}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

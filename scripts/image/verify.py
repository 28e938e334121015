"""Run what an image holds, each check in its own process: imports, dlopens, GDAL, PyTorch on the CPU and a GPU.

usage: python verify.py [--gpu] [--check NAME]   (with computations.py, probe.py and elf.py next to it, or all in a zip)

A check is `ok`, `failed` or `not measured`. --gpu says that the container was given a GPU; without it, the GPU checks
are not measured. A row is {id, name, status, detail, seconds, result, complaints}: `id` is the one in the audit's table
(docs/audit.md), `result` must be the same in every image with the same software, and `complaints` are the lines of
stderr that say that something is missing or that a library falls back. The exit status is 1 when a check failed.
"""

from __future__ import annotations

import argparse
import ctypes
import glob
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import computations
import elf
import probe
from computations import installed
from probe import Failed, NotMeasured, expect, run

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = 1
CHECK_SECONDS = 300
SHOWN = 8  # complaints of one check
COMPLAINTS = re.compile(r"(?i)not found|cannot open shared object|falling back|fallback|failed to load|no such file")
# Libraries that are opened by name at run time, so nothing notices that one is absent until it is needed.
PROVIDERS = (
    "{site}/torch/lib/*.so*",
    "{site}/onnxruntime/capi/*.so*",
    "{site}/nvidia/*/lib/*.so*",
    "/usr/lib/*-linux-gnu/libcudnn*.so*",
    "/usr/lib/*-linux-gnu/libnvinfer*.so*",
    "/usr/lib/*-linux-gnu/libnvonnxparser.so*",
    "/usr/local/cuda*/targets/*/lib/*.so*",
    "/usr/local/lib/libgdal.so*",
)


# --- checks


def check_compiler() -> tuple[str, object]:
    """Compile and import a C extension if the image has a compiler; an image with triton must have one."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        if installed("triton"):
            raise Failed("triton is installed, and there is no C compiler for it")
        raise NotMeasured("the image has no C compiler, and no triton that would need one")
    headers = sysconfig.get_paths()["include"]
    if not Path(headers, "Python.h").is_file():
        raise NotMeasured(f"{compiler} is installed, but {headers}/Python.h is not")
    source = (
        '#include <Python.h>\nstatic struct PyModuleDef d = {PyModuleDef_HEAD_INIT, "tiny", 0, -1, 0};\n'
        'PyMODINIT_FUNC PyInit_tiny(void) { PyObject *m = PyModule_Create(&d); PyModule_AddIntConstant(m, "n", 42);'
        " return m; }\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tiny.c").write_text(source)
        run(compiler, "-shared", "-fPIC", f"-I{headers}", "-o", f"{folder}/tiny.so", f"{folder}/tiny.c")
        sys.path.insert(0, folder)
        expect(importlib.import_module("tiny").n, 42, "the extension's constant")
    return f"{compiler}: a C extension compiled and imported", None


def check_opencv() -> tuple[str, object]:
    """Report what OpenCV was built with: a rebuild can lose CUDA, GStreamer or FFmpeg silently."""
    if not installed("cv2"):
        raise NotMeasured("OpenCV is not installed")
    import cv2

    lines = [line.split(":", 1) for line in cv2.getBuildInformation().splitlines() if ":" in line]
    told = {name.strip(): " ".join(value.split()) for name, value in lines}
    features = {name: told.get(name, "NO") for name in ("NVIDIA CUDA", "cuDNN", "GStreamer", "FFMPEG", "GTK")}
    return f"OpenCV {cv2.__version__}: " + ", ".join(f"{name} {value}" for name, value in features.items()), features


def import_module(name: str) -> tuple[str, object]:
    """Import one module."""
    module = importlib.import_module(name)
    return str(getattr(module, "__version__", "")) or "imported", None


def load_library(path: str) -> tuple[str, object]:
    """Open one library and bind every symbol at once; one of torch's is opened after torch, as it is in use."""
    if "/torch/" in path:
        importlib.import_module("torch")
    ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_LOCAL)
    return "every symbol is bound", None


WORK: dict[str, tuple[str, Callable[[], tuple[str, object]]]] = {
    "torch matmul": ("A18", computations.check_matmul),
    "torch convolution": ("A18", computations.check_convolution),
    "torch LSTM": ("A18", computations.check_lstm),
    "torch factorisation": ("A18", computations.check_factorisation),
    "GPU device": ("A19", computations.check_gpu_device),
    "GPU matmul": ("A19", computations.check_gpu_matmul),
    "GPU convolution (cuDNN)": ("A19", computations.check_gpu_convolution),
    "GPU LSTM (cuDNN)": ("A19", computations.check_gpu_lstm),
    "GPU factorisation (cuSOLVER)": ("A19", computations.check_gpu_factorisation),
    "GPU Triton kernel": ("A21", computations.check_gpu_triton),
    "ONNX Runtime session": ("A20", computations.check_onnxruntime),
    "C extension": ("A21", check_compiler),
    "OpenCV features": ("A22", check_opencv),
}


def of_probe(check: Callable[[], str]) -> Callable[[], tuple[str, object]]:
    """Wrap a check of probe.py. Its detail names no folder that differs between images, so it is the result too."""

    def done() -> tuple[str, object]:
        told = check()
        return told, told

    return done


WORK |= {name: ("A18", of_probe(check)) for name, check in probe.CHECKS.items()}


def names() -> list[tuple[str, str]]:
    """Return the name and the id of every check of this image; 'import x' and 'load /x.so' depend on what it has."""
    found = [*(f"import {module}" for module in modules()), *(f"load {path}" for path in libraries())]
    return [(name, "A18") for name in found] + [(name, number) for name, (number, _) in WORK.items()]


def modules() -> list[str]:
    """Return the importable names of every installed distribution, from top_level.txt or its list of files."""
    found: set[str] = set()
    for distribution in importlib.metadata.distributions():
        tops = {file.parts[0].split(".")[0] for file in distribution.files or () if file.suffix in {".py", ".so"}}
        told = set((distribution.read_text("top_level.txt") or "").split())  # some name folders that are not installed
        found |= told & tops if told and tops else told | tops
    return sorted(name for name in found if name.isidentifier() and not name.startswith("_"))


def libraries() -> list[str]:
    """Return the real paths of the libraries that match PROVIDERS, without stubs."""
    site = sysconfig.get_paths()["platlib"]
    paths = {os.path.realpath(path) for pattern in PROVIDERS for path in glob.glob(pattern.format(site=site))}  # noqa: PTH207
    return sorted(path for path in paths if "/stubs/" not in path and elf.is_elf(path))


# --- one process each


def one(name: str) -> dict[str, object]:
    """Do one check in this process."""
    kind, _, what = name.partition(" ")
    work = {"import": import_module, "load": load_library}
    try:
        detail, result = WORK[name][1]() if name in WORK else work[kind](what)
    except Exception as error:  # noqa: BLE001 - whatever a check raises becomes its result
        status, detail = probe.judge(error)
        return {"status": status, "detail": detail, "result": None}
    return {"status": "ok", "detail": detail, "result": result}


def apart(name: str, number: str) -> dict[str, object]:
    """Do one check in its own process, which may crash, hang or complain."""
    begin = time.monotonic()
    argv = [sys.executable, "-B", sys.argv[0], "--check", name]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", check=False, timeout=CHECK_SECONDS
        )
    except subprocess.TimeoutExpired:
        row: dict[str, object] = {
            "status": "failed",
            "detail": f"still running after {CHECK_SECONDS} s",
            "result": None,
        }
        said = ""
    else:
        said = done.stderr
        try:
            row = json.loads(done.stdout.splitlines()[-1])
        except (ValueError, IndexError):
            last = " ".join(said.split())[-300:]
            row = {"status": "failed", "detail": f"ended with {done.returncode}. {last}".strip(), "result": None}
    complaints = [line.strip()[:300] for line in said.splitlines() if COMPLAINTS.search(line)][:SHOWN]
    seconds = round(time.monotonic() - begin, 2)
    return {"id": number, "name": name, "seconds": seconds, "complaints": complaints, **row}


def main(argv: list[str]) -> int:
    """Do one check, or all of them."""
    parser = argparse.ArgumentParser(description="Run what an image holds and report what works.")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--check")
    args = parser.parse_args(argv)
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    if args.check:
        print(json.dumps(one(args.check)))
        return 0
    if args.gpu:
        os.environ["VERIFY_GPU"] = "1"
    # Importing torch takes most of the time. Checks that share the GPU run one at a time; so does A20, which is timed.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        done = {each: pool.submit(apart, *each) for each in names() if each[1] == "A18"}
    rows = [done[each].result() if each in done else apart(*each) for each in names()]
    print(json.dumps({"schema": SCHEMA, "versions": probe.versions(), "rows": rows}))
    return any(row["status"] == "failed" for row in rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

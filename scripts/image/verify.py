"""Runs what an image holds, each check in a process of its own: imports, dlopens, GDAL, PyTorch on the CPU and a GPU.

usage: python verify.py [--gpu] [--check NAME]      (with probe.py and elf.py next to it, or all three in a zip)

A check is `ok`, `failed` or `not measured`; without --gpu, which says that the container was given one, those of the
GPU are not measured. Known values are worked out here in plain Python; a GPU's are held against the CPU's. A row:
{id, name, status, detail, seconds, result, complaints}: `id` is that of the audit's table (docs/audit.md), `result`
what must be the same in every image with the same software, `complaints` are lines of stderr about a thing that is
missing, or falling back. Exit 1 when a check failed.
"""

from __future__ import annotations

import argparse
import ctypes
import glob
import importlib
import importlib.metadata
import json
import math
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

import elf
import probe
from probe import Failed, NotMeasured, expect, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

SCHEMA = 1
CHECK_SECONDS = 300
SHOWN = 8  # lines of what a check said
COMPLAINTS = re.compile(r"(?i)not found|cannot open shared object|falling back|fallback|failed to load|no such file")
# Libraries that are opened by name at run time, so that nothing notices their absence before they are needed.
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
TEGRA = {(5, 3), (6, 2), (7, 2), (8, 7), (10, 1), (11, 0)}
ROUGH = 1e-4  # relative, for single precision along hundreds of terms
SIDE = 192  # of the matrices that a GPU multiplies


# --- numbers that look random and are the same everywhere


def numbers(count: int, seed: int) -> list[float]:
    """*count* numbers between -1 and 1 with few binary digits, so that short sums of their products are exact."""
    state, made = seed, []
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        made.append(((state >> 12) % 129 - 64) / 64)
    return made


def matrix(torch: ModuleType, rows: int, columns: int, seed: int) -> Any:  # noqa: ANN401 - a tensor
    """A rows x columns tensor of `numbers`."""
    return torch.tensor(numbers(rows * columns, seed)).reshape(rows, columns)


# --- PyTorch on the CPU, against plain Python


def check_matmul() -> tuple[str, object]:
    """A product of matrices: every element is exact in single precision."""
    import torch

    size = 24
    a, b = numbers(size * size, 1), numbers(size * size, 2)
    known = [[sum(a[r * size + k] * b[k * size + c] for k in range(size)) for c in range(size)] for r in range(size)]
    found = (matrix(torch, size, size, 1) @ matrix(torch, size, size, 2)).tolist()
    expect(found, known, "matmul")
    return f"{size} x {size}, every element as worked out", fingerprint(found)


def check_convolution() -> tuple[str, object]:
    """A 3 x 3 convolution with three channels in and two out."""
    import torch

    height, width, channels, kernels = 9, 8, 3, 2
    image, weight = numbers(channels * height * width, 3), numbers(kernels * channels * 9, 4)
    known = [
        sum(
            image[(c * height + y + i) * width + x + j] * weight[((k * channels + c) * 3 + i) * 3 + j]
            for c in range(channels)
            for i in range(3)
            for j in range(3)
        )
        for k in range(kernels)
        for y in range(height - 2)
        for x in range(width - 2)
    ]
    found = torch.nn.functional.conv2d(
        torch.tensor(image).reshape(1, channels, height, width), torch.tensor(weight).reshape(kernels, channels, 3, 3)
    )
    expect(found.flatten().tolist(), known, "conv2d")
    return f"{channels} to {kernels} channels, every pixel as worked out", fingerprint(found.flatten().tolist())


def check_lstm() -> tuple[str, object]:
    """An LSTM of three steps, against its equations."""
    import torch

    features, hidden = 4, 3
    model, weights = lstm(torch, features, hidden)
    steps = [numbers(features, 20 + step) for step in range(3)]
    found = model(torch.tensor([steps]))[0][0, -1].tolist()
    state, cell = [0.0] * hidden, [0.0] * hidden
    for step in steps:
        gates = [
            sum(w * x for w, x in zip(weights["weight_ih_l0"][row], step, strict=True))
            + sum(w * h for w, h in zip(weights["weight_hh_l0"][row], state, strict=True))
            + weights["bias_ih_l0"][row]
            + weights["bias_hh_l0"][row]
            for row in range(4 * hidden)
        ]
        for unit in range(hidden):
            enter, forget, update, leave = (gates[part * hidden + unit] for part in range(4))
            cell[unit] = sigmoid(forget) * cell[unit] + sigmoid(enter) * math.tanh(update)
            state[unit] = sigmoid(leave) * math.tanh(cell[unit])
    near(found, state, "LSTM")
    return "three steps, as its equations say", [round(value, 4) for value in found]


def check_factorisation() -> tuple[str, object]:
    """Solve, Cholesky, eigenvalues and a Fourier transform of matrices whose results are known."""
    import torch

    size = 16
    lower = torch.tril(matrix(torch, size, size, 5)) + size * torch.eye(size)
    known = matrix(torch, size, 1, 6)
    near((torch.linalg.cholesky(lower @ lower.T)).flatten().tolist(), lower.flatten().tolist(), "cholesky")
    near(torch.linalg.solve(lower, lower @ known).flatten().tolist(), known.flatten().tolist(), "solve")
    turned = torch.linalg.qr(matrix(torch, size, size, 7))[0]
    values = torch.arange(1.0, size + 1)
    near(torch.linalg.eigvalsh(turned @ torch.diag(values) @ turned.T).tolist(), values.tolist(), "eigvalsh")
    wave = torch.cos(2 * math.pi * 3 * torch.arange(size) / size)
    peaks = [float(size / 2) if index in {3, size - 3} else 0.0 for index in range(size)]
    near(torch.fft.fft(wave).abs().tolist(), peaks, "fft")
    return "cholesky, solve, eigvalsh and fft give back what they were made from", None


def lstm(torch: ModuleType, features: int, hidden: int) -> tuple[Any, dict[str, Any]]:
    """An LSTM of one layer with known weights, and these as nested lists."""
    model = torch.nn.LSTM(features, hidden, batch_first=True)
    with torch.no_grad():
        for seed, (_, parameter) in enumerate(model.named_parameters(), start=10):
            parameter.copy_(torch.tensor(numbers(parameter.numel(), seed)).reshape(parameter.shape) / 2)
    return model.eval(), {name: parameter.tolist() for name, parameter in model.named_parameters()}


def sigmoid(value: float) -> float:
    """The logistic function."""
    return 1 / (1 + math.exp(-value))


def near(found: list[float], known: list[float], what: str) -> None:
    """Failed unless both agree to ROUGH, relative to the largest."""
    scale = max(1.0, *(abs(value) for value in known))
    pairs = zip(found, known, strict=True) if len(found) == len(known) else [(math.inf, 0.0)]
    apart = [abs(a - b) for a, b in pairs]
    if not all(each <= ROUGH * scale for each in apart):  # so that NaN fails too
        raise Failed(f"{what}: off by {max(apart):g}, of values up to {scale:g}")


def fingerprint(values: object) -> str:
    """A short digest of nested numbers."""
    import hashlib

    return hashlib.blake2b(json.dumps(values).encode(), digest_size=8).hexdigest()


# --- on a GPU, against the CPU


def gpu() -> ModuleType:
    """Torch, where it has a GPU. NotMeasured where the container was given none, Failed where torch does not see it."""
    import torch

    if not os.environ.get("VERIFY_GPU"):
        raise NotMeasured("no GPU was given to this container")
    if torch.version.cuda is None:
        raise Failed("a GPU was given, and torch is a CPU build")
    if not torch.cuda.is_available():
        raise Failed("a GPU was given, and torch.cuda.is_available() is False")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # else only 10 bits agree
    return torch


def check_gpu_device() -> tuple[str, object]:
    """Name and compute capability of the GPU, and whether torch has code for it."""
    torch = gpu()
    major, minor = torch.cuda.get_device_capability()
    built = torch.cuda.get_arch_list()
    if not any(fits(name, major, minor) for name in built):
        raise Failed(f"torch has code for {', '.join(built)}, none of which runs on sm_{major}{minor}")
    return f"{torch.cuda.get_device_name()}, compute capability {major}.{minor}; torch has {', '.join(built)}", None


def fits(name: str, major: int, minor: int) -> bool:
    """Whether code for an architecture runs here, by NVIDIA's CUDA C++ programming guide.

    PTX runs on all that came later; machine code on the same major version from its minor on, but between Tegra's own
    architectures and others, only on exactly what it was made for.
    """
    match = re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", name)
    if not match:
        return False
    have, here = (int(match[2]), int(match[3])), (major, minor)
    if match[1] == "compute":
        return have <= here
    return have == here or (have[0] == major and have <= here and not TEGRA & {have, here})


def on_both(torch: ModuleType, work: Callable[[str], Any], what: str) -> str:
    """Do *work* on the CPU and the GPU; Failed unless they agree. How far they are apart."""
    with torch.no_grad():
        here, there = work("cpu"), work("cuda")
    if there.device.type != "cuda":
        raise Failed(f"{what}: the result is on {there.device}, not on the GPU")
    scale = max(1.0, float(here.abs().max()))
    apart = float((here - there.cpu()).abs().max()) / scale
    if not apart <= ROUGH:
        raise Failed(f"{what}: GPU and CPU differ by {apart:g} of the largest value")
    return f"GPU and CPU agree within {apart:.1e}"


def check_gpu_matmul() -> tuple[str, object]:
    """A product of matrices (cuBLAS)."""
    torch = gpu()
    a, b = matrix(torch, SIDE, SIDE, 1), matrix(torch, SIDE, SIDE, 2)
    return on_both(torch, lambda device: a.to(device) @ b.to(device), "matmul"), None


def check_gpu_convolution() -> tuple[str, object]:
    """A convolution by cuDNN."""
    torch = gpu()
    need_cudnn(torch)
    image = matrix(torch, 8 * 16, 32 * 32, 3).reshape(8, 16, 32, 32)
    weight = matrix(torch, 24 * 16, 9, 4).reshape(24, 16, 3, 3)
    return on_both(
        torch, lambda device: torch.nn.functional.conv2d(image.to(device), weight.to(device)), "conv2d"
    ), None


def check_gpu_lstm() -> tuple[str, object]:
    """An LSTM by cuDNN, which loads other sub-libraries than a convolution."""
    torch = gpu()
    need_cudnn(torch)
    model, _ = lstm(torch, 16, 32)
    steps = matrix(torch, 4 * 20, 16, 8).reshape(4, 20, 16)
    return on_both(torch, lambda device: model.to(device)(steps.to(device))[0], "LSTM"), None


def check_gpu_factorisation() -> tuple[str, object]:
    """Cholesky, solve and eigenvalues (cuSOLVER, which torch opens by name)."""
    torch = gpu()
    base = matrix(torch, 64, 64, 5)
    positive = base @ base.T + 64 * torch.eye(64)

    def work(device: str) -> Any:  # noqa: ANN401
        a = positive.to(device)
        parts = torch.linalg.cholesky(a), torch.linalg.solve(a, torch.eye(64, device=device)), torch.linalg.eigvalsh(a)
        return torch.cat([part.flatten() for part in parts])

    return on_both(torch, work, "cholesky, solve, eigvalsh"), None


def need_cudnn(torch: ModuleType) -> None:
    """Failed where torch would quietly do without cuDNN."""
    if not (torch.backends.cudnn.is_available() and torch.backends.cudnn.enabled):
        raise Failed("torch does not use cuDNN here")


def check_gpu_triton() -> tuple[str, object]:
    """torch.compile's code generator makes a kernel: it needs triton, a C compiler and Python.h."""
    torch = gpu()
    if not installed("triton"):
        raise NotMeasured("triton is not installed")
    made = torch.compile(lambda x: torch.sin(x) * 2 + x, dynamic=False)
    return on_both(torch, lambda device: made(matrix(torch, 8, 64, 9).to(device)), "a compiled function"), None


def check_onnxruntime() -> tuple[str, object]:
    """A session that is really on the GPU: the list of available providers does not tell, the session's own does."""
    if not installed("onnxruntime"):
        raise NotMeasured("onnxruntime is not installed")
    import numpy as np
    import onnxruntime

    model, side = onnx_matmul(SIDE), SIDE
    a = np.array(numbers(side * side, 1), dtype=np.float32).reshape(side, side)
    b = np.array(numbers(side * side, 2), dtype=np.float32).reshape(side, side)
    seconds, results = {}, {}
    wanted = [name for name in onnxruntime.get_available_providers() if re.match("CUDA|Tensorrt|NvTensorRT", name)]
    for provider in ["CPUExecutionProvider", *(wanted if os.environ.get("VERIFY_GPU") else ())]:
        session = onnxruntime.InferenceSession(model, providers=[provider])
        if session.get_providers()[0] != provider:
            raise Failed(f"{provider} was asked for, and the session runs on {session.get_providers()[0]}")
        session.run(None, {"a": a, "b": b})
        begin = time.perf_counter()
        results[provider] = session.run(None, {"a": a, "b": b})[0]
        seconds[provider] = time.perf_counter() - begin
        near(results[provider].ravel().tolist(), (a @ b).ravel().tolist(), provider)
    if not os.environ.get("VERIFY_GPU"):
        return f"onnxruntime {onnxruntime.__version__}: right on the CPU", None
    if not wanted:
        has = ", ".join(onnxruntime.get_available_providers())
        raise Failed(f"onnxruntime {onnxruntime.__version__} has no provider for the GPU, only {has}")
    base = seconds["CPUExecutionProvider"]
    told = ", ".join(f"{name} {base / seconds[name]:.1f} times as fast as the CPU" for name in wanted)
    return f"onnxruntime {onnxruntime.__version__}: {told}", None


def onnx_matmul(side: int) -> bytes:
    """An ONNX model c = MatMul(a, b) of side x side floats, written in protobuf's own encoding (onnx.proto3)."""

    def number(value: int) -> bytes:
        made = b""
        while value > 127:  # noqa: PLR2004 - seven bits a byte
            made, value = made + bytes([value & 127 | 128]), value >> 7
        return made + bytes([value])

    def message(*parts: tuple[int, bytes | str | int]) -> bytes:
        made = b""
        for tag, value in parts:
            if isinstance(value, int):
                made += number(tag << 3) + number(value)
            else:
                data = value.encode() if isinstance(value, str) else value
                made += number(tag << 3 | 2) + number(len(data)) + data
        return made

    shape = message((1, message((1, side))), (1, message((1, side))))
    kind = message((1, message((1, 1), (2, shape))))  # a tensor of float
    node = message((1, "a"), (1, "b"), (2, "c"), (4, "MatMul"))
    values = [(tag, message((1, name), (2, kind))) for tag, name in ((11, "a"), (11, "b"), (12, "c"))]
    graph = message((1, node), (2, "product"), *values)
    return message((1, 8), (7, graph), (8, message((2, 13))))


# --- the rest


def check_compiler() -> tuple[str, object]:
    """A C extension is compiled and imported, where the image has a compiler; where triton is, it has to have one."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        if installed("triton"):
            raise Failed("triton is installed, and there is no C compiler for it")
        raise NotMeasured("the image has no C compiler, and nothing that was looked for needs one")
    headers = sysconfig.get_paths()["include"]
    if not Path(headers, "Python.h").is_file():
        raise NotMeasured(f"{compiler} is there, {headers}/Python.h is not")
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
    """What OpenCV was built with: a rebuild loses CUDA, GStreamer or FFmpeg in silence."""
    if not installed("cv2"):
        raise NotMeasured("OpenCV is not installed")
    import cv2

    lines = [line.split(":", 1) for line in cv2.getBuildInformation().splitlines() if ":" in line]
    told = {name.strip(): " ".join(value.split()) for name, value in lines}
    features = {name: told.get(name, "NO") for name in ("NVIDIA CUDA", "cuDNN", "GStreamer", "FFMPEG", "GTK")}
    return f"OpenCV {cv2.__version__}: " + ", ".join(f"{name} {value}" for name, value in features.items()), features


def installed(module: str) -> bool:
    """Whether *module* can be found, without importing it."""
    import importlib.util

    return importlib.util.find_spec(module) is not None


def import_module(name: str) -> tuple[str, object]:
    """Import one module."""
    module = importlib.import_module(name)
    return str(getattr(module, "__version__", "")) or "imported", None


def load_library(path: str) -> tuple[str, object]:
    """Open one library with every symbol bound at once, in the company that it has in use."""
    if "/torch/" in path:
        importlib.import_module("torch")
    ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_LOCAL)
    return "every symbol is bound", None


WORK: dict[str, tuple[str, Callable[[], tuple[str, object]]]] = {
    "torch matmul": ("A18", check_matmul),
    "torch convolution": ("A18", check_convolution),
    "torch LSTM": ("A18", check_lstm),
    "torch factorisation": ("A18", check_factorisation),
    "GPU device": ("A19", check_gpu_device),
    "GPU matmul": ("A19", check_gpu_matmul),
    "GPU convolution (cuDNN)": ("A19", check_gpu_convolution),
    "GPU LSTM (cuDNN)": ("A19", check_gpu_lstm),
    "GPU factorisation (cuSOLVER)": ("A19", check_gpu_factorisation),
    "GPU Triton kernel": ("A21", check_gpu_triton),
    "ONNX Runtime session": ("A20", check_onnxruntime),
    "C extension": ("A21", check_compiler),
    "OpenCV features": ("A22", check_opencv),
}


def of_probe(check: Callable[[], str]) -> Callable[[], tuple[str, object]]:
    """A check of probe.py: what it tells names no folder that differs between images, so it is the result too."""

    def done() -> tuple[str, object]:
        told = check()
        return told, told

    return done


WORK |= {name: ("A18", of_probe(check)) for name, check in probe.CHECKS.items()}


def names() -> list[tuple[str, str]]:
    """Every check of this image: its name and id. 'import x' and 'load /x.so' are found by looking."""
    found = [*(f"import {module}" for module in modules()), *(f"load {path}" for path in libraries())]
    return [(name, "A18") for name in found] + [(name, number) for name, (number, _) in WORK.items()]


def modules() -> list[str]:
    """Importable names of every installed distribution, by top_level.txt or the list of its files."""
    found: set[str] = set()
    for distribution in importlib.metadata.distributions():
        tops = {file.parts[0].split(".")[0] for file in distribution.files or () if file.suffix in {".py", ".so"}}
        told = set((distribution.read_text("top_level.txt") or "").split())  # some name folders that are not installed
        found |= told & tops if told and tops else told | tops
    return sorted(name for name in found if name.isidentifier() and not name.startswith("_"))


def libraries() -> list[str]:
    """Real paths of the libraries in PROVIDERS, stubs left out."""
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
    except Exception as error:  # noqa: BLE001 - what a check meets is its result
        status, detail = probe.judge(error)
        return {"status": status, "detail": detail, "result": None}
    return {"status": "ok", "detail": detail, "result": result}


def apart(name: str, number: str) -> dict[str, object]:
    """Do one check in a process of its own, which may crash, hang or complain."""
    begin = time.monotonic()
    argv = [sys.executable, "-B", sys.argv[0], "--check", name]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", check=False, timeout=CHECK_SECONDS
        )
    except subprocess.TimeoutExpired:
        row: dict[str, object] = {"status": "failed", "detail": f"no end within {CHECK_SECONDS} s", "result": None}
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
    parser = argparse.ArgumentParser(description="Runs what an image holds and says what works.")
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
    # Torch's import is most of the time; those on a GPU share it, and the times of A20 mean something only alone.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        done = {each: pool.submit(apart, *each) for each in names() if each[1] == "A18"}
    rows = [done[each].result() if each in done else apart(*each) for each in names()]
    print(json.dumps({"schema": SCHEMA, "versions": probe.versions(), "rows": rows}))
    return any(row["status"] == "failed" for row in rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

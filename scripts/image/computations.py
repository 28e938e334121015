"""Compute known results with PyTorch and ONNX Runtime, on the CPU and on a GPU.

verify.py runs each check_... of this file in a process of its own. A check returns its detail and its result, and
raises Failed or NotMeasured. Known values are worked out here in plain Python; a GPU's are compared with the CPU's.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import time
from typing import TYPE_CHECKING

from probe import Failed, NotMeasured, expect

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

TEGRA = {(5, 3), (6, 2), (7, 2), (8, 7), (10, 1), (11, 0)}
ROUGH = 1e-4  # relative, for single precision along hundreds of terms
SIDE = 192  # of the matrices that a GPU multiplies


# --- numbers that look random and are the same everywhere


def numbers(count: int, seed: int) -> list[float]:
    """Return *count* numbers between -1 and 1 with few binary digits: short sums of their products are exact."""
    state, made = seed, []
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        made.append(((state >> 12) % 129 - 64) / 64)
    return made


def matrix(torch: ModuleType, rows: int, columns: int, seed: int) -> Any:  # noqa: ANN401 - a tensor
    """Return a rows x columns tensor of `numbers`."""
    return torch.tensor(numbers(rows * columns, seed)).reshape(rows, columns)


# --- PyTorch on the CPU, against plain Python


def check_matmul() -> tuple[str, object]:
    """Multiply two matrices; every element is exact in single precision."""
    import torch

    size = 24
    a, b = numbers(size * size, 1), numbers(size * size, 2)
    known = [[sum(a[r * size + k] * b[k * size + c] for k in range(size)) for c in range(size)] for r in range(size)]
    found = (matrix(torch, size, size, 1) @ matrix(torch, size, size, 2)).tolist()
    expect(found, known, "matmul")
    return f"{size} x {size}, every element as worked out", fingerprint(found)


def check_convolution() -> tuple[str, object]:
    """Convolve three channels into two with 3 x 3 kernels."""
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
    """Run an LSTM for three steps and compare it with its equations."""
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
    """Solve, factorize, find eigenvalues and transform, with matrices whose results are known."""
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
    """Return an LSTM of one layer with known weights, and the weights as nested lists."""
    model = torch.nn.LSTM(features, hidden, batch_first=True)
    with torch.no_grad():
        for seed, (_, parameter) in enumerate(model.named_parameters(), start=10):
            parameter.copy_(torch.tensor(numbers(parameter.numel(), seed)).reshape(parameter.shape) / 2)
    return model.eval(), {name: parameter.tolist() for name, parameter in model.named_parameters()}


def sigmoid(value: float) -> float:
    """Return the logistic function of *value*."""
    return 1 / (1 + math.exp(-value))


def near(found: list[float], known: list[float], what: str) -> None:
    """Raise Failed unless both agree to ROUGH, relative to the largest value."""
    scale = max(1.0, *(abs(value) for value in known))
    pairs = zip(found, known, strict=True) if len(found) == len(known) else [(math.inf, 0.0)]
    apart = [abs(a - b) for a, b in pairs]
    if not all(each <= ROUGH * scale for each in apart):  # so that NaN fails too
        raise Failed(f"{what}: off by {max(apart):g}, of values up to {scale:g}")


def fingerprint(values: object) -> str:
    """Return a short digest of nested numbers."""
    import hashlib

    return hashlib.blake2b(json.dumps(values).encode(), digest_size=8).hexdigest()


# --- on a GPU, against the CPU


def gpu() -> ModuleType:
    """Return torch. Raises NotMeasured if the container was given no GPU, Failed if torch does not see it."""
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
    """Report the GPU's name and compute capability; fail if torch has no code for it."""
    torch = gpu()
    major, minor = torch.cuda.get_device_capability()
    built = torch.cuda.get_arch_list()
    if not any(fits(name, major, minor) for name in built):
        raise Failed(f"torch has code for {', '.join(built)}, none of which runs on sm_{major}{minor}")
    return f"{torch.cuda.get_device_name()}, compute capability {major}.{minor}; torch has {', '.join(built)}", None


def fits(name: str, major: int, minor: int) -> bool:
    """Return whether code for architecture *name* runs on this GPU, by NVIDIA's CUDA C++ programming guide.

    PTX runs on every later architecture. Machine code runs on the same major version from its own minor version on; if
    either architecture is one of Tegra's, only on exactly the one that it was made for.
    """
    match = re.fullmatch(r"(sm|compute)_(\d+)(\d)[af]?", name)
    if not match:
        return False
    have, here = (int(match[2]), int(match[3])), (major, minor)
    if match[1] == "compute":
        return have <= here
    return have == here or (have[0] == major and have <= here and not TEGRA & {have, here})


def on_both(torch: ModuleType, work: Callable[[str], Any], what: str) -> str:
    """Do *work* on the CPU and on the GPU, and return how far they differ. Raises Failed unless they agree."""
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
    """Multiply two matrices (cuBLAS)."""
    torch = gpu()
    a, b = matrix(torch, SIDE, SIDE, 1), matrix(torch, SIDE, SIDE, 2)
    return on_both(torch, lambda device: a.to(device) @ b.to(device), "matmul"), None


def check_gpu_convolution() -> tuple[str, object]:
    """Convolve with cuDNN."""
    torch = gpu()
    need_cudnn(torch)
    image = matrix(torch, 8 * 16, 32 * 32, 3).reshape(8, 16, 32, 32)
    weight = matrix(torch, 24 * 16, 9, 4).reshape(24, 16, 3, 3)
    return on_both(
        torch, lambda device: torch.nn.functional.conv2d(image.to(device), weight.to(device)), "conv2d"
    ), None


def check_gpu_lstm() -> tuple[str, object]:
    """Run an LSTM with cuDNN, which loads other sub-libraries for it than for a convolution."""
    torch = gpu()
    need_cudnn(torch)
    model, _ = lstm(torch, 16, 32)
    steps = matrix(torch, 4 * 20, 16, 8).reshape(4, 20, 16)
    return on_both(torch, lambda device: model.to(device)(steps.to(device))[0], "LSTM"), None


def check_gpu_factorisation() -> tuple[str, object]:
    """Factorize, solve and find eigenvalues (cuSOLVER, which torch opens by name)."""
    torch = gpu()
    base = matrix(torch, 64, 64, 5)
    positive = base @ base.T + 64 * torch.eye(64)

    def work(device: str) -> Any:  # noqa: ANN401
        a = positive.to(device)
        parts = torch.linalg.cholesky(a), torch.linalg.solve(a, torch.eye(64, device=device)), torch.linalg.eigvalsh(a)
        return torch.cat([part.flatten() for part in parts])

    return on_both(torch, work, "cholesky, solve, eigvalsh"), None


def need_cudnn(torch: ModuleType) -> None:
    """Raise Failed where torch would quietly do without cuDNN."""
    if not (torch.backends.cudnn.is_available() and torch.backends.cudnn.enabled):
        raise Failed("torch does not use cuDNN here")


def check_gpu_triton() -> tuple[str, object]:
    """Compile a function with torch.compile, which needs triton, a C compiler and Python.h."""
    torch = gpu()
    if not installed("triton"):
        raise NotMeasured("triton is not installed")
    made = torch.compile(lambda x: torch.sin(x) * 2 + x, dynamic=False)
    return on_both(torch, lambda device: made(matrix(torch, 8, 64, 9).to(device)), "a compiled function"), None


def check_onnxruntime() -> tuple[str, object]:
    """Run a session on the CPU and on the GPU; the session's own provider shows whether it really ran there."""
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
    """Return an ONNX model c = MatMul(a, b) of side x side floats, in protobuf's encoding (onnx.proto3)."""

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


def installed(module: str) -> bool:
    """Return whether *module* can be found, without importing it."""
    return importlib.util.find_spec(module) is not None

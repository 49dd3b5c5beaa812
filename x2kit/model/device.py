"""Choose the device and precision of a run. Imports torch."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from x2kit.errors import X2KitError

HAVE_FP16 = ("cuda", "cpu")
MIN_GAIN = 1.1
"""Smallest gain of bf16 on a CPU for which it is worth its rounding."""
_WIDTH, _ROWS, _PROBES = 768, 256, 5
"""A layer of the base size: a tenth of a second on one core."""
_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str | torch.device, setting: str = "training.device") -> torch.device:
    """Return the device of this name; "auto" prefers cuda, then mps, then cpu.

    Raises: X2KitError if unavailable; it names the setting.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise X2KitError(f'{setting}: "{name}" is not available: {first}; use "auto"') from error
    return device


def choose_precision(name: str, device: torch.device, setting: str = "training.precision") -> str:
    """Return the precision of this name; "auto" picks bf16 where it is native, and on a CPU also measured to be faster.

    A CPU without bf16 instructions is twenty times slower in bf16.

    Raises: X2KitError if the device does not support the precision.
    """
    if name == "fp16" and device.type not in HAVE_FP16:
        raise X2KitError(
            f"{setting}: fp16 needs loss scaling, supported on {' and '.join(HAVE_FP16)}, not on "
            f"{device.type}; use bf16 or fp32"
        )
    if name == "tf32" and device.type != "cuda":
        return "fp32"
    if name != "auto":
        return name
    faster = has_bf16(device) and (device.type != "cpu" or bf16_gain() > MIN_GAIN)
    return "bf16" if faster else "fp32"


def has_bf16(device: torch.device) -> bool:
    """Return whether a device is known to multiply bf16 natively; emulated (V100, T4) it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.type == "cpu" and bool(fast)


@lru_cache
def bf16_gain() -> float:
    """Measure, once a process, how many times as fast a layer of this CPU is under bf16 autocast, backward included."""
    with torch.random.fork_rng(devices=[]):  # the generator of the run is left alone
        layer = nn.Sequential(nn.Linear(_WIDTH, 4 * _WIDTH), nn.GELU(), nn.Linear(4 * _WIDTH, _WIDTH))
    states = torch.randn(_ROWS, _WIDTH, generator=torch.Generator().manual_seed(0))

    def seconds(precision: str) -> float:
        start = time.perf_counter()
        with autocast(torch.device("cpu"), precision):
            total = layer(states).float().sum()
        total.backward()
        return time.perf_counter() - start

    rounds = [(seconds("fp32"), seconds("bf16")) for _ in range(_PROBES)][1:]  # the first chooses kernels
    return min(plain for plain, _ in rounds) / min(half for _, half in rounds)


def use_deterministic_algorithms() -> None:
    """Restrict torch to deterministic algorithms for the rest of the process.

    An operation without one raises RuntimeError with its name. cuBLAS reads its setting before the first matrix
    product (https://docs.nvidia.com/cuda/cublas/#results-reproducibility); a value set by the user is kept.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)


def use_matmul_precision(precision: str) -> None:
    """Allow TF32 in float32 matrix products for the rest of the process if the precision is "tf32", else forbid it."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


class _Float32Attention(TorchFunctionMode):
    """Run attention in float32: on CPU its bf16 backward pass is three times slower."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        with torch.autocast("cpu", enabled=False):
            floats = [value.float() for value in args[:3]]
            named = {k: v.float() if k in ("query", "key", "value") else v for k, v in (kwargs or {}).items()}
            return func(*floats, *args[3:], **named)


@contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Run matrix products in bf16 or fp16, according to `precision`; parameters and losses stay float32."""
    if precision not in _HALF:
        yield
        return
    attention = _Float32Attention() if device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, _HALF[precision]), attention:
        yield


def copied(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device; to CUDA from pinned memory, for which the calling thread does not wait."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def describe_device(device: torch.device, precision: str) -> str:
    """Format device, precision and, on CPU, the number of threads."""
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return f"{device}, {precision}{threads}"

"""Choose the device and precision of a run. Imports torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from x2kit.errors import X2KitError

HAVE_FP16 = ("cuda", "cpu")
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
    """Return the precision of this name; "auto" picks bf16 if the device multiplies it faster than float32.

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
    if device.type == "cuda":
        # Emulated bf16 (V100, T4) is slower than float32.
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if device.type == "cpu" and fast else "fp32"


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

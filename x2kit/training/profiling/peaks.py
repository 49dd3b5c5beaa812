"""Measure the peak of a device, operations a second and memory. Imports torch."""

from __future__ import annotations

import os
import resource
import sys
import time

import torch

from x2kit.training.profiling.datasheets import accelerator_named

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def matmul_peak(device: torch.device, precision: str, repeats: int = 5) -> float:
    """Return floating-point operations a second of the fastest of some large square matrix products."""
    # Long enough to leave the burst clock of the processor.
    side = 2048 if device.type == "cpu" else 8192
    dtype = _DTYPES.get(precision, torch.float32)
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(1 + repeats):
        start = now(device)
        left @ right
        best = min(best, now(device) - start)
    return 2 * side**3 / best


def datasheet_peak(device: torch.device, precision: str) -> float | None:
    """Return floating-point operations a second of a card's datasheet; None if it is not known."""
    if device.type != "cuda":
        return None
    card = accelerator_named(torch.cuda.get_device_name(device))
    return None if card is None else card.peak(precision)


def now(device: torch.device) -> float:
    """Return the time in seconds once the device has finished all work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def restart_peak_memory(device: torch.device) -> None:
    """Forget the peak of memory so far, on a device that can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Return the peak of a device's memory in bytes; of a CPU that of the process since its start."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def total_memory(device: torch.device, ranks: int = 1) -> int:
    """Return the memory in bytes that a rank may use: that of its device, or its part of the machine's.

    Args:
        device: of the rank.
        ranks: on this machine.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // ranks

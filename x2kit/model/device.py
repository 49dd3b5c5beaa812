"""Which device a run uses, and in which precision. Imports torch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from x2kit.errors import X2KitError


def choose_device(name: str) -> torch.device:
    """The device of this name; "auto" takes cuda, then mps, then cpu. Raises X2KitError if it is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise X2KitError(f'training.device: "{name}" cannot be used here: {first}; "auto" chooses') from error
    return device


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Matrix products in bf16 where the precision says so; parameters and losses stay float32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)

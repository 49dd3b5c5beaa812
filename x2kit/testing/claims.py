"""Assertions of the checks; unlike `assert` they also work under `python -O`."""

from __future__ import annotations

import torch
from torch import Tensor

CLOSE = 1e-4
"""Tolerance for the order of float32 sums, relative to values of about 1."""

SEEN = 1e-7
"""Difference above rounding, where the order of sums is the same."""


class Unchecked(AssertionError):
    """A check cannot run without further options; it says which."""


def claim(holds: bool, otherwise: str) -> None:
    """Raise AssertionError with the message `otherwise` unless `holds`."""
    if not holds:
        raise AssertionError(otherwise)


def claim_shape(what: str, tensor: Tensor, shape: tuple[int, ...], letters: str) -> None:
    """Require a shape; `letters` names its axes, for example "[B, L, D]"."""
    claim(
        isinstance(tensor, Tensor) and tuple(tensor.shape) == shape,
        f"{what} is {list(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__}, "
        f"expected {letters} = {list(shape)}",
    )


def difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference, relative to the largest value if that is above 1."""
    if one.numel() == 0:
        return 0.0
    scale = max(1.0, float(one.detach().abs().max()))
    return float((one.detach().double() - other.detach().double()).abs().max()) / scale


def claim_close(one: Tensor, other: Tensor, otherwise: str, tolerance: float = CLOSE) -> None:
    """Require two tensors to be equal up to rounding; the difference is appended to the message."""
    claim(bool(torch.isfinite(one).all()) and bool(torch.isfinite(other).all()), f"{otherwise} (not finite)")
    found = difference(one, other)
    claim(found <= tolerance, f"{otherwise} (differs by {found:.2g}, allowed {tolerance:.0e})")


def claim_differs(one: Tensor, other: Tensor, otherwise: str) -> None:
    """Require two tensors to differ by more than rounding."""
    claim(difference(one, other) > SEEN, otherwise)

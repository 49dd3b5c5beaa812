"""Relative position tables of BEiT at another window (BEiT repository, utils.py; X²-VLM does the same)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

EXTRA_ROWS = 3
"""Class to token, token to class, class to class: copied."""

_LOWEST, _HIGHEST, _PRECISION = 1.01, 1.5, 1e-6


def window_of(rows: int) -> int:
    """Patches along a side of the window that a table of so many rows is for."""
    return (math.isqrt(rows - EXTRA_ROWS) + 1) // 2


def resize_table(table: Tensor, window: int) -> Tensor:
    """A table for a window of `window` × `window` patches.

    Old rows are placed in a geometric progression, dense in the middle, whose ratio is found by bisection so that
    they reach the new extent; between them a tensor-product cubic spline, outside them its border value.

    Args:
        table: [(2w-1)² + 3, H] float32.
    Returns: [(2 window - 1)² + 3, H] float32.
    """
    from scipy.interpolate import make_interp_spline

    side, wanted = 2 * window_of(len(table)) - 1, 2 * window - 1
    if side == wanted:
        return table
    old = source_coordinates(side, wanted)
    half = wanted // 2
    new = torch.arange(-half, half + 1, dtype=torch.float64).clamp(old[0], old[-1]).numpy()
    grid = table[:-EXTRA_ROWS].double().unflatten(0, (side, side)).numpy()
    for axis in (0, 1):
        grid = make_interp_spline(old, grid, k=3, axis=axis)(new)
    rows = torch.from_numpy(grid).flatten(0, 1).to(table.dtype)
    return torch.cat([rows, table[-EXTRA_ROWS:]])


def source_coordinates(side: int, wanted: int) -> list[float]:
    """Where the old rows of one axis lie, in units of the new ones; the middle one at 0."""
    low, high = _LOWEST, _HIGHEST
    while high - low > _PRECISION:
        ratio = (low + high) / 2
        reach = (1 - ratio ** (side // 2)) / (1 - ratio)
        if reach > wanted // 2:
            high = ratio
        else:
            low = ratio
    places, step = [], 1.0
    for exponent in range(side // 2):
        places.append(step)
        step += ratio ** (exponent + 1)
    return [-place for place in reversed(places)] + [0.0] + places

"""Relative position tables of BEiT and Swin at another window (BEiT repository; X²-VLM and X-VLM do the same)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

EXTRA_ROWS = 3
"""Of BEiT's tables: class to token, token to class, class to class. They are copied."""

_LOWEST, _HIGHEST, _PRECISION = 1.01, 1.5, 1e-6
_DEGREE = 3


def window_of(rows: int, extra_rows: int = EXTRA_ROWS) -> int:
    """Patches along a side of the window that a table of so many rows is for."""
    return (math.isqrt(rows - extra_rows) + 1) // 2


def resize_table(table: Tensor, window: int, extra_rows: int = EXTRA_ROWS) -> Tensor:
    """A table for a window of `window` × `window` patches.

    Old rows are placed in a geometric progression, dense in the middle, whose ratio is found by bisection so that
    they reach the new extent; between them a tensor-product cubic spline, outside them its border value.

    Args:
        table: [(2w-1)² + extra_rows, H] float.
        extra_rows: at the end of the table and about no pair of patches: 3 in BEiT's, 0 in Swin's.
    Returns: [(2 window - 1)² + extra_rows, H], of the table's type.
    """
    side, wanted = 2 * window_of(len(table), extra_rows) - 1, 2 * window - 1
    if side == wanted:
        return table
    pairs = len(table) - extra_rows
    if side == 1:  # one patch: nothing to interpolate
        return torch.cat([table[:pairs].expand(wanted**2, -1), table[pairs:]])
    from scipy.interpolate import make_interp_spline

    old = source_coordinates(side, wanted)
    half = wanted // 2
    new = torch.arange(-half, half + 1, dtype=torch.float64).clamp(old[0], old[-1]).numpy()
    grid = table[:pairs].double().unflatten(0, (side, side)).numpy()
    for axis in (0, 1):
        grid = make_interp_spline(old, grid, k=min(_DEGREE, side - 1), axis=axis)(new)
    rows = torch.from_numpy(grid).flatten(0, 1).to(table.dtype)
    return torch.cat([rows, table[pairs:]])


def source_coordinates(side: int, wanted: int) -> list[float]:
    """Where the old rows of one axis lie, in units of the new ones; the middle one at 0.

    Args:
        side: rows of one axis before, an odd number.
        wanted: rows of one axis after.
    """
    ratio = growth(side, wanted)
    places, step = [], 1.0
    for exponent in range(side // 2):
        places.append(step)
        step += ratio ** (exponent + 1)
    return [-place for place in reversed(places)] + [0.0] + places


def growth(side: int, wanted: int) -> float:
    """Ratio of the progression of `source_coordinates`, whose first distance from the middle is 1."""
    low, high = _LOWEST, _HIGHEST
    while high - low > _PRECISION:
        ratio = (low + high) / 2
        if (1 - ratio ** (side // 2)) / (1 - ratio) > wanted // 2:
            high = ratio
        else:
            low = ratio
    return ratio

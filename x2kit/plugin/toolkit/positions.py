"""Positions of patches: sinusoids, and learned positions resized to another grid. Imports torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

EXTRA_ROWS = 3
"""Last rows of BEiT's tables: class to token, token to class, class to class. They are copied."""

_LOWEST, _HIGHEST, _PRECISION = 1.01, 1.5, 1e-6
_DEGREE = 3


def sinusoid_2d(grid: tuple[int, int], width: int) -> Tensor:
    """Compute fixed positions [rows * columns, width]: sines and cosines of the row, then of the column.

    Args:
        grid: (rows, columns).
        width: a multiple of 4; frequencies fall from 1 to 1/10000.
    """
    frequencies = torch.exp(torch.arange(width // 4) * (-math.log(10000.0) / (width // 4)))
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequencies for axis in (rows, columns)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], 1)


def resize_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize learned absolute positions to another grid: patches bicubically, the class position copied.

    Corners are not aligned.

    Args:
        positions: [1 + N, D], the class first, of a square grid.
        grid: (rows, columns) of the result.
    Returns: [1 + rows * columns, D].
    """
    side = math.isqrt(len(positions) - 1)
    if (side, side) == grid:
        return positions
    patches = positions[1:].T.reshape(1, -1, side, side)
    resized = F.interpolate(patches, size=grid, mode="bicubic", align_corners=False)[0].flatten(1).T
    return torch.cat([positions[:1], resized])


def window_side(rows: int, extra_rows: int = EXTRA_ROWS) -> int:
    """Return the side, in patches, of the window of a table with this number of rows."""
    return (math.isqrt(rows - extra_rows) + 1) // 2


def resize_relative_positions(table: Tensor, window: int, extra_rows: int = EXTRA_ROWS) -> Tensor:
    """Resize a table of relative positions to a window of `window` × `window` patches (BEiT, X²-VLM, X-VLM).

    The old rows are placed in a geometric progression, dense in the middle, whose ratio is found by bisection so that
    they reach the new extent. Values between them are those of a tensor-product cubic spline, outside them those of
    the border.

    Args:
        table: [(2w-1)² + extra_rows, H] float.
        extra_rows: rows at the end of the table that belong to no pair of patches: 3 in BEiT, 0 in Swin.
    Returns: [(2 window - 1)² + extra_rows, H], of the table's dtype.
    """
    side, wanted = 2 * window_side(len(table), extra_rows) - 1, 2 * window - 1
    if side == wanted:
        return table
    pairs = len(table) - extra_rows
    if side == 1:  # one patch: nothing to interpolate
        return torch.cat([table[:pairs].expand(wanted**2, -1), table[pairs:]])
    from scipy.interpolate import make_interp_spline

    old = source_coordinates(side, wanted)
    half = wanted // 2
    new = torch.arange(-half, half + 1, dtype=torch.float64).clamp(old[0], old[-1]).numpy()
    grid = table[:pairs].double().view(side, side, -1).numpy()
    for axis in (0, 1):
        grid = make_interp_spline(old, grid, k=min(_DEGREE, side - 1), axis=axis)(new)
    rows = torch.from_numpy(grid).flatten(0, 1).to(table.dtype)
    return torch.cat([rows, table[pairs:]])


def source_coordinates(side: int, wanted: int) -> list[float]:
    """Place the old rows of one axis, in units of the new ones, with the middle one at 0.

    Args:
        side: old number of rows of the axis, odd.
        wanted: new number of rows of the axis.
    """
    ratio = progression_ratio(side, wanted)
    places, step = [], 1.0
    for exponent in range(side // 2):
        places.append(step)
        step += ratio ** (exponent + 1)
    return [-place for place in reversed(places)] + [0.0] + places


def progression_ratio(side: int, wanted: int) -> float:
    """Find the ratio of the progression of `source_coordinates`, whose first step is 1."""
    low, high = _LOWEST, _HIGHEST
    while high - low > _PRECISION:
        ratio = (low + high) / 2
        if (1 - ratio ** (side // 2)) / (1 - ratio) > wanted // 2:
            high = ratio
        else:
            low = ratio
    return ratio

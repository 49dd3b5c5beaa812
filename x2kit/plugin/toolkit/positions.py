"""Positions of patches: fixed ones, and learned ones at another image size. Imports torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def sinusoid_2d(grid: tuple[int, int], width: int) -> Tensor:
    """Fixed positions [rows * columns, width]: sines and cosines of the row, then of the column.

    Args:
        grid: (rows, columns).
        width: a multiple of 4; frequencies fall from 1 to 1/10000.
    """
    frequencies = torch.exp(torch.arange(width // 4) * (-math.log(10000.0) / (width // 4)))
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequencies for axis in (rows, columns)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], 1)


def resize_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Learned absolute positions for another grid: patches bicubically, without aligning corners; the class copied.

    Args:
        positions: [1 + N, D], the class first, of a square grid.
        grid: (rows, columns) wanted.
    Returns: [1 + rows * columns, D].
    """
    side = math.isqrt(len(positions) - 1)
    if (side, side) == grid:
        return positions
    patches = positions[1:].T.reshape(1, -1, side, side)
    resized = F.interpolate(patches, size=grid, mode="bicubic", align_corners=False)[0].flatten(1).T
    return torch.cat([positions[:1], resized])

"""Fixed positions of patches. Imports torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor


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

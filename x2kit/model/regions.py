"""Map boxes to patches: the patches a box touches and their covered shares. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_convert

from x2kit.errors import ShapeError

BORDER = {torch.float32: 2e-5, torch.float64: 1e-12}
"""Tolerance in patches: a box that reaches less far into a patch does not touch it.

With 48 patches a row, rounding moves an edge by up to 1e-5 of a patch in float32 and 1e-14 in float64. Records are read
in float64, where an edge 1e-9 pixels beyond a border counts, as in the official code."""


def patch_mask(bbox: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mark the patches that each box overlaps (X²-VLM, section 3.1).

    An edge on a patch border does not count; an empty box still selects one patch along each axis.

    Args:
        bbox: [B, 4] cxcywh in [0, 1]; float64 reproduces the official masks, float32 is allowed.
        grid: (rows, columns) of the patches.
    Returns: [B, rows * columns] bool, row-major.
    """
    rows, columns = grid
    down = _touched(bbox[:, 1], bbox[:, 3], rows)
    across = _touched(bbox[:, 0], bbox[:, 2], columns)
    return (down[:, :, None] & across[:, None, :]).flatten(1)


def _touched(centre: Tensor, size: Tensor, count: int) -> Tensor:
    border = BORDER[centre.dtype]
    first = ((centre - size / 2) * count + border).floor().clamp(0, count - 1)
    last = ((centre + size / 2) * count - border).ceil() - 1
    last = torch.maximum(last.clamp(0, count - 1), first)
    cells = torch.arange(count, device=centre.device)
    return (cells >= first[:, None]) & (cells <= last[:, None])


def patch_overlap(bbox: Tensor, grid: tuple[int, int]) -> Tensor:
    """Compute the share of each patch that a box covers, at least `BORDER` for patches it touches.

    Args:
        bbox: [B, 4] cxcywh in [0, 1].
        grid: (rows, columns) of the patches.
    Returns: [B, rows * columns] float32 in [0, 1], row-major; above 0 exactly where `patch_mask` is True.
    """
    rows, columns = grid
    down = _covered(bbox[:, 1], bbox[:, 3], rows)
    across = _covered(bbox[:, 0], bbox[:, 2], columns)
    share = (down[:, :, None] * across[:, None, :]).flatten(1).float()
    return share.clamp_min(BORDER[share.dtype]) * patch_mask(bbox, grid)


def _covered(centre: Tensor, size: Tensor, count: int) -> Tensor:
    cells = torch.arange(count, device=centre.device)
    first, last = (centre - size / 2) * count, (centre + size / 2) * count
    return (torch.minimum(last[:, None], cells + 1) - torch.maximum(first[:, None], cells)).clamp(0, 1)


def boxes_in_pixels(bbox: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Convert boxes of `X2VLM.predict_bbox` to the format of records.

    Args:
        bbox: [B, 4] cxcywh in [0, 1].
        sizes: (width, height) in pixels of each box's image, as in `PIL.Image.size`.
    Returns: [B, 4] xywh in pixels: left upper corner, width and height.
    Raises: ShapeError if the numbers of sizes and boxes differ.
    """
    if len(bbox) != len(sizes):
        raise ShapeError(f"expected one image size per box, found {len(bbox)} boxes and {len(sizes)} sizes")
    scale = torch.tensor(sizes, device=bbox.device).reshape(-1, 2).repeat(1, 2)
    xywh: Tensor = box_convert(bbox, "cxcywh", "xywh")
    return xywh * scale

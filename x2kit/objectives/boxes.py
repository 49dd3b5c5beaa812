"""Bounding-box losses: L1 (bbox) and generalised IoU (giou). Boxes are cxcywh in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def _mean_over(losses: Tensor, counts: Tensor | None) -> Tensor:
    if counts is None:
        return losses.mean()
    kept = counts.to(losses.dtype)
    # A batch of whole images has no box to learn; the official code divides by zero there.
    return (losses * kept).sum() / kept.sum().clamp_min(1)


def bbox_loss(predicted: Tensor, target: Tensor, counts: Tensor | None = None) -> Tensor:
    """L1 distance, summed over the four numbers of a box (X-VLM, arXiv:2111.08276, equation 3).

    Args:
        predicted: [B, 4] cxcywh.
        target: [B, 4] cxcywh.
        counts: [B] bool, rows that are about a region; None for all.
    Returns: scalar, a mean over the rows that count; 0 if none does.
    """
    return _mean_over(F.l1_loss(predicted.float(), target.float(), reduction="none").sum(1), counts)


def corners(bbox: Tensor) -> Tensor:
    """[..., 4] cxcywh to x1, y1, x2, y2."""
    centre, half = bbox[..., :2], bbox[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def iou_and_giou(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and the generalised one (arXiv:1902.09630), row by row.

    Args:
        first, second: [B, 4] cxcywh with width and height above 0.
    Returns: two tensors [B].
    """
    a, b = corners(first.float()), corners(second.float())
    area_a = (a[:, 2:] - a[:, :2]).prod(1)
    area_b = (b[:, 2:] - b[:, :2]).prod(1)
    overlap = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp_min(0).prod(1)
    union = area_a + area_b - overlap
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    iou = overlap / union
    return iou, iou - (hull - union) / hull


def giou_loss(predicted: Tensor, target: Tensor, counts: Tensor | None = None) -> Tensor:
    """1 - generalised IoU; arguments and result as in `bbox_loss`.

    Boxes must have width and height above 0: predicted ones come from a sigmoid, target ones are checked where
    records are read, so no box can spoil the batch (in the official code one degenerate box sets the loss to 0).
    """
    return _mean_over(1 - iou_and_giou(predicted, target)[1], counts)

"""Bounding-box losses: L1 (bbox) and generalised IoU (giou). Boxes are cxcywh in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert


def bbox_loss(predicted: Tensor, target: Tensor, counts: Tensor | None = None) -> Tensor:
    """Sum the L1 distance over the four coordinates of a box (X-VLM, arXiv:2111.08276, equation 3).

    Args:
        predicted: [B, 4] cxcywh.
        target: [B, 4] cxcywh.
        counts: [B] bool, True for rows about a region; None for all.
    Returns: scalar, the mean over the rows that count; 0 if none does.
    """
    return _mean_over(F.l1_loss(predicted.float(), target.float(), reduction="none").sum(1), counts)


def giou_loss(predicted: Tensor, target: Tensor, counts: Tensor | None = None) -> Tensor:
    """Compute 1 - generalised IoU; arguments and result as in `bbox_loss`.

    Boxes must have width and height above 0: predictions come from a sigmoid, targets are validated when a record
    is read. (In the official code one degenerate box sets the loss of the batch to 0.)
    """
    return _mean_over(1 - iou_and_giou(predicted, target)[1], counts)


def iou_and_giou(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Compute IoU and generalised IoU (arXiv:1902.09630) row by row.

    Args:
        first, second: [B, 4] cxcywh with width and height above 0.
    Returns: two tensors [B].
    """
    # torchvision.ops has IoU of all pairs, which takes B² memory, and a row-wise loss whose boolean indexing
    # synchronises the device and does not run on meta tensors.
    a, b = (box_convert(box.float(), "cxcywh", "xyxy") for box in (first, second))
    area_a = (a[:, 2:] - a[:, :2]).prod(1)
    area_b = (b[:, 2:] - b[:, :2]).prod(1)
    overlap = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp_min(0).prod(1)
    union = area_a + area_b - overlap
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    iou = overlap / union
    return iou, iou - (hull - union) / hull


def _mean_over(losses: Tensor, counts: Tensor | None) -> Tensor:
    if counts is None:
        return losses.mean()
    kept = counts.to(losses.dtype)
    # Without a single region the official code divides by zero.
    return (losses * kept).sum() / kept.sum().clamp_min(1)

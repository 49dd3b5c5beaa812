"""Matching loss (itm, and ttm by the same formula), hard negatives for it, and detection of a collapsed head."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from x2kit.errors import ShapeError

FLOOR = 1e-5
"""Added to every probability, so that a negative exists even where the softmax underflows (official code)."""
COLLAPSE_MARGIN = 0.01
"""Distance of an accuracy from 0 or 1 within which the head counts as giving one answer only."""


def itm_loss(logits: Tensor, valid: Tensor | None = None) -> Tensor:
    """Classify pairs as matched or not (X-VLM, arXiv:2111.08276, section 3.2).

    Args:
        logits: [3B, 2], in thirds: matched pairs, texts with negative images, negative texts with images; class 1
            is "matched".
        valid: [3B] bool, rows that count; None for all.
    Returns: scalar, nats a row; 0 if no row counts.
    Raises: ShapeError if the rows do not divide into thirds.
    """
    if logits.ndim != 2 or logits.shape[1] != 2 or len(logits) % 3:
        raise ShapeError(f"matching logits must be [3B, 2], found {list(logits.shape)}")
    labels = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    labels[: len(logits) // 3] = 1
    losses = F.cross_entropy(logits.float(), labels, reduction="none")
    if valid is None:
        return losses.mean()
    kept = valid.to(losses.dtype)
    return (losses * kept).sum() / kept.sum().clamp_min(1)


def negative_weights(logits: Tensor, group: Tensor | None = None) -> Tensor:
    """Compute with which weight each column is drawn as negative of each row.

    Args:
        logits: [B, B], rows against columns; transpose for the other direction.
        group: [B] int64; rows of one group are never negatives of each other. None excludes only the diagonal.
    Returns: [B, B] float32, not normalised: softmax of the row plus 1e-5, 0 for columns of the row's group.
    Raises: ShapeError for a single row, which has no negative.
    """
    if len(logits) < 2:
        raise ShapeError("hard negatives need at least 2 rows a stream and step, found 1")
    weights = logits.detach().float().softmax(1) + FLOOR
    if group is None:
        group = torch.arange(len(logits), device=logits.device)
    return weights.masked_fill(group[:, None] == group, 0)


def draw_negatives(weights: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Draw a column for each row with probability proportional to its weight.

    Args:
        weights: [B, B], not negative.
        generator: on the device of the weights; None for torch's global one.
    Returns: columns [B] int64, and valid [B] bool: False for a row without any negative (all rows of the batch are
        in its group), whose column must not be used.
    """
    # argmax of w / Exponential(1) draws in proportion to w; multinomial would synchronise the device.
    noise = (
        torch.empty_like(weights).exponential_(generator=generator).clamp_min(torch.finfo(weights.dtype).tiny)
    )
    return (weights / noise).argmax(1), weights.sum(1) > 0


def describe_collapse(positive_accuracy: float, negative_accuracy: float) -> str | None:
    """Describe a matching head that gives nearly every pair one answer; None if it does not.

    Args:
        positive_accuracy: share of matching pairs classified as matching.
        negative_accuracy: share of other pairs classified as not matching.
    """
    if positive_accuracy <= COLLAPSE_MARGIN and negative_accuracy >= 1 - COLLAPSE_MARGIN:
        answer = "no match"
    elif positive_accuracy >= 1 - COLLAPSE_MARGIN and negative_accuracy <= COLLAPSE_MARGIN:
        answer = "match"
    else:
        return None
    return (
        f'answers "{answer}" to nearly every pair (accuracy {positive_accuracy:.2f} on matching pairs, '
        f"{negative_accuracy:.2f} on the others), so its scores do not separate pairs"
    )

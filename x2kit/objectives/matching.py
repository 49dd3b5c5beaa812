"""Matching losses: image-text (itm), and text-text (ttm), which is the same formula."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from x2kit.errors import ShapeError


def itm_loss(logits: Tensor, valid: Tensor | None = None) -> Tensor:
    """Is this pair a pair? (X-VLM, arXiv:2111.08276, section 3.2)

    Args:
        logits: [3B, 2], in thirds: matched pairs, texts with negative images, negative texts with images; class 1
            is "matched".
        valid: [3B] bool, rows that count; None for all.
    Returns: scalar, nats a row.
    Raises: ShapeError if the rows are not thirds.
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


FLOOR = 1e-5
"""Added to every probability, so that a negative exists even where the softmax underflows (official code)."""


def negative_weights(logits: Tensor, group: Tensor | None = None) -> Tensor:
    """How likely each column is drawn as the negative of each row.

    Args:
        logits: [B, B], rows against columns; the transpose gives the other direction.
        group: [B] int64; equal entries are never negatives of each other. None: only the diagonal is left out.
    Returns: [B, B] float32, not normalised: softmax of the row plus 1e-5, 0 for columns of the own group.
    Raises: ShapeError if there is only one row, which has no negative.
    """
    if len(logits) < 2:
        raise ShapeError("hard negatives need at least 2 rows a stream and step, found 1")
    weights = logits.detach().float().softmax(1) + FLOOR
    if group is None:
        group = torch.arange(len(logits), device=logits.device)
    return weights.masked_fill(group[:, None] == group, 0)


def draw_negatives(weights: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """One column for each row, with probability proportional to its weight.

    Args:
        weights: [B, B], not negative.
        generator: on the device of the weights; None for torch's own.
    Returns: columns [B] int64, and valid [B] bool: False where a row has no negative at all (every row of the
        batch is in its group); its column means nothing and must not count.
    """
    # The largest of w / Exponential(1) is a draw by w; unlike multinomial it needs no look at the values.
    noise = (
        torch.empty_like(weights).exponential_(generator=generator).clamp_min(torch.finfo(weights.dtype).tiny)
    )
    return (weights / noise).argmax(1), weights.sum(1) > 0


NEAR = 0.01
"""How far an accuracy may be from 0 or 1: less than one pair in a hundred gets another answer."""


def describe_collapse(positive_accuracy: float, negative_accuracy: float) -> str | None:
    """Say that a matching head tells nothing apart; None if it does.

    Args:
        positive_accuracy: share of the matching pairs that it calls matching.
        negative_accuracy: share of the other pairs that it calls not matching.
    """
    if positive_accuracy <= NEAR and negative_accuracy >= 1 - NEAR:
        answer = "no match"
    elif positive_accuracy >= 1 - NEAR and negative_accuracy <= NEAR:
        answer = "match"
    else:
        return None
    return (
        f'answers "{answer}" to nearly every pair (accuracy {positive_accuracy:.2f} on matching pairs, '
        f"{negative_accuracy:.2f} on the others), so its scores tell nothing apart"
    )

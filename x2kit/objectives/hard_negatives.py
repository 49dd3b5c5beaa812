"""Hard negatives for matching: drawn by similarity, never of the own group (X-VLM, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from x2kit.errors import ShapeError

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

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

"""Contrastive losses: image-text (itc), and text-text (ttc) by the same formula."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from x2kit.errors import ShapeError


def contrastive_logits(first: Tensor, second: Tensor, temperature: Tensor) -> Tensor:
    """Divide similarities by the temperature, in float32 under any autocast.

    Args:
        first: [B, E], unit length.
        second: [C, E], unit length.
        temperature: scalar above 0.
    Returns: [B, C] float32.
    """
    device = first.device.type
    has_autocast = torch.amp.is_autocast_available(device)  # False for meta tensors, as in cost estimates
    with torch.autocast(
        device if has_autocast else "cpu", enabled=False
    ):  # autocast would return half precision
        return first.float() @ second.float().T / temperature.float()


def itc_loss(logits: Tensor, group: Tensor | None = None) -> Tensor:
    """Average the contrastive loss of both directions (X-VLM, arXiv:2111.08276, equation 2).

    Args:
        logits: [B, B], row i and column i match; see `contrastive_logits`.
        group: [B] int64; rows of one group are positives of each other and share the target.
    Returns: scalar, nats a row.
    Raises: ShapeError if logits are not square.
    """
    if logits.ndim != 2 or logits.shape[0] != logits.shape[1]:
        raise ShapeError(f"contrastive logits must be square, found {list(logits.shape)}")
    if group is None:
        target = torch.arange(len(logits), device=logits.device)
    else:
        same = (group[:, None] == group).to(logits.dtype)
        target = same / same.sum(1, keepdim=True)  # symmetric, so it is the target of both directions
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

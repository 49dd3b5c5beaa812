"""Masked language modelling (mlm), on parallel texts tlm, and the captioning loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100
"""Label of a position without a token to predict."""


def mlm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Average the cross-entropy over all masked tokens of the batch.

    Args:
        logits: [B, K, V].
        labels: [B, K] int64, -100 where there is nothing to predict.
    Returns: scalar, nats a token; 0 without masked tokens.
    """
    losses = F.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return losses / (labels != IGNORED).sum().clamp_min(1)


def caption_loss(
    logits: Tensor, labels: Tensor, counts: Tensor, unused: int, smoothing: float = 0.1
) -> Tensor:
    """Compute the KL divergence of masked tokens from smoothed labels (official code).

    The correct token has probability 1 - `smoothing`; all others except `unused` share the rest. The entropy of the
    smoothed labels is subtracted, so a perfect prediction costs nothing.

    Args:
        logits: [B, K, V].
        labels: [B, K] int64.
        counts: [B, K], 1 or True where there is a token to predict.
        unused: id of a token that occurs only at the start of a text (official code: [CLS]); it is neither a correct
            token nor one of the others.
        smoothing: probability taken from the correct token.
    Returns: scalar, nats a token; 0 without masked tokens.
    """
    others = smoothing / (logits.shape[-1] - 2)
    target = torch.full_like(logits, others, dtype=torch.float32)
    target.scatter_(-1, labels[..., None], 1 - smoothing)
    target[..., unused] = 0
    target = target.masked_fill((labels == unused)[..., None], 0)
    losses = F.kl_div(logits.float().log_softmax(-1), target, reduction="none").sum(-1)
    kept = counts.to(losses.dtype)
    return (losses * kept).sum() / (kept.sum() + 1e-5)  # as the official code avoids the division by zero

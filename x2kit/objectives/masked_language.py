"""Masked language modelling (mlm), and its translation form on parallel texts (tlm), which is the same formula."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100


def mlm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the masked tokens, a mean over all of them in the batch.

    Args:
        logits: [B, K, V].
        labels: [B, K] int64, -100 where there is nothing to predict.
    Returns: scalar, nats a token; 0 if nothing is to be predicted.
    """
    losses = F.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return losses / (labels != IGNORED).sum().clamp_min(1)


def caption_loss(
    logits: Tensor, labels: Tensor, counts: Tensor, unused: int, smoothing: float = 0.1
) -> Tensor:
    """What a captioning model loses on its masked tokens: the divergence from smoothed labels (official code).

    The right token has probability 1 - `smoothing`, all others but the unused one share the rest. The smoothed labels'
    own entropy is taken off, so a perfect answer costs nothing.

    Args:
        logits: [B, K, V].
        labels: [B, K] int64.
        counts: [B, K], 1 or True where there is a token to predict.
        unused: id of a token that no text has behind its first place (the official code's is [CLS]); it is never
            right, nor one of the others.
        smoothing: probability that is taken from the right token.
    Returns: scalar, nats a token; 0 if nothing is to be predicted.
    """
    others = smoothing / (logits.shape[-1] - 2)
    target = torch.full_like(logits, others, dtype=torch.float32)
    target.scatter_(-1, labels[..., None], 1 - smoothing)
    target[..., unused] = 0
    target = target.masked_fill((labels == unused)[..., None], 0)
    losses = F.kl_div(logits.float().log_softmax(-1), target, reduction="none").sum(-1)
    kept = counts.to(losses.dtype)
    return (losses * kept).sum() / (kept.sum() + 1e-5)  # the official way round a batch without masked tokens

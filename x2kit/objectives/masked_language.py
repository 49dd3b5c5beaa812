"""Masked language modelling (mlm), and its translation form on parallel texts (tlm), which is the same formula."""

from __future__ import annotations

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

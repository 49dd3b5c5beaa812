"""The pairwise sigmoid loss of SigLIP. Imports torch."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from x2kit.plugin import StreamFeatures


def sigmoid_contrastive(features: StreamFeatures, bias: float | None = None) -> Tensor:
    """Every image with every text, right or wrong (SigLIP, arXiv:2303.15343, algorithm 1).

    Args:
        features: W pairs; all of one group are right.
        bias: added to the logits; None for log(1 / (W - 1)), 0 where there is one pair.
    Returns: scalar, nats an image: a sum over texts, a mean over images.
    """
    if bias is None:
        bias = -math.log(max(len(features.first) - 1, 1))
    logits = features.first @ features.second.T / features.temperature + bias
    right = features.group[:, None] == features.group
    return -F.logsigmoid(logits.where(right, -logits)).sum(1).mean()

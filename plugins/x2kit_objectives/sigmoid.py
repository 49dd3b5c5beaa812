"""The pairwise sigmoid loss of SigLIP: its settings and its formula. Imports torch when the loss is computed."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from x2kit.plugin import ObjectiveConfig

if TYPE_CHECKING:
    from torch import Tensor

    from x2kit.plugin import Objective, StreamFeatures


class SigmoidContrastive(ObjectiveConfig):
    """The pairwise loss of SigLIP (arXiv:2303.15343): each pair is classified on its own, without a softmax.

    It shares the temperature of the contrastive loss. SigLIP learns the bias as well; an objective has no parameters,
    so here it is a constant, by default the log odds that a random pair is a positive.
    """

    bias: float | None = Field(
        None,
        description="added to every logit; null for log(1 / (W - 1)) of W pairs; SigLIP starts from -10",
    )

    def build(self) -> Objective:
        """Bind the bias to the formula."""
        return partial(sigmoid_contrastive, bias=self.bias)


def sigmoid_contrastive(features: StreamFeatures, bias: float | None = None) -> Tensor:
    """Classify every image-text pair as positive or negative (SigLIP, arXiv:2303.15343, algorithm 1).

    Args:
        features: W pairs; pairs of one group are positives.
        bias: added to the logits; None for log(1 / (W - 1)), or 0 if W is 1.
    Returns: scalar, nats per image: a sum over texts, a mean over images.
    """
    from torch.nn.functional import logsigmoid

    if bias is None:
        bias = -math.log(max(len(features.first) - 1, 1))
    logits = features.first @ features.second.T / features.temperature + bias
    positive = features.group[:, None] == features.group
    return -logsigmoid(logits.where(positive, -logits)).sum(1).mean()

"""Objectives beside those of the paper. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from x2kit.plugin import ObjectiveConfig, Registry, hookimpl

if TYPE_CHECKING:
    from x2kit.plugin import Objective


class SigmoidContrastive(ObjectiveConfig):
    """The pairwise loss of SigLIP (arXiv:2303.15343): each pair is right or wrong for itself, without a softmax.

    It shares the temperature of the contrastive loss. SigLIP learns the bias as well; an objective has no parameters,
    so here it is a number, by default the logarithm of the odds that a random pair belongs together.
    """

    bias: float | None = Field(
        None,
        description="added to every logit; null for log(1 / (W - 1)) of W pairs, -10 is what SigLIP starts from",
    )

    def build(self) -> Objective:
        """The formula with this bias."""
        from functools import partial

        from x2kit_objectives.sigmoid import sigmoid_contrastive

        return partial(sigmoid_contrastive, bias=self.bias)


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Add the objective."""
    registry.add(SigmoidContrastive)

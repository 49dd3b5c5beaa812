"""Settings of AdamW, the paper's optimiser, as torch and as the official code have it. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from x2kit.plugin.choice import FROM_HERE
from x2kit.plugin.training import OptimizerConfig, ParameterGroup

if TYPE_CHECKING:
    from torch.optim import Optimizer


class AdamW(OptimizerConfig):
    """AdamW (arXiv:1711.05101) of torch, fused: the optimiser of X²-VLM and X-VLM."""

    betas: Annotated[tuple[float, float], FROM_HERE] = Field(
        (0.9, 0.98), description="factors of the moving averages of gradients and of their squares"
    )
    eps: Annotated[float, FROM_HERE] = Field(1e-8, gt=0, description="added to the denominator")

    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        """Build torch's fused AdamW."""
        import torch

        listed: list[Any] = list(groups)
        return torch.optim.AdamW(listed, betas=self.betas, eps=self.eps, fused=True)


class OfficialAdamW(AdamW):
    """AdamW of the official code, for runs that reproduce it.

    It adds epsilon before the bias correction, and decays after the Adam step.
    """

    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        """Build the official AdamW."""
        from x2kit.training.optim import official_adamw

        listed: list[Any] = list(groups)
        return official_adamw.OfficialAdamW(listed, betas=self.betas, eps=self.eps)

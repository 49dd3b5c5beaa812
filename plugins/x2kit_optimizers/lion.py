"""Lion (arXiv:2302.06675, algorithm 2). Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from x2kit.plugin import ParameterGroup


class Lion(Optimizer):
    """Update all parameters of a group at once.

        p <- p - lr · weight_decay · p - lr · sign(β₁ m + (1 - β₁) g)
        m <- β₂ m + (1 - β₂) g

    Args:
        groups: with `lr` and `weight_decay`.
        betas: β₁ and β₂.
    """

    def __init__(self, groups: Sequence[ParameterGroup], betas: tuple[float, float]) -> None:
        listed: list[Any] = list(groups)
        super().__init__(listed, {"betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update the parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            _update(group, self.state)
        return loss


def _update(group: dict[str, Any], state: Mapping[Tensor, dict[str, Tensor]]) -> None:
    parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
    if not parameters:
        return
    gradients, (beta1, beta2), lr = [p.grad for p in parameters], group["betas"], group["lr"]
    for parameter in parameters:
        if not state[parameter]:
            state[parameter]["exp_avg"] = torch.zeros_like(parameter)
    means = [state[parameter]["exp_avg"] for parameter in parameters]
    updates = torch._foreach_lerp(means, gradients, 1 - beta1)
    torch._foreach_sign_(updates)
    torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
    torch._foreach_add_(parameters, updates, alpha=-lr)
    torch._foreach_lerp_(means, gradients, 1 - beta2)

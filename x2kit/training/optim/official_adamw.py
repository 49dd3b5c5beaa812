"""Implement the AdamW of the official code (X2-VLM repository, optim/adamw.py). Imports torch.

It differs from `torch.optim.AdamW` in two ways: epsilon is added to √v before the bias correction, so it has more
weight in the first steps, and the decay is applied after the Adam step, to the updated parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor


class OfficialAdamW(torch.optim.Optimizer):
    """Update all parameters of a group at once by the official rule.

        m <- β₁ m + (1 - β₁) g
        v <- β₂ v + (1 - β₂) g²
        p <- p - lr √(1 - β₂ᵗ) / (1 - β₁ᵗ) · m / (√v + ε)
        p <- p - lr · weight_decay · p

    Args:
        params: parameters, or groups of them, which may set all of the following.
        lr: learning rate.
        betas: β₁ and β₂.
        eps: ε.
        weight_decay: factor of the decay.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all parameters that have a gradient; t counts the updates of each.

        Args:
            closure: recomputes the loss and returns it, as in torch's optimisers.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._update(group, [parameter for parameter in group["params"] if parameter.grad is not None])
        return loss

    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        if not parameters:
            return
        (beta1, beta2), lr = group["betas"], group["lr"]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        states = [self._count(parameter) for parameter in parameters]
        means = [state["exp_avg"] for state in states]
        squares = [state["exp_avg_sq"] for state in states]
        torch._foreach_mul_(means, beta1)
        torch._foreach_add_(means, gradients, alpha=1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_add_(denominators, group["eps"])
        sizes = [
            -lr * math.sqrt(1 - beta2 ** state["step"]) / (1 - beta1 ** state["step"]) for state in states
        ]
        torch._foreach_addcdiv_(parameters, means, denominators, sizes)
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])

    def _count(self, parameter: Tensor) -> dict[str, Any]:
        """Return the parameter's state with its count increased by one."""
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state |= {
                "step": 0,
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }
        state["step"] += 1
        return state

"""Muon for hidden matrices and AdamW for other parameters, as one optimiser. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import AdamW, Muon, Optimizer

from x2kit.plugin import ParameterGroup

if TYPE_CHECKING:
    from x2kit_optimizers import config


class Combined(Optimizer):
    """Several optimisers of different parameters, as one.

    Groups and state are those of the parts, so that rates set here reach them, and one `state_dict` holds all.

    Args:
        parts: at least one.
    """

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self._parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        start = 0
        for part in self._parts:
            stop = start + len(part.param_groups)
            part.param_groups, part.state = self.param_groups[start:stop], self.state
            start = stop

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of all parts; torch replaces groups and state by new ones."""
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update the parameters of all parts."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss


class MuonInFloat32(Muon):
    """torch's Muon, scaled as by its `match_rms_adamw`, with the iterations in float32.

    torch computes them in bfloat16, which doubles the time of a small model's step on CPUs without instructions for it.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update the parameters."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(buffer, group["momentum"]) if group["nesterov"] else buffer
        orthogonal = _orthogonalised(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(orthogonal, alpha=-group["lr"] * 0.2 * max(parameter.shape) ** 0.5)


def _orthogonalised(
    matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """Bring all singular values of a matrix [m, n] near 1 by Newton-Schulz iterations (Jordan et al. 2024)."""
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.T if tall else matrix
    found = found / found.norm().clamp(min=eps)
    for _ in range(steps):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.T if tall else found


def build(settings: config.Muon, groups: Sequence[ParameterGroup]) -> Combined:
    """Give the groups of matrices to Muon and the others to AdamW; either may have none."""
    matrices: list[Any] = [
        {**group, "lr": group["lr"] * settings.lr_mult, "peak": group["peak"] * settings.lr_mult}
        for group in groups
        if group["matrices"]
    ]
    others: list[Any] = [group for group in groups if not group["matrices"]]
    parts: list[Optimizer] = []
    if matrices:
        on_cpu = all(one.device.type == "cpu" for group in matrices for one in group["params"])
        parts.append(
            (MuonInFloat32 if on_cpu else Muon)(
                matrices,
                momentum=settings.momentum,
                nesterov=settings.nesterov,
                ns_steps=settings.ns_steps,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    if others:
        parts.append(AdamW(others, betas=settings.betas, eps=settings.eps, fused=True))
    return Combined(parts)

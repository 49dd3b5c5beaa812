"""Settings of the optimisers. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from x2kit.plugin import OptimizerConfig, ParameterGroup, SettingError, Sharding

if TYPE_CHECKING:
    from torch.optim import Optimizer


class Muon(OptimizerConfig):
    """Muon of torch for the hidden matrices of the encoders, and AdamW for all other parameters.

    Muon (Jordan et al. 2024; arXiv:2502.16982) takes the nearest matrix with orthogonal rows to the momentum of a
    matrix. Its updates are scaled to the size of AdamW's, so that one learning rate suits both. Sharded matrices are
    gathered by every rank at every step.
    """

    sharding: ClassVar[Sharding] = "collective"

    lr_mult: float = Field(1.0, gt=0, description="factor of the learning rate of hidden matrices")
    momentum: float = Field(0.95, ge=0, lt=1, description="factor of Muon's moving average of gradients")
    nesterov: bool = Field(True, description="Nesterov momentum")
    ns_steps: int = Field(5, gt=0, lt=100, description="Newton-Schulz iterations")
    betas: tuple[float, float] = Field((0.9, 0.98), description="AdamW's averaging factors")
    eps: float = Field(1e-8, gt=0, description="AdamW's epsilon")

    def state_size(self, shape: tuple[int, ...], matrix: bool) -> int:
        """One momentum for an element of a matrix, two averages elsewhere."""
        return prod(shape) if matrix else 2 * prod(shape)

    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        """Build both optimisers as one."""
        from x2kit_optimizers.muon import build

        return build(self, groups)


class Lion(OptimizerConfig):
    """Lion (arXiv:2302.06675): the sign of a momentum, so that every element moves by the learning rate.

    Its authors advise a rate 3 to 10 times smaller than AdamW's, and a decay larger by this factor.
    """

    betas: tuple[float, float] = Field(
        (0.9, 0.99), description="factors of the momentum, for the update and for the average that is kept"
    )

    def state_size(self, shape: tuple[int, ...], matrix: bool) -> int:
        """One momentum for each element."""
        return prod(shape)

    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        """Build Lion."""
        from x2kit_optimizers import lion

        return lion.Lion(groups, betas=self.betas)


class Adafactor(OptimizerConfig):
    """Adafactor of torch (arXiv:1804.04235): squares of gradients as averages of rows and columns, no momentum.

    The learning rate is relative to the size of a parameter: 1e-2 is usual.
    """

    sharding: ClassVar[Sharding] = "none"

    beta2_decay: float = Field(
        -0.8, le=0, description="exponent of the averaging factor, 1 - step^beta2_decay"
    )
    eps: float = Field(1e-3, gt=0, description="smallest size of a parameter that the rate is relative to")
    clip: float = Field(1.0, ge=1, description="largest root mean square of an update before the rate")

    def state_size(self, shape: tuple[int, ...], matrix: bool) -> int:
        """A row and a column of the last two dimensions; one average for each element of a vector."""
        return prod(shape[:-2]) * sum(shape[-2:]) if len(shape) > 1 else prod(shape)

    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        """Build torch's Adafactor."""
        import torch

        listed: list[Any] = list(groups)
        eps = (None, self.eps)
        return torch.optim.Adafactor(listed, beta2_decay=self.beta2_decay, eps=eps, d=self.clip)


class ScheduleFreeAdamW(OptimizerConfig):
    """AdamW without a schedule (arXiv:2405.15682; extra `schedulefree`): averages of its iterates replace the decay.

    Use it with `training.schedule: constant` and a warm-up. Models are validated and exported with the averages.
    """

    counters: ClassVar[tuple[str, ...]] = ("k", "weight_sum", "lr_max")

    betas: tuple[float, float] = Field(
        (0.9, 0.98), description="interpolation of iterates and their average; averaging factor of squares"
    )
    eps: float = Field(1e-8, gt=0, description="added to the denominator")

    def check(self) -> None:
        """Raise SettingError if schedulefree is not installed."""
        if find_spec("schedulefree") is None:
            raise SettingError(
                "class_path",
                'needs schedulefree, which is not installed: pip install "x2kit[schedulefree]"',
            )

    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        """Build it in training mode."""
        self.check()
        from schedulefree import AdamWScheduleFree

        listed: list[Any] = list(groups)
        optimizer: Any = AdamWScheduleFree(listed, betas=self.betas, eps=self.eps)
        optimizer.train()
        return optimizer  # type: ignore[no-any-return]

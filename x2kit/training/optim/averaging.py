"""Average weights over steps, and give the model the averages to validate and export. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from x2kit.errors import X2KitError
from x2kit.training.config import TrainingConfig


class AveragedWeights:
    """The weights that are validated and exported: moving averages, those of the optimiser, or the trained ones.

    `training.ema` is kept here. An optimiser with `train` and `eval` averages by itself (arXiv:2405.15682).

    Args:
        model: its trained parameters are averaged, from their values at this time.
        optimizer: of the run.
        config: `ema` and `use_ema`.
    Raises: X2KitError for `ema` with an optimiser that averages by itself.

    Attributes:
        kept: moving averages by name of parameter, sharded like these; empty without `ema`.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, config: TrainingConfig) -> None:
        self._model, self._decay, self._use = model, config.ema, config.use_ema
        self._eval: Callable[[], None] | None = getattr(optimizer, "eval", None)
        self._train: Callable[[], None] | None = getattr(optimizer, "train", None)
        if config.ema is not None and self._eval is not None:
            raise X2KitError(
                f"training.ema: {config.optimizer.component_name()} averages the weights itself; set ema to null"
            )
        self.kept: dict[str, Tensor] = {}
        if self._decay is not None:
            self._add(self._trained())

    def _trained(self) -> dict[str, nn.Parameter]:
        return {name: value for name, value in self._model.named_parameters() if value.requires_grad}

    def _add(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self.kept |= {
            name: value.detach().clone() for name, value in parameters.items() if name not in self.kept
        }

    @property
    def used(self) -> bool:
        """Whether the weights to measure are not the trained ones."""
        return self._eval is not None or (self._decay is not None and self._use)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the averages towards the weights after a step, which is counted from 0.

        The first factors are small, so that averages of short runs forget the initial weights.
        """
        if self._decay is None:
            return
        trained = self._trained()
        self._add(trained)  # parameters that are trained from a later step on
        average = get_ema_multi_avg_fn(min(self._decay, (1 + step) / (10 + step)))  # type: ignore[no-untyped-call]
        for sharded in (True, False):  # foreach updates do not mix both
            names = [name for name, value in trained.items() if isinstance(value, DTensor) == sharded]
            if names:
                average([self.kept[name] for name in names], [trained[name] for name in names], step)

    def measured(self) -> dict[str, Tensor]:
        """Copy the weights to measure by name, for a checkpoint; empty if they are the trained ones."""
        if self._eval is None:
            return self.kept
        with self.in_model():
            return {name: value.detach().clone() for name, value in self._trained().items()}

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Give the model the weights to measure in the block, and afterwards the trained ones, bit by bit."""
        if not self.used:
            yield
            return
        parameters = dict(self._model.named_parameters())
        before = {name: value.detach().clone() for name, value in self._trained().items()}
        if self._eval is not None:
            self._eval()
        _copy(self.kept, parameters)
        try:
            yield
        finally:
            if self._train is not None:
                self._train()
            _copy(before, parameters)  # what `train` computes is equal up to rounding


@torch.no_grad()
def _copy(values: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]) -> None:
    for name, value in values.items():
        parameters[name].copy_(value)

"""Skip updates whose loss or gradient is NaN or Inf. Imports torch.

The check runs on the device: torch's fused optimisers receive a flag (`found_inf`, as from torch's GradScaler) under
which parameters, averages and counts stay unchanged. Python reads the result only at steps that are logged or saved,
where it waits for the device anyway. With other optimisers Python reads the flag, and waits, at every step.

Once the run must stop, no later update is made, so the parameters are still those of the step that stopped it when
Python reads the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from x2kit.training.config import TrainingConfig

EXPECTED_OF_FP16 = ("gradient_norm",)
"""Overflows when the loss scale is too large; the scaler lowers it for the next step."""


class SkippedUpdate(NamedTuple):
    """A step without an update.

    Attributes:
        step: from 0.
        values: losses and gradient norm of the step.
    """

    step: int
    values: dict[str, Tensor]


class GuardReport(NamedTuple):
    """The skipped updates since the last report.

    Attributes:
        skipped: in order.
        ends: whether the run must stop after the last of them.
        in_a_row: whether it stops for `max_skipped` updates in a row, rather than for the last one alone.
    """

    skipped: list[SkippedUpdate]
    ends: bool
    in_a_row: bool


def nonfinite_names(values: Mapping[str, float]) -> list[str]:
    """Return the names of values that are NaN or Inf, in order."""
    return [name for name, value in values.items() if not math.isfinite(value)]


class _Update(NamedTuple):
    step: int
    names: tuple[str, ...]
    values: Tensor
    flags: Tensor


def _step(optimizer: torch.optim.Optimizer, skip: Tensor) -> None:
    """Update the parameters unless `skip`, a scalar, is not 0."""
    if not getattr(optimizer, "_step_supports_amp_scaling", False):
        if not skip.item():
            optimizer.step()
        return
    optimizer.found_inf = skip  # type: ignore[attr-defined]
    try:
        optimizer.step()
    finally:
        del optimizer.found_inf  # type: ignore[attr-defined]


class Guard:
    """Make the updates of a run, except those with NaN or Inf.

    Args:
        model: running statistics of its batch norms are restored at a skipped update.
        config: `non_finite` and `max_skipped`.
        device: of the model.
        precision: fp16 expects gradients to overflow occasionally, so they never stop the run at once.
        share: takes the maximum of a tensor over all ranks, in place.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        device: torch.device,
        precision: str = "fp32",
        share: Callable[[Tensor], None] | None = None,
    ) -> None:
        self._stops = config.non_finite == "stop"
        self._max_skipped = config.max_skipped
        self._expected = EXPECTED_OF_FP16 if precision == "fp16" else ()
        self._share = share
        self._row = torch.zeros((), device=device)  # updates skipped in a row
        self._over = torch.zeros((), device=device)  # 1 once the run must stop
        self._updates: list[_Update] = []
        self._statistics = [
            buffer
            for module in model.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            for buffer in module.buffers(recurse=False)
        ]
        self._before: list[Tensor] = []
        self.skipped = 0
        """Skipped updates, as of the last report."""

    def begin(self) -> None:
        """Copy the running statistics before the forward pass of a step."""
        self._before = [buffer.clone() for buffer in self._statistics]

    @torch.no_grad()
    def update(self, optimizer: torch.optim.Optimizer, step: int, values: Mapping[str, Tensor]) -> None:
        """Step the optimiser unless a value is NaN or Inf.

        Args:
            optimizer: one that supports `found_inf` sets `_step_supports_amp_scaling`, as torch's fused ones; others
                are not stepped if the update is skipped, which waits for the device.
            step: from 0.
            values: scalars: losses, and the gradient norm.
        """
        stacked = torch.stack([value.detach().float() for value in values.values()])
        not_finite = ~stacked.isfinite()
        faults = [
            flag
            for name, flag in zip(values, not_finite.unbind(), strict=True)
            if self._stops and name not in self._expected
        ]
        fault = torch.stack(faults).any() if faults else torch.zeros_like(not_finite[0])
        flags = torch.stack([not_finite.any(), fault]).float()
        if self._share is not None:
            self._share(flags)
        bad, fault = flags.unbind()
        self._row = (self._row + bad) * bad
        self._over = torch.stack([self._over, fault, (self._row >= self._max_skipped).float()]).max()
        skip = torch.maximum(bad, self._over)
        for now, before in zip(self._statistics, self._before, strict=True):
            now.copy_(torch.where(skip > 0, before, now))
        self._before = []
        _step(optimizer, skip)
        self._updates.append(_Update(step, tuple(values), stacked, torch.stack([bad, fault, self._over])))

    def read(self) -> GuardReport:
        """Report the updates skipped since the last call; waits for the device."""
        updates, self._updates = self._updates, []
        skipped: list[SkippedUpdate] = []
        ends = in_a_row = False
        flags = torch.stack([update.flags for update in updates]).tolist() if updates else []
        for update, (bad, fault, over) in zip(updates, flags, strict=True):
            if bad:
                values = dict(zip(update.names, update.values.unbind(), strict=True))
                skipped.append(SkippedUpdate(update.step, values))
            if over:
                ends, in_a_row = True, not fault
                break  # later updates were not made
        self.skipped += len(skipped)
        return GuardReport(skipped, ends, in_a_row)

    def state(self) -> dict[str, Any]:
        """Return plain values for a checkpoint; waits for the device."""
        return {"skipped": self.skipped, "in_a_row": int(self._row)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the counts of a checkpoint."""
        self.skipped = state["skipped"]
        self._row.fill_(state["in_a_row"])

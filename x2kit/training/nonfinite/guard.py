"""Updates that are left out because a loss or the gradient is not finite. Imports torch.

Whether they are is computed on the device, and decides there: the update rule is handed a flag (`found_inf`, as by
torch's GradScaler) under which parameters, averages and counts stay as they are. Python asks what happened at the steps
that are logged or saved, where it waits for the device anyhow. The official update rule, which counts in Python, asks
at every step.

Once the run is to end, no later update is made either, so that the parameters are still those of the step that ended
it when Python gets to know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from x2kit.training.config import TrainingConfig

EXPECTED_OF_FP16 = ("gradient_norm",)
"""What is not finite where the scale of the losses was too large; the scaler takes a smaller one for the next step."""

Share = Callable[[Tensor], None]


class SkippedUpdate(NamedTuple):
    """A step without an update.

    Attributes:
        step: from 0.
        values: the step's losses and gradient norm.
    """

    step: int
    values: dict[str, Tensor]


class NonFiniteValue(NamedTuple):
    """What happened since it was asked for last.

    Attributes:
        left_out: the steps without an update.
        ends: whether the run is to end after the last of them.
        in_a_row: whether it ends because so many were left out in a row, not because of the last one alone.
    """

    left_out: list[SkippedUpdate]
    ends: bool
    in_a_row: bool


def broken(values: Mapping[str, float]) -> list[str]:
    """The names of values that are not finite, in order."""
    return [name for name, value in values.items() if not math.isfinite(value)]


class _Seen(NamedTuple):
    step: int
    names: tuple[str, ...]
    values: Tensor
    flags: Tensor


class Guard:
    """Makes the updates of a run, but for those that would spoil the parameters.

    Args:
        model: whose running statistics, if any, are put back as well.
        config: `non_finite` and `max_skipped`.
        device: of the model.
        precision: fp16 expects gradients that overflow now and then, so these never end the run at once.
        share: takes the maximum of a tensor over all processes, in place.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        device: torch.device,
        precision: str = "fp32",
        share: Share | None = None,
    ) -> None:
        self._stops = config.non_finite == "stop"
        self._most = config.max_skipped
        self._expected = EXPECTED_OF_FP16 if precision == "fp16" else ()
        self._share = share
        self._row = torch.zeros((), device=device)
        self._over = torch.zeros((), device=device)
        self._seen: list[_Seen] = []
        self._statistics = [
            buffer
            for module in model.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            for buffer in module.buffers(recurse=False)
        ]
        self._before: list[Tensor] = []
        self.skipped = 0
        """Updates left out so far, as far as was read."""

    def begin(self) -> None:
        """A step begins: its forward pass may spoil running statistics."""
        self._before = [buffer.clone() for buffer in self._statistics]

    @torch.no_grad()
    def update(self, optimizer: torch.optim.Optimizer, step: int, values: Mapping[str, Tensor]) -> None:
        """Make the update of a step, unless one of its values is not finite. Does not wait for the device.

        Args:
            optimizer: one that heeds `found_inf`: torch's fused ones and `OfficialAdamW`.
            step: from 0.
            values: scalars: losses, and the norm of the gradient.
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
        self._over = torch.stack([self._over, fault, (self._row >= self._most).float()]).max()
        left_out = torch.maximum(bad, self._over)
        for now, before in zip(self._statistics, self._before, strict=True):
            now.copy_(torch.where(left_out > 0, before, now))
        self._before = []
        optimizer.found_inf = left_out  # type: ignore[attr-defined]
        try:
            optimizer.step()
        finally:
            del optimizer.found_inf  # type: ignore[attr-defined]
        self._seen.append(_Seen(step, tuple(values), stacked, torch.stack([bad, fault, self._over])))

    def read(self) -> NonFiniteValue:
        """What happened since the last call; waits for the device."""
        seen, self._seen = self._seen, []
        left_out: list[SkippedUpdate] = []
        ends = in_a_row = False
        flags = torch.stack([one.flags for one in seen]).tolist() if seen else []
        for one, (bad, fault, over) in zip(seen, flags, strict=True):
            if bad:
                left_out.append(
                    SkippedUpdate(one.step, dict(zip(one.names, one.values.unbind(), strict=True)))
                )
            if over:
                ends, in_a_row = True, not fault
                break  # what came after was not to be
        self.skipped += len(left_out)
        return NonFiniteValue(left_out, ends, in_a_row)

    def state(self) -> dict[str, Any]:
        """For a checkpoint: plain values; waits for the device."""
        return {"skipped": self.skipped, "in_a_row": int(self._row)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.skipped = state["skipped"]
        self._row.fill_(state["in_a_row"])

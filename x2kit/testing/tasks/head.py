"""Heads under test, and their checks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from x2kit.plugin.components import HeadConfig
from x2kit.testing import encoder
from x2kit.testing.claims import Unchecked, claim, claim_close
from x2kit.testing.encoder import tensors_in
from x2kit.testing.subjects import ROWS, EncoderSubject

WIDTHS = (16, 24)
"""Widths of fused states for which a head is built."""


class HeadSubject(EncoderSubject):
    """A head, and fused states of a few rows.

    Args:
        component: a head's settings.
        inputs: function of the width that gives the tensors that the task calls the head with, rows first; by default
            one tensor of fused summaries, [B, D].
    """

    component: HeadConfig

    def __init__(
        self, component: HeadConfig, inputs: Callable[[int], Sequence[Tensor]] | None = None
    ) -> None:
        super().__init__(component)
        self._inputs = inputs
        self.width = WIDTHS[0]

    def make(self, assets: Path | None) -> Any:
        return self.component.build(self.width)

    def save(self, encoder: Any, directory: Path) -> None:
        """Write nothing: a head is built from its settings alone."""

    def inputs(self, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """Create the inputs, each [B, ...]."""
        if self._inputs is None:
            given: Sequence[Tensor] = [torch.randn(ROWS, self.width, generator=self.generator())]
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                given = self._inputs(self.width)
        return [one.to(dtype) if one.is_floating_point() else one for one in given]

    def run(
        self, encoder: Any, dtype: torch.dtype = torch.float32, others: bool = False
    ) -> tuple[Tensor, ...]:
        given = self.inputs(dtype)
        return self.call(encoder, [one.flip(0) * 3 for one in given] if others else given)

    def call(self, head: nn.Module, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return all tensors of the output. Raises Unchecked if the head does not take the inputs."""
        try:
            inspect.signature(head.forward).bind(*given)
        except TypeError as error:
            raise Unchecked(
                f"forward() does not take {len(given)} tensors: {error}; give inputs=lambda width: (...)"
            ) from error
        return tuple(tensors_in(head(*given)))


def it_builds_for_any_width(subject: HeadSubject) -> None:
    """`build` gives a module for every width, with finite outputs."""
    for width in WIDTHS:
        subject.width = width
        head = subject.build()
        claim(isinstance(head, nn.Module), f"build({width}) gives {type(head).__name__}, expected a module")
        outputs = subject.run(head)
        claim(bool(outputs), f"with width {width} it gives no tensor")
        claim(
            all(bool(out.isfinite().all()) for out in outputs), f"with width {width} an output is not finite"
        )


def rows_do_not_mix(subject: HeadSubject) -> None:
    """In eval mode the output of a row does not depend on other rows."""
    head, given = subject.build(), subject.inputs()
    together = subject.call(head, given)
    for row in range(len(given[0])):
        alone = subject.call(head, [one[row : row + 1] for one in given])
        for one, other in zip(together, alone, strict=True):
            claim(
                one.ndim > 0 and len(one) == len(given[0]),
                f"an output is {list(one.shape)}, expected [B, ...]",
            )
            claim_close(one[row], other[0], "a row alone has another output than in a batch")


LAWS = (
    it_builds_for_any_width,
    rows_do_not_mix,
    encoder.evaluation_is_deterministic,
    encoder.calls_leave_nothing_behind,
    encoder.instances_share_nothing,
    encoder.its_inputs_stay_as_they_are,
    encoder.the_seed_decides_the_weights,
    encoder.gradients_reach_every_parameter,
    encoder.it_follows_its_dtype,
    encoder.it_runs_under_autocast,
    encoder.every_tensor_moves_with_it,
    encoder.saved_and_loaded_it_is_the_same,
)

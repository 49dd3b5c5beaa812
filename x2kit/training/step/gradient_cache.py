"""Run a forward pass in chunks without a graph, and recompute it in the backward pass. Imports torch.

This is the gradient caching of GradCache (Gao et al. 2021, arXiv:2101.06983). Dropout draws the same masks in both
runs, as the second restores the random state of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

ForwardContext = Callable[[], AbstractContextManager[None]]
"""Context that a forward pass runs in, such as autocast."""
Outputs = Mapping[Any, Tensor]
"""[rows, ...] by key."""


class CachedForward:
    """Outputs of a chunked forward pass as leaves whose gradients are cached until `backward`.

    Args:
        context: of every forward run.
        device: whose random state is restored, with that of the CPU.
        chunks: each returns [rows of the chunk, ...] by key; run at once without a graph.
        learned: False if nothing in the chunks is trained: then they are not recomputed.
    """

    def __init__(
        self,
        context: ForwardContext,
        device: torch.device,
        chunks: Sequence[Callable[[], Outputs]],
        learned: bool = True,
    ) -> None:
        self._context, self._device, self._chunks = context, device, chunks
        self._states: list[list[Tensor]] = []
        parts: dict[Any, list[Tensor]] = {}
        for chunk in chunks:
            self._states.append(_random_state(device))
            with torch.no_grad(), context():
                for key, output in chunk().items():
                    parts.setdefault(key, []).append(output)
        self._sizes = {key: list(map(len, outputs)) for key, outputs in parts.items()}
        self.outputs = {key: _leaf(outputs, learned) for key, outputs in parts.items()}
        """[all rows, ...] by key; leaves."""

    def backward(self, before_last: Callable[[Sequence[Tensor]], None] | None = None) -> None:
        """Recompute each chunk with a graph and backpropagate the cached gradients through it.

        Args:
            before_last: called before the backward pass of the last chunk, with the outputs that it starts from.
        """
        gradients = {
            key: iter(torch.split(output.grad, self._sizes[key]))
            for key, output in self.outputs.items()
            if output.grad is not None
        }
        if not gradients:
            return
        for number, (chunk, state) in enumerate(zip(self._chunks, self._states, strict=True), 1):
            with _random_state_of(self._device, state), self._context():
                outputs = chunk()
            pairs = [(output, next(gradients[key])) for key, output in outputs.items() if key in gradients]
            learned = [(output, gradient) for output, gradient in pairs if output.requires_grad]
            if learned:
                recomputed, of_outputs = zip(*learned, strict=True)
                if before_last is not None and number == len(self._chunks):
                    before_last(recomputed)
                torch.autograd.backward(recomputed, of_outputs)


def _leaf(parts: list[Tensor], learned: bool) -> Tensor:
    whole = torch.cat(parts)
    return whole.requires_grad_(learned and whole.is_floating_point())


def _random_state(device: torch.device) -> list[Tensor]:
    """Return the random states of the CPU and of the device."""
    states = [torch.get_rng_state()]
    if device.type != "cpu":
        states.append(torch.get_device_module(device).get_rng_state())
    return states


def _set_random_state(device: torch.device, states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[1])


@contextmanager
def _random_state_of(device: torch.device, states: list[Tensor]) -> Iterator[None]:
    """Use an earlier random state inside the block, and the current one after it."""
    now = _random_state(device)
    _set_random_state(device, states)
    try:
        yield
    finally:
        _set_random_state(device, now)

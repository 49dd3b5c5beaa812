"""Values that are computed in parts without a graph, and once more, with one, on the way back. Imports torch.

What is drawn on the way (dropout) is drawn once: the second run puts the random state of the first back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from x2kit.plugin import VisionFeatures
from x2kit.training.step.global_negatives import with_negatives
from x2kit.training.step.losses import StepPlan
from x2kit.training.step.remote_rows import RankExchange

Around = Callable[[], AbstractContextManager[None]]
"""What a forward pass runs in, such as autocast."""
Found = Mapping[Any, Tensor]
"""[rows, ...] by key."""


class Recomputed:
    """Values that are computed in parts, and once more on the way back."""

    def __init__(self, around: Around, device: torch.device, runs: Sequence[Callable[[], Found]]) -> None:
        """The values alone.

        Args:
            runs: the parts; each gives [rows of the part, ...] by key.
        """
        self._around, self._device, self._runs = around, device, runs
        self._states: list[list[Tensor]] = []
        found: dict[Any, list[Tensor]] = {}
        for run in runs:
            self._states.append(_random_state(device))
            with torch.no_grad(), around():
                for key, value in run().items():
                    found.setdefault(key, []).append(value)
        self._sizes = {key: [len(value) for value in values] for key, values in found.items()}
        self.values = {key: _leaf(values) for key, values in found.items()}
        """[all rows, ...] by key; leaves, whose gradients `backward` hands on."""

    def backward(self) -> None:
        """Take the gradients of the values to what they were computed from."""
        gradients = {
            key: iter(torch.split(value.grad, self._sizes[key]))
            for key, value in self.values.items()
            if value.grad is not None
        }
        if not gradients:
            return
        for run, state in zip(self._runs, self._states, strict=True):
            with _replayed(self._device, state), self._around():
                found = run()
            pairs = [(value, next(gradients[key])) for key, value in found.items() if key in gradients]
            learned = [(value, gradient) for value, gradient in pairs if value.requires_grad]
            if learned:
                torch.autograd.backward(
                    [value for value, _ in learned], [gradient for _, gradient in learned]
                )


def _leaf(values: list[Tensor]) -> Tensor:
    whole = torch.cat(values)
    return whole.requires_grad_(whole.is_floating_point())


def _random_state(device: torch.device) -> list[Tensor]:
    """What the next draws of the processor and of the device follow."""
    states = [torch.get_rng_state()]
    if device.type != "cpu":
        states.append(torch.get_device_module(device).get_rng_state())
    return states


def _set_random_state(device: torch.device, states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[1])


@contextmanager
def _replayed(device: torch.device, states: list[Tensor]) -> Iterator[None]:
    """The draws that followed this state, again; those after it go on where they were."""
    now = _random_state(device)
    _set_random_state(device, states)
    try:
        yield
    finally:
        _set_random_state(device, now)


class RemoteRows:
    """Streams with the negatives that other processes have.

    Every process has to make it for the same streams, and to call `backward`.

    Args:
        partners: the other processes.
        planned: streams over leaves.
        features: of the process's own images, leaves as well; None if the batch has none.
    """

    def __init__(
        self, partners: RankExchange, planned: Mapping[str, StepPlan], features: VisionFeatures | None
    ) -> None:
        self._fetched: list[Tensor] = []
        self._leaves: list[Tensor] = []
        extended = {}
        for name, stream in planned.items():
            extended[name], features = with_negatives(partners, stream, features)
        self.planned = {name: self._over_leaves(stream) for name, stream in extended.items()}
        """The streams, with the rows of other processes behind their own."""
        self.features = features
        """With the images of other processes behind their own."""
        if features is not None:
            self.features = features._replace(
                summary=self._leaf(features.summary), patches=self._leaf(features.patches)
            )

    def _over_leaves(self, stream: StepPlan) -> StepPlan:
        texts = stream.texts._replace(clean=[self._leaf(tokens) for tokens in stream.texts.clean])
        view = stream.view
        if view is not None:
            view = view._replace(summary=self._leaf(view.summary))
        return stream._replace(texts=texts, view=view)

    def _leaf(self, tensor: Tensor) -> Tensor:
        if tensor.is_leaf:  # nothing was fetched
            return tensor
        self._fetched.append(tensor)
        self._leaves.append(tensor.detach().requires_grad_())
        return self._leaves[-1]

    def backward(self) -> None:
        """Hand the gradients on, to the leaves of this process and of those that the rows came from."""
        if self._fetched:
            # Zeros too: a process whose parts looked at nothing still has gradients to receive.
            gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in self._leaves]
            torch.autograd.backward(self._fetched, gradients)

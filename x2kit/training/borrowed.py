"""What the parts of a step look at of other processes: fetched once, and its gradients sent back once. Imports torch.

A step in parts (`x2kit.training.accumulation`) has a backward pass for each part, of which processes have different
numbers. Rows that are on their way between processes must not wait for that: the parts see them as leaves, and when all
parts are done, one backward pass in all processes takes what came together there to where the rows came from.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from x2kit.plugin import VisionFeatures
from x2kit.training.partners import Partners
from x2kit.training.shared_step import with_negatives
from x2kit.training.step import Planned


class Borrowed:
    """Streams with the negatives that other processes have.

    Every process has to make it for the same streams, and to call `backward`.

    Args:
        partners: the other processes.
        planned: streams over leaves.
        features: of the process's own pictures, leaves as well; None if the batch has none.
    """

    def __init__(
        self, partners: Partners, planned: Mapping[str, Planned], features: VisionFeatures | None
    ) -> None:
        self._fetched: list[Tensor] = []
        self._leaves: list[Tensor] = []
        extended = {}
        for name, stream in planned.items():
            extended[name], features = with_negatives(partners, stream, features)
        self.planned = {name: self._over_leaves(stream) for name, stream in extended.items()}
        """The streams, with the rows of other processes behind their own."""
        self.features = features
        """With the pictures of other processes behind their own."""
        if features is not None:
            self.features = features._replace(
                summary=self._leaf(features.summary), patches=self._leaf(features.patches)
            )

    def _over_leaves(self, stream: Planned) -> Planned:
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

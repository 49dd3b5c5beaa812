"""Average the gradients of whole copies of a model with DDP. Imports torch.

DDP reduces gradients in buckets while the backward pass runs, and the gradients are views into the buckets. It expects
one gradient of every parameter, but losses start and stop during a run, and a plugin may skip a layer. DDP's own search
walks the graph and waits for the device in every step. Instead a parameter that the backward pass did not reach gets a
gradient of zeros after it, which completes DDP's buckets.

A step in parts has several backward passes. DDP ignores all but the last one; before that, `last_backward` hands it the
gradients that are complete, so that their reduction overlaps the last pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.parallel import DistributedDataParallel

_SYNC_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)
"""The option of DDP; the second name is the older, which torch 2.13 warns of."""


class Copies:
    """Equal copies of a module on all ranks, and the average of their gradients.

    Args:
        module: on its device; starts with the weights of rank 0.
    """

    def __init__(self, module: nn.Module) -> None:
        options: dict[str, Any] = {"gradient_as_bucket_view": True, _SYNC_BUFFERS: False}
        self._wrapped = DistributedDataParallel(module, **options)
        self.learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
        """Parameters with gradients."""
        self._nodes = [_accumulation(parameter) for parameter in self.learned]
        self._given: set[int] = set()
        """Numbers of the parameters whose gradients DDP has in this step."""
        for number, node in enumerate(self._nodes):
            node.register_hook(partial(self._give, number))
        self._filled: set[int] = set()
        """Numbers of those that got zeros, as no backward pass reached them."""
        self._open = False

    def _give(self, number: int, *gradients: Any) -> None:
        if self._open:
            self._given.add(number)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module's forward pass; the next backward pass is the only one of the step."""
        self._open = True
        return self._wrapped(*args, **kwargs)

    def last_backward(self, outputs: Sequence[Tensor]) -> None:
        """Reduce the gradients that the last backward pass of a step, from `outputs`, does not change."""
        self.forward(_nothing)
        reached = reached_from(outputs)
        self._complete(n for n, node in enumerate(self._nodes) if node not in reached)

    def used(self) -> list[bool]:
        """Tell for each of `learned` whether this rank has a gradient of it, after the last backward pass."""
        return [p.grad is not None and number not in self._filled for number, p in enumerate(self.learned)]

    def complete(self) -> None:
        """Reduce what is left after the last backward pass; every learned parameter has a gradient then."""
        if not self._open:
            self.forward(_nothing)
        self._complete(range(len(self.learned)))
        self._given.clear()
        self._filled.clear()
        self._open = False

    def _complete(self, numbers: Iterable[int]) -> None:
        left = [number for number in numbers if number not in self._given]
        self._filled |= {number for number in left if self.learned[number].grad is None}
        if left:
            zero = _Zeros.apply(*(self.learned[number] for number in left))  # type: ignore[no-untyped-call]
            torch.autograd.backward(zero)


def _nothing(*args: Any) -> None:
    """Stand in for a forward pass: DDP expects one before the backward pass that it reduces."""


def _accumulation(parameter: nn.Parameter) -> Node:
    """Return the node that adds gradients to a parameter, which DDP watches too."""
    function = parameter.expand_as(parameter).grad_fn
    assert function is not None
    node = function.next_functions[0][0]
    assert node is not None
    return node


def reached_from(outputs: Iterable[Tensor]) -> set[Node]:
    """Return all nodes that a backward pass from these outputs runs."""
    waiting = [output.grad_fn for output in outputs if output.grad_fn is not None]
    reached = set(waiting)
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is not None and node not in reached:
                reached.add(node)
                waiting.append(node)
    return reached


class _Zeros(torch.autograd.Function):
    """A scalar of which each parameter's gradient is zero."""

    @staticmethod
    def forward(ctx: Any, *parameters: Tensor) -> Tensor:
        ctx.zeros = [parameter.new_zeros(()).expand_as(parameter) for parameter in parameters]
        return parameters[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(ctx.zeros)

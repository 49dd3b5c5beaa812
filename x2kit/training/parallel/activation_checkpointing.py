"""Activation checkpointing: layers keep what went in and are computed again on the way back. Imports torch.

It costs one more forward pass of the layers and saves most of the memory of a step (arXiv:1604.06174). The results are
the same, dropout included, as the random state is put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

Around = Callable[[], AbstractContextManager[None]]


def checkpoint_activations(model: nn.Module, around: Around = nullcontext) -> int:
    """Let each layer of the model keep nothing but what went in, in training mode; parameters keep their names.

    Args:
        model: whose stacks of layers are looked for, so that encoders need not know of it.
        around: what the step's forward pass runs in, and the second one has to as well.
    Returns: how many layers.
    """
    layers = list(layers_of(model))
    for layer in layers:
        layer.forward = _again(layer, layer.forward, around)
    return len(layers)


def layers_of(module: nn.Module) -> Iterator[nn.Module]:
    """The members of the innermost stacks: lists and sequences of several modules of one class with parts."""
    for child in module.children():
        inside = list(layers_of(child))
        if inside:
            yield from inside
        elif _is_stack(child):
            yield from child.children()


def _is_stack(module: nn.Module) -> bool:
    members = list(module.children())
    return (
        isinstance(module, nn.ModuleList | nn.Sequential)
        and len(members) > 1
        and len({type(member) for member in members}) == 1
        and all(any(member.children()) for member in members)
    )


def _again(layer: nn.Module, forward: Callable[..., Any], around: Around) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if not (layer.training and torch.is_grad_enabled()):
            return forward(*args, **kwargs)
        return checkpoint(
            forward, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), around()), **kwargs
        )

    return run

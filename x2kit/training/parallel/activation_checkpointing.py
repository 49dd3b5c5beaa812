"""Recompute the activations of layers in the backward pass. Imports torch.

Activation checkpointing (arXiv:1604.06174) costs one more forward pass of the layers and saves most of the memory of a
step. Results are equal, dropout included, as the random state is restored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from x2kit.plugin.toolkit.stacks import layers_of
from x2kit.training.step.gradient_cache import ForwardContext


def checkpoint_activations(
    model: nn.Module, context: ForwardContext = nullcontext, parts: Sequence[str] | None = None
) -> int:
    """Make each layer keep only its inputs in training; parameters keep their names.

    Args:
        model: its layers are those of `layers_of`, so encoders need no code for it. Compiled ones are called again as a
            whole, so compile them before.
        context: of the step's forward pass, used for the recomputation too.
        parts: submodules of the model whose layers do so; None for all of it.
    Returns: number of layers.
    """
    chosen = [model] if parts is None else [model.get_submodule(part) for part in dict.fromkeys(parts)]
    layers = [layer for part in chosen for layer in layers_of(part)]
    for layer in layers:
        layer.forward = _checkpointed(layer, layer.forward, context)
    return len(layers)


def _checkpointed(
    layer: nn.Module, forward: Callable[..., Any], context: ForwardContext
) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if not (layer.training and torch.is_grad_enabled()):
            return forward(*args, **kwargs)
        return checkpoint(
            forward, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), context()), **kwargs
        )

    return run

"""Compile the layers of a model in place with torch.compile. Imports torch.

Layers rather than whole encoders: equal layers share code, so twelve compile as fast as two, and code of a plugin
outside its layers cannot break the compilation. All sizes but widths are dynamic, so another padded length or number
of rows causes no recompilation; another set of arguments (with or without an image, a region, a lead, all positions or
the first one) does, once each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from x2kit.errors import X2KitError
from x2kit.plugin.toolkit.stacks import layers_of

RECOMPILE_LIMIT = 64
"""Versions of one kind of layer; the losses call a layer in more ways than torch's default of 8."""


def compile_layers(model: nn.Module, device: torch.device) -> int:
    """Compile each layer of a model; parameters keep their names.

    Args:
        model: on its device.
        device: to compile for.
    Returns: number of layers.
    Raises: X2KitError if this machine cannot compile for the device.
    """
    require_compiler(device)
    torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
    layers = list(layers_of(model))
    for layer in layers:
        layer.forward = _static_width(torch.compile(layer.forward, dynamic=True))
    return len(layers)


def require_compiler(device: torch.device) -> None:
    """Compile a small function. Raises X2KitError if that fails."""
    try:
        torch.compile(_add, dynamic=True)(torch.ones(8, device=device))
    except Exception as error:  # each backend of torch.compile raises its own errors
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        needed = (
            "a C++ compiler (g++ or clang, or the one that CXX names)" if device.type == "cpu" else "Triton"
        )
        raise X2KitError(
            f"training.compile: cannot compile for {device}: {reason}; torch.compile needs {needed} and the headers of "
            "Python; install them, or set --training.compile false"
        ) from error


def _static_width(compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Mark widths as static: inductor of torch 2.13 fails on halves of a dynamic width."""

    def run(*args: Any, **kwargs: Any) -> Any:
        for value in _pytree.tree_leaves((args, kwargs)):
            if isinstance(value, Tensor) and value.is_floating_point():
                torch._dynamo.mark_static(value, value.ndim - 1)
        return compiled(*args, **kwargs)

    return run


def _add(values: Tensor) -> Tensor:
    return values + values

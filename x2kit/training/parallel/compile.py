"""torch.compile of the layers of a model, in place. Imports torch.

The layers and not the whole encoders: equal ones share their code, so that compiling takes as long for two layers as
for twelve, and nothing that a plugin does around them can break it. Every size that varies is one for which the code
asks nothing, so a batch of another padded length or of other counts of rows needs no new code; how a layer is called
(with or without an image, a region, a lead, all positions or the first one) does, once each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from x2kit.errors import X2KitError
from x2kit.training.parallel.activation_checkpointing import layers_of

FORMS = 64
"""Ways to call one kind of layer that are compiled at most; torch's own limit of 8 is less than the losses have."""


def compile_layers(model: nn.Module, device: torch.device) -> int:
    """Let each layer of the model run compiled code; parameters keep their names.

    Args:
        model: on its device.
        device: that the code is for.
    Returns: how many layers.
    Raises: X2KitError if this machine cannot compile for the device.
    """
    require_compiler(device)
    torch._dynamo.config.recompile_limit = FORMS
    layers = list(layers_of(model))
    for layer in layers:
        layer.forward = _of_one_width(torch.compile(layer.forward, dynamic=True))
    return len(layers)


def require_compiler(device: torch.device) -> None:
    """Compile a small sum. Raises X2KitError if that fails."""
    try:
        torch.compile(_sum, dynamic=True)(torch.ones(8, device=device))
    except Exception as error:  # each backend of torch.compile has errors of its own
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        needed = (
            "a C++ compiler (g++ or clang, or the one that CXX names)" if device.type == "cpu" else "Triton"
        )
        raise X2KitError(
            f"training.compile: nothing can be compiled for {device} here: {reason}; torch.compile needs {needed} "
            "and the headers of Python. Without it: --training.compile false"
        ) from error


def _of_one_width(compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Widths are known to be what they are: inductor of torch 2.13 fails where halves of an open one are taken."""

    def run(*args: Any, **kwargs: Any) -> Any:
        for value in _pytree.tree_leaves((args, kwargs)):
            if isinstance(value, Tensor) and value.is_floating_point():
                torch._dynamo.mark_static(value, value.ndim - 1)
        return compiled(*args, **kwargs)

    return run


def _sum(values: Tensor) -> Tensor:
    return values + values

"""Trace programs by `torch.export`, and run the saved files. Imports torch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from x2kit.errors import X2KitError
from x2kit.export.programs import BATCH, LENGTH, Outputs, Program
from x2kit.export.samples import SHORTEST
from x2kit.plugin.registry import owner_of

SUFFIX = ".pt2"


def trace(program: Program, inputs: Sequence[Tensor], max_length: int) -> ExportedProgram:
    """Trace a program with free batch and text length.

    Args:
        program: on the CPU, in float32.
        inputs: an example with at least two rows.
        max_length: largest text length.
    Raises: X2KitError if the encoder cannot be traced.
    """
    free = {BATCH: Dim(BATCH, min=1), LENGTH: Dim(LENGTH, min=SHORTEST, max=max_length)}
    axes = tuple(
        {place: free[size] for place, size in enumerate(given.shape) if isinstance(size, str)}
        for given in program.inputs.values()
    )
    require_exportable(program)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch itself, about its own interfaces
            return torch.export.export(program.module, tuple(inputs), dynamic_shapes=axes)
    except Exception as error:  # the tracer raises any error of the traced code, and many of its own
        raise X2KitError(
            f"{program.name}: {_encoder(program)} cannot be exported: {_first_lines(error)}\n"
            "  free batch and text length need control flow without values of tensors, and x.shape[0] for len(x)"
        ) from error


def require_exportable(program: Program) -> None:
    """Raise X2KitError for an encoder that says that it cannot be exported."""
    config = program.encoder.built_from
    reason = None if config is None else config.no_export()
    if reason is not None:
        raise X2KitError(f"{program.name}: {_encoder(program)} cannot be exported: {reason}")


def _encoder(program: Program) -> str:
    """Name an encoder: its key in the recipe, its component and the plugin's distribution."""
    config = program.encoder.built_from
    if config is None:
        return f"model.{program.part} ({type(program.encoder).__name__})"
    owner = owner_of(type(config))
    of = "" if owner is None else f" of {owner.distribution}"
    return f"model.{program.part} ({config.component_name()}{of})"


def _first_lines(error: Exception, count: int = 4) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return "\n  ".join([f"{type(error).__name__}: {lines[0] if lines else ''}", *lines[1:count]])


def save(exported: ExportedProgram, file: Path) -> None:
    """Write a `.pt2` file; `torch.export.load(file).module()` is called with the inputs in order."""
    torch.export.save(exported, file)


class TorchProgram:
    """A `.pt2` file in use; needs torch and no x2kit.

    Args:
        file: that `save` wrote.
    """

    def __init__(self, file: Path) -> None:
        self._module: Any = torch.export.load(file).module()

    def __call__(self, *inputs: Tensor) -> Outputs:
        """Compute the outputs, in order."""
        with torch.no_grad():
            outputs = self._module(*inputs)
        return tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)

"""Compare exported files with the model on samples. Imports torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from x2kit.errors import X2KitError
from x2kit.export.programs import LENGTH, Outputs, Program
from x2kit.export.samples import cases, inputs_of
from x2kit.model.x2vlm import X2VLM

TOLERANCE = 1e-4
"""Largest difference of an exported file in float32."""


def largest_differences(program: Program, model: X2VLM, exported: Callable[..., Outputs]) -> dict[str, float]:
    """Return the largest difference of each output over all cases.

    A difference is absolute where values are at most 1, and relative to the largest value of the case elsewhere (tokens
    have no fixed scale). Tokens of padding are not compared: nothing reads them.

    Args:
        program: whose `eager` is compared with.
        model: that it belongs to.
        exported: runs the file.
    Raises: X2KitError for a case that the file cannot run, or an output of another shape.
    """
    found = dict.fromkeys(program.outputs, 0.0)
    for case in cases(model):
        inputs = inputs_of(program, model, case)
        shape = f"{len(case.ids)} rows, texts of {case.ids.shape[1]} tokens"
        with torch.inference_mode():
            expected = program.eager(*inputs)
        try:
            outputs = exported(*inputs)
        except Exception as error:  # onnxruntime and torch.export raise classes of their own
            raise X2KitError(f"{program.name}: the exported file does not run on {shape}: {error}") from error
        for name, one, other in zip(program.outputs, expected, outputs, strict=True):
            if one.shape != other.shape:
                raise X2KitError(
                    f"{program.name}: on {shape} the exported {name} has the shape {list(other.shape)}, the model's "
                    f"{list(one.shape)}"
                )
            kept = case.mask if LENGTH in program.outputs[name].shape else slice(None)
            found[name] = max(found[name], _difference(one[kept], other[kept]))
    return found


def _difference(expected: Tensor, found: Tensor) -> float:
    scale = expected.abs().max().clamp_min(1)
    largest = ((expected - found).abs().max() / scale).item()
    return largest if largest == largest else float("inf")  # NaN compares as false


def require_close(program: Program, differences: dict[str, float]) -> None:
    """Raise X2KitError for a difference above `TOLERANCE`."""
    above = {name: value for name, value in differences.items() if not value <= TOLERANCE}
    if above:
        listed = ", ".join(f"{name} {value:.1e}" for name, value in above.items())
        raise X2KitError(
            f"{program.name}: the exported file differs from the model by {listed} on samples, more than "
            f"{TOLERANCE:g}; nothing was written. Report the encoders with this message, or use the model through "
            "x2kit"
        )

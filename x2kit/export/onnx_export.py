"""Convert traced programs to ONNX, and run the files by onnxruntime. Imports torch, onnx and onnxruntime."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from x2kit.errors import X2KitError
from x2kit.export.programs import Outputs, Program

SUFFIX = ".onnx"
LARGEST_FILE = 1 << 30
"""Weights of more bytes go to a second file, FILE.data: one protocol buffer holds 2 GiB."""


def require_onnx() -> None:
    """Raise X2KitError unless the packages of the extra are installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise X2KitError(f"--to onnx needs another package ({error}); pip install 'x2kit[export]'") from error


def convert(program: Program, exported: ExportedProgram, file: Path) -> None:
    """Write a traced program as ONNX, with the names of its inputs, outputs and free axes.

    Args:
        program: that was traced.
        exported: its trace.
        file: to write; weights of more than `LARGEST_FILE` bytes go to `file`.data beside it.
    Raises: X2KitError for an operation that ONNX does not have.
    """
    size = sum(value.numel() * value.element_size() for value in exported.state_dict.values())
    try:
        with torch.no_grad(), _quiet():
            converted = torch.onnx.export(
                exported,
                dynamo=True,
                input_names=list(program.inputs),
                output_names=list(program.outputs),
                verbose=False,
            )
            assert converted is not None
            _name_axes(program, converted.model)
            converted.save(file, external_data=size > LARGEST_FILE)
    except torch.onnx.errors.OnnxExporterError as error:
        raise X2KitError(f"{program.name}: cannot be written as ONNX: {error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop the progress that torch.onnx and onnxscript print, and warnings about their own interfaces."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _name_axes(program: Program, model: Any) -> None:
    """Replace the tracer's symbols (s23) by the names of the free axes, in every shape of a model of `onnx_ir`."""
    import onnx_ir

    names: dict[str, str] = {}
    for value, axes in zip(model.graph.inputs, program.inputs.values(), strict=True):
        for size, name in zip(value.shape, axes.shape, strict=True):
            if isinstance(name, str):
                names[str(size)] = name
    values = [*model.graph.inputs, *(value for node in model.graph.all_nodes() for value in node.outputs)]
    for value in values:
        for place, size in enumerate(value.shape or ()):
            if not isinstance(size, int) and size.value is not None:
                named = re.sub(r"\w+", lambda word: names.get(word.group(), word.group()), size.value)
                value.shape[place] = onnx_ir.SymbolicDim(named)


class OnnxProgram:
    """An ONNX file in use; needs onnxruntime and neither torch nor x2kit.

    Args:
        file: with its data file beside it, if any.
        threads: 0 for onnxruntime's default.
    """

    def __init__(self, file: Path, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self._inputs = [each.name for each in self._session.get_inputs()]

    def __call__(self, *inputs: Tensor) -> Outputs:
        """Compute the outputs, in order."""
        given: Mapping[str, Any] = {
            name: value.numpy() for name, value in zip(self._inputs, inputs, strict=True)
        }
        return tuple(torch.from_numpy(np.asarray(each)) for each in self._session.run(None, given))

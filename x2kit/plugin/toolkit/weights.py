"""Read files of weights, and load them strictly into modules. Imports torch.

Only tensors and plain values are unpickled: safetensors, or `torch.load(weights_only=True)`.
"""

from __future__ import annotations

import argparse
import pickle
import re
import struct
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from x2kit.errors import WeightsError

WRAPPERS = ("state_dict", "model", "module")
"""Keys under which other training code stores the tensors."""
ARCHIVE, PICKLE = b"PK", b"\x80"
"""First bytes of files of `torch.save`, in its newer and older format."""
UNREADABLE = (
    *(pickle.UnpicklingError, SafetensorError, struct.error, OSError, EOFError, RuntimeError, ValueError),
    # torch's unpickler raises these for damaged files
    *(LookupError, TypeError, AttributeError, AssertionError, OverflowError, MemoryError),
)
OLD_NAMES = {"gamma": "weight", "beta": "bias"}


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors file or a torch checkpoint to the CPU.

    Raises: WeightsError if the file is missing, damaged, or needs code to be read.
    """
    return read_checkpoint(file)[0]


def read_checkpoint(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors of a file and its other entries; see `read_weights`."""
    if not file.is_file():
        raise WeightsError(f"{file}: no such file of weights")
    content: Any
    try:
        if file.suffix == ".safetensors":
            content = load_file(file)
        else:
            # Training code stores its arguments with the tensors; a Namespace has values only and runs no code.
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(file, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise WeightsError(f"{file}: {_reason(file, error)}") from error
    others: dict[str, Any] = {}
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            others |= {str(name): value for name, value in content.items() if name != key}
            content = content[key]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{file}: expected a mapping of tensors, found {type(content).__name__}")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    return tensors, others | {str(name): value for name, value in content.items() if str(name) not in tensors}


def rename_layer_norms(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename gamma and beta of layer norms, as in early BERT files, to weight and bias."""
    return {
        re.sub(r"LayerNorm\.(gamma|beta)$", lambda found: f"LayerNorm.{OLD_NAMES[found[1]]}", name): value
        for name, value in tensors.items()
    }


def _reason(file: Path, error: Exception) -> str:
    """Explain why a file cannot be read; torch's message would advise to run its code."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read: {error.strerror}"
    with file.open("rb") as opened:
        start = opened.read(12)
    if not start:
        return "is empty"
    if start.startswith(ARCHIVE) and not _has_end(file):
        return f"is truncated: the end of the archive is missing after {file.stat().st_size} bytes"
    code = re.search(r"GLOBAL (\S+)", str(error)) if start.startswith((ARCHIVE, PICKLE)) else None
    if code and isinstance(error, pickle.UnpicklingError):
        return (
            f"damaged, or it has more than tensors and plain values: reading it would run {code[1]}, and x2kit never "
            "runs the code of a file; ask its author for the state dict only"
        )
    details = f": {error}" if isinstance(error, SafetensorError) else ""
    return (
        f"damaged, or not a file of weights ({file.stat().st_size} bytes, starting with {start!r}){details}"
    )


def _has_end(archive: Path) -> bool:
    try:
        return zipfile.is_zipfile(archive)
    except zipfile.BadZipFile:  # it has an end, but an invalid one
        return True


def load_exactly(
    module: nn.Module, state: Mapping[str, Tensor], source: str, ignore: Collection[str] = ()
) -> None:
    """Load all of a module's parameters and buffers.

    Args:
        module: the module to fill.
        state: tensors by name.
        source: their origin, for messages.
        ignore: prefixes of names in `state` that may be unused, such as those of a classifier.
    Raises: WeightsError with missing and unexpected names, and tensors of another shape.
    """
    own = module.state_dict()
    missing = sorted(set(own) - set(state))
    surplus = sorted(name for name in set(state) - set(own) if not name.startswith(tuple(ignore)))
    shapes = sorted(
        f"{name} {list(state[name].shape)} instead of {list(own[name].shape)}"
        for name in set(own) & set(state)
        if own[name].shape != state[name].shape
    )
    faults = [
        f"{what}: {list_names(names)}"
        for what, names in (("missing", missing), ("unexpected", surplus), ("other shape", shapes))
        if names
    ]
    if faults:
        raise WeightsError(f"{source}: does not fit {type(module).__name__}\n  " + "\n  ".join(faults))
    module.load_state_dict({name: state[name] for name in own})


def list_names(names: list[str], limit: int = 8) -> str:
    """Join the first names of a list and the number of others, for messages."""
    shown = ", ".join(names[:limit]) or "none"
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"

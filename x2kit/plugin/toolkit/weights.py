"""Reading files of weights and putting them into modules, strictly. Imports torch.

Files are read without unpickling anything but tensors: safetensors, or `torch.load(weights_only=True)`.
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
"""Keys under which training code of others keeps the tensors."""
ARCHIVE, PICKLE = b"PK", b"\x80"
"""How files of `torch.save` begin, newer and older ones."""
UNREADABLE = (
    *(pickle.UnpicklingError, SafetensorError, struct.error, OSError, EOFError, RuntimeError, ValueError),
    # of torch's unpickler, which takes whatever a damaged file tells it to do for granted
    *(LookupError, TypeError, AttributeError, AssertionError, OverflowError, MemoryError),
)
OLD_NAMES = {"gamma": "weight", "beta": "bias"}


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or a torch checkpoint, on the CPU.

    Raises: WeightsError if the file is missing, damaged or would run code when read.
    """
    return read_checkpoint(file)[0]


def read_checkpoint(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file, and what stands beside them under other keys; see `read_weights`."""
    if not file.is_file():
        raise WeightsError(f"{file}: no such file of weights")
    content: Any
    try:
        if file.suffix == ".safetensors":
            content = load_file(file)
        else:
            # Training code keeps its arguments beside the tensors; a Namespace holds values and runs nothing.
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(file, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise WeightsError(f"{file}: {_reason(file, error)}") from error
    beside: dict[str, Any] = {}
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            beside |= {str(name): value for name, value in content.items() if name != key}
            content = content[key]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{file}: holds {type(content).__name__}, expected tensors by name")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    return tensors, beside | {str(name): value for name, value in content.items() if str(name) not in tensors}


def rename_layer_norms(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The first BERT files call weight and bias of layer norms gamma and beta, as TensorFlow did; here renamed."""
    return {
        re.sub(r"LayerNorm\.(gamma|beta)$", lambda found: f"LayerNorm.{OLD_NAMES[found[1]]}", name): value
        for name, value in tensors.items()
    }


def _reason(file: Path, error: Exception) -> str:
    """Why a file cannot be read. Torch's own message would advise to read it with its code running."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read: {error.strerror}"
    with file.open("rb") as opened:
        begin = opened.read(12)
    if not begin:
        return "is empty"
    if begin.startswith(ARCHIVE) and not _has_end(file):
        return f"is cut short: the end of the archive is missing after {file.stat().st_size} bytes"
    code = re.search(r"GLOBAL (\S+)", str(error)) if begin.startswith((ARCHIVE, PICKLE)) else None
    if code and isinstance(error, pickle.UnpicklingError):
        return (
            f"damaged, or it holds more than tensors and plain values: to read it {code[1]} would have to run, and "
            "x2kit never runs the code of a file; whoever wrote it can save the state dict alone"
        )
    told = f": {error}" if isinstance(error, SafetensorError) else ""
    return f"damaged, or not a file of weights ({file.stat().st_size} bytes that begin with {begin!r}){told}"


def _has_end(archive: Path) -> bool:
    try:
        return zipfile.is_zipfile(archive)
    except zipfile.BadZipFile:  # which has an end that says what no archive can be
        return True


def load_exactly(
    module: nn.Module, state: Mapping[str, Tensor], source: str, ignore: Collection[str] = ()
) -> None:
    """Fill all of a module's parameters and buffers.

    Args:
        module: what is filled.
        state: tensors by name.
        source: where they came from, for messages.
        ignore: beginnings of names in `state` that may be left over, for example a classifier's.
    Raises: WeightsError that lists names that are missing or left over, and tensors of another shape.
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
        for what, names in (("missing", missing), ("left over", surplus), ("other shape", shapes))
        if names
    ]
    if faults:
        raise WeightsError(f"{source}: does not fit {type(module).__name__}\n  " + "\n  ".join(faults))
    module.load_state_dict({name: state[name] for name in own})


def list_names(names: list[str], limit: int = 8) -> str:
    """The first names of a list, and how many more there are, for messages."""
    shown = ", ".join(names[:limit]) or "none"
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"

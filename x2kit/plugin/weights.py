"""Reading files of weights and putting them into modules, strictly. Imports torch.

Files are read without unpickling anything but tensors: safetensors, or `torch.load(weights_only=True)`.
"""

from __future__ import annotations

import pickle
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


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or a torch checkpoint, on the CPU.

    Raises: WeightsError if the file is missing, damaged or holds more than tensors.
    """
    if not file.is_file():
        raise WeightsError(f"{file}: no such file of weights")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{file}: damaged, or not a file of weights: {error}") from error
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{file}: holds {type(content).__name__}, expected tensors by name")
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def weights_file(path: Path) -> Path:
    """The file of weights that a path means: itself, or the one in a directory.

    Raises: WeightsError if the directory has none or several.
    """
    if path.is_file():
        return path
    found = [path / "model.safetensors"] if (path / "model.safetensors").is_file() else []
    found = found or sorted(
        file for file in path.iterdir() if file.suffix in (".safetensors", ".bin", ".pth", ".pt")
    )
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise WeightsError(
            f"{path}: expected one file of weights (.safetensors, .pth, .pt, .bin), found {names}"
        )
    return found[0]


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
        f"{what}: {_some(names)}"
        for what, names in (("missing", missing), ("left over", surplus), ("other shape", shapes))
        if names
    ]
    if faults:
        raise WeightsError(f"{source}: does not fit {type(module).__name__}\n  " + "\n  ".join(faults))
    module.load_state_dict({name: state[name] for name in own})


def _some(names: list[str], limit: int = 8) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"

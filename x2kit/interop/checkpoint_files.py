"""Read official checkpoint files without unpickling code, and write them atomically. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from x2kit.errors import WeightsError
from x2kit.io.atomic import atomic_file
from x2kit.plugin.toolkit.weights import read_checkpoint

SUFFIXES = (".th", ".pth", ".pt", ".safetensors")


class OfficialFile(NamedTuple):
    """A checkpoint.

    Attributes:
        tensors: in the order of the file.
        values: other entries of plain values, such as `config`.
        dropped: keys of other entries, such as `optimizer`.
    """

    tensors: dict[str, Tensor]
    values: dict[str, Any]
    dropped: tuple[str, ...] = ()


def read_official(file: Path) -> OfficialFile:
    """Read a checkpoint. Raises WeightsError if it is missing, damaged, without tensors, or would run code."""
    tensors, others = read_checkpoint(file)
    if not tensors:
        raise WeightsError(f"{file}: contains no tensor")
    values = {key: value for key, value in others.items() if _plain(value)}
    return OfficialFile(tensors, values, tuple(key for key in others if key not in values))


def write_official(content: OfficialFile, file: Path) -> None:
    """Write `{"model": tensors, ...}` like the official code, or a .safetensors file of the tensors only.

    Raises: WeightsError for another suffix or an existing file; StorageError for a failed write.
    """
    if file.suffix not in SUFFIXES:
        raise WeightsError(f"{file}: expected a name that ends in {', '.join(SUFFIXES)}")
    if file.exists():
        raise WeightsError(f"{file}: exists already; choose another name, or remove it")
    with atomic_file(file) as partial:
        if file.suffix == ".safetensors":
            # clones: safetensors refuses tensors that share memory, which official checkpoints have
            tensors = {name: value.clone() for name, value in content.tensors.items()}
            save_file(tensors, partial, {"format": "pt"})
        else:
            torch.save({"model": content.tensors, **content.values}, partial)


def _plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _plain(part) for key, part in value.items())
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | float | str)

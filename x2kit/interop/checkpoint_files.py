"""Official checkpoint files, read without running code and written whole. Imports torch."""

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
        beside: plain values that stand beside them, such as `config`.
        dropped: keys of what else stands beside them, such as `optimizer`.
    """

    tensors: dict[str, Tensor]
    beside: dict[str, Any]
    dropped: tuple[str, ...] = ()


def read_official(file: Path) -> OfficialFile:
    """Raises WeightsError if the file is missing, damaged, holds no tensor, or would run code when read."""
    tensors, beside = read_checkpoint(file)
    if not tensors:
        raise WeightsError(f"{file}: holds no tensor")
    plain = {key: value for key, value in beside.items() if _plain(value)}
    return OfficialFile(tensors, plain, tuple(key for key in beside if key not in plain))


def write_official(content: OfficialFile, file: Path) -> None:
    """Write `{"model": tensors, ...}` as the official code does, or a .safetensors file of the tensors alone.

    Raises: WeightsError for another suffix, StorageError if it cannot be written; what lies there already stays as it
        is.
    """
    if file.suffix not in SUFFIXES:
        raise WeightsError(f"{file}: expected a name that ends in {', '.join(SUFFIXES)}")
    if file.exists():
        raise WeightsError(f"{file}: is there already; name another file, or remove it")
    with atomic_file(file) as beside:
        if file.suffix == ".safetensors":
            # clones: safetensors refuses two names of one memory, which official checkpoints have
            tensors = {name: value.clone() for name, value in content.tensors.items()}
            save_file(tensors, beside, {"format": "pt"})
        else:
            torch.save({"model": content.tensors, **content.beside}, beside)


def _plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _plain(part) for key, part in value.items())
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | float | str)

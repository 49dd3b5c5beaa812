"""Checkpoints in the official layouts with random values, as small as the layouts allow.

Names and shapes are those of the recorded inventories (`keys/`); widths and vocabularies are divided, windows,
positions, depths and heads in tables stay.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

REFERENCE = Path(os.environ.get("X2KIT_REFERENCE") or Path(__file__).parents[1] / "reference")
KEYS = REFERENCE / "keys"
CONFIG = {"image_res": 224, "embed_dim": 256, "optimizer": {"opt": "adamW", "lr": 1e-4}, "temp": 0.07}
"""What stands beside the tensors; official checkpoints hold the configuration of their run there."""

Shapes = dict[str, tuple[int, ...]]


class Inventory(NamedTuple):
    """One recorded model: shapes and dtypes in their order, names of one tensor, names that are buffers."""

    name: str
    shapes: Shapes
    dtypes: dict[str, torch.dtype]
    tied: list[list[str]]
    buffers: list[str]
    parameters: int

    def scaled(self) -> Inventory:
        """The same model, narrow."""
        wide = max(self.shapes[name][1] for name in self.shapes if name.endswith("word_embeddings.weight"))
        if wide < 512:
            return self
        return self._replace(shapes={name: _scaled(name, shape) for name, shape in self.shapes.items()})


def index() -> dict[str, Any]:
    """Facts of all recorded models."""
    return json.loads((KEYS / "index.json").read_text())


def inventory(name: str) -> Inventory:
    """The recorded names and shapes of one model."""
    facts = index()[name]
    rows = json.loads((REFERENCE / facts["file"]).read_text())
    return Inventory(
        name,
        {key: tuple(row["shape"]) for key, row in rows.items()},
        {key: getattr(torch, row["dtype"]) for key, row in rows.items()},
        facts["tied"],
        facts["buffers"],
        facts["n_parameters"],
    )


def inventories() -> list[str]:
    """The models whose names and shapes were recorded."""
    return [name for name, facts in index().items() if facts["file"] is not None]


def tensors_of(
    inventory: Inventory,
    buffers: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Random tensors of an inventory, tied ones one tensor.

    Args:
        inventory: of a model.
        buffers: values of buffers; random for those that are not there.
        dtype: of the floating ones; as recorded if None.
        seed: of the values.
    """
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}
    for name, shape in inventory.shapes.items():
        kind = inventory.dtypes[name]
        if buffers is not None and name in buffers:
            found[name] = buffers[name].to(kind)
        elif kind.is_floating_point:
            found[name] = (0.05 * torch.randn(shape, generator=generator)).to(dtype or kind)
        else:
            found[name] = torch.randint(0, 1000, shape, generator=generator, dtype=kind)
    for first, *others in inventory.tied:
        found |= dict.fromkeys(others, found[first])
    if "temp" in found:
        found["temp"] = found["temp"].abs() + 0.01
    return found


def write(tensors: Mapping[str, Tensor], file: Path, **beside: Any) -> Path:
    """A checkpoint as the official code writes it; a .safetensors file has the tensors alone."""
    if file.suffix == ".safetensors":
        save_file({name: value.clone() for name, value in tensors.items()}, file)
    else:
        torch.save({"model": dict(tensors), **beside}, file)
    return file


def checkpoint(name: str, file: Path, **beside: Any) -> Path:
    """A small random checkpoint of one of the recorded models."""
    return write(tensors_of(inventory(name).scaled()), file, **(beside or {"config": CONFIG}))


def _scaled(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if name.endswith(("relative_position_index", "relative_position_bias_table")) and "blocks" in name:
        return _window(name, shape)
    if name.endswith(("position_ids", "attn_mask")):
        return shape
    if name.endswith("one_hot"):
        return tuple(map(_length, shape))
    if name.endswith("position_embeddings.weight"):
        return (shape[0], _length(shape[1]))
    return tuple(map(_length, shape))


def _length(length: int) -> int:
    if length > 8192 * 3:
        return length // 200  # a vocabulary
    return length // 16 if length >= 128 and length % 64 == 0 else length


def _window(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    # Images of 768 pixels have tables of 40 MB in each block, whatever the width; a window of 6 does.
    if name.endswith("index"):
        patches = shape[0] - 1
        return shape if patches <= 24**2 else (6**2 + 1,) * 2
    side = math.isqrt(shape[0] - 3)
    return shape if side <= 47 else (11**2 + 3, *shape[1:])

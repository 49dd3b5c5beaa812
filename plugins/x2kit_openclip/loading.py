"""Load published weights into towers of open_clip, and read their tokens. Imports torch."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from open_clip.model import resize_pos_embed
from torch import Tensor, nn

from x2kit.plugin import WeightsError
from x2kit.plugin.toolkit import read_weights

POSITIONS = "positional_embedding"
FILE_NAME = "open_clip_vision.json"


def tower_weights(file: Path, prefix: str) -> dict[str, Tensor]:
    """Read the tensors of a published model whose names begin with `prefix`, and remove it.

    Raises: WeightsError if there is none, or the file is damaged.
    """
    own = {
        name.removeprefix(prefix): value
        for name, value in read_weights(file).items()
        if name.startswith(prefix)
    }
    if not own:
        raise WeightsError(f'{file}: no tensor\'s name begins with "{prefix}", so it is no open_clip model')
    return own


def resize_tower_positions(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Resize learned positions [1 + N, D] bicubically to the model's grid."""
    if POSITIONS not in state:
        return state
    named = {f"visual.{POSITIONS}": state[POSITIONS]}
    resize_pos_embed(named, SimpleNamespace(visual=model))
    return {**state, POSITIONS: named[f"visual.{POSITIONS}"]}


def prefix_and_patches(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the prefix tokens [B, P, D] and the patches [B, N, D], after the final norm."""
    out = model.forward_intermediates(
        images,
        indices=1,
        normalize_intermediates=True,
        intermediates_only=True,
        output_fmt="NLC",
        output_extra_tokens=True,
    )
    return torch.cat(out["image_intermediates_prefix"], 1), torch.cat(out["image_intermediates"], 1)


def save_tower(tower: dict[str, Any], directory: Path) -> None:
    """Write the tower's settings, since the folder of the pretrained weights may be gone when it is built again."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / FILE_NAME).write_text(json.dumps(tower, indent=1) + "\n", encoding="utf-8")


def load_tower(directory: Path) -> dict[str, Any]:
    """Read the settings that `save_tower` wrote. Raises WeightsError if they are missing or damaged."""
    file = directory / FILE_NAME
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{file}: cannot be read as settings of an open_clip tower: {error}") from error

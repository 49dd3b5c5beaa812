"""What both kinds of towers do alike: published tensors into them, and tokens out of them. Imports torch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
from open_clip.model import resize_pos_embed
from torch import Tensor, nn

from x2kit.plugin import WeightsError
from x2kit.plugin.toolkit.weights import read_weights

POSITIONS = "positional_embedding"


def tower_weights(file: Path, prefix: str) -> dict[str, Tensor]:
    """The tensors of a published model whose names begin with `prefix`, by what follows it.

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


def positions_fitted(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Learned positions [1 + N, D] of another grid resized bicubically to the model's; the rest as it is."""
    if POSITIONS not in state:
        return state
    named = {f"visual.{POSITIONS}": state[POSITIONS]}
    resize_pos_embed(named, SimpleNamespace(visual=model))
    return {**state, POSITIONS: named[f"visual.{POSITIONS}"]}


def tokens_before_and_of_patches(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens [B, P, D] in front of the patches and those of the patches [B, N, D], after the final norm."""
    out = model.forward_intermediates(
        images,
        indices=1,
        normalize_intermediates=True,
        intermediates_only=True,
        output_fmt="NLC",
        output_extra_tokens=True,
    )
    return torch.cat(out["image_intermediates_prefix"], 1), torch.cat(out["image_intermediates"], 1)

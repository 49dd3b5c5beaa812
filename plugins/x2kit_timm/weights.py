"""Published weights into timm's models, strictly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from x2kit.plugin import WeightsError
from x2kit.plugin.pretrained import local_path, pretrained_file
from x2kit.plugin.weights import load_exactly, read_weights, weights_file
from x2kit_timm.published import hub_name

HEADS = ("head.", "head_dist.", "attn_pool.", "lm_head.", "mask_token")
"""Beginnings of names in published files that belong to heads, which an encoder has no use for."""

Model = TypeVar("Model", bound=nn.Module)


def load_published(
    model: Model, pretrained: str, rename: Callable[[dict[str, Tensor], Model], dict[str, Tensor]]
) -> None:
    """Fill a model from a local file or directory, or from the local Hugging Face cache.

    Args:
        model: filled completely.
        pretrained: a path, or the name of a timm model with its weights tag.
        rename: published names and sizes to those of the model; timm's own filter, as a rule.
    Raises: WeightsError if the file is damaged or does not fit.
    """
    file = published_weights(pretrained)
    state = rename(read_weights(file), model)
    load_exactly(model, state, str(file), ignore=HEADS)


def published_weights(pretrained: str) -> Path:
    """The file of weights. Raises WeightsError if there is none."""
    path = local_path("pretrained", pretrained)
    if path is not None:
        return weights_file(path)
    name = hub_name(pretrained)
    for filename in ("model.safetensors", "pytorch_model.bin"):
        file = pretrained_file("pretrained", name, filename)
        if file is not None:
            return file
    raise WeightsError(f"{name}: the local cache has no weights; download them with `hf download {name}`")

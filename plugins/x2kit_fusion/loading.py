"""Load fusion layers from a published text encoder (X²-VLM, section 3.1). Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from x2kit.plugin import WeightsError
from x2kit.plugin.toolkit import (
    list_names,
    load_exactly,
    pretrained_weights,
    read_weights,
    rename_layer_norms,
)

if TYPE_CHECKING:
    from x2kit_fusion.cross_bert import CrossBertEncoder

FILES = ("model.safetensors", "pytorch_model.bin")
LAYER = "encoder.layer."


def load_bert_layers(encoder: CrossBertEncoder, pretrained: str, layers: Sequence[int]) -> None:
    """Load self-attention and feed-forward parts; cross-attention keeps its initial weights.

    Args:
        encoder: has as many layers as `layers` has numbers.
        pretrained: name on the Hugging Face hub, or a local directory.
        layers: for each layer, its number in the file.
    Raises: WeightsError if the file is damaged, or lacks these layers in these sizes.
    """
    file = pretrained_weights("pretrained", pretrained, FILES)
    stack = {
        name.partition(LAYER)[2]: value
        for name, value in rename_layer_norms(read_weights(file)).items()
        if LAYER in name
    }
    filled: dict[str, Tensor] = {}
    missing: list[str] = []
    for own, names in encoder.official_names().items():
        if ".cross_attention." in own:
            continue
        parts = [_published_name(name, layers) for name in names]
        missing += [f"{LAYER}{part}" for part in parts if part not in stack]
        if not missing:
            filled[own] = torch.cat([stack[part].float() for part in parts])
    if missing:
        raise WeightsError(f"{file}: lacks tensors of the fusion encoder\n  missing: {list_names(missing)}")
    load_exactly(encoder, {**encoder.state_dict(), **filled}, str(file))
    encoder.filled = frozenset(filled)


def _published_name(name: str, layers: Sequence[int]) -> str:
    """Return the name in the file of a tensor of a layer."""
    number, _, rest = name.partition(".")
    return f"{layers[int(number)]}.{rest}"

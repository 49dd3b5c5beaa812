"""Fusion layers that begin as layers of a published text encoder (X²-VLM, section 3.1). Imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from x2kit.plugin import WeightsError
from x2kit.plugin.toolkit.pretrained import pretrained_weights
from x2kit.plugin.toolkit.weights import load_exactly, read_weights, some, with_new_names
from x2kit_fusion.cross_bert import CrossBertEncoder

FILES = ("model.safetensors", "pytorch_model.bin")
LAYER = "encoder.layer."


def fill(encoder: CrossBertEncoder, pretrained: str, layers: Sequence[int]) -> None:
    """Fill self-attention and feed-forward parts; a text encoder has no cross-attention, which stays fresh.

    Args:
        encoder: as many layers as there are numbers.
        pretrained: name on the Hugging Face hub, or a local directory.
        layers: number in the file of each layer.
    Raises: WeightsError if the file is damaged, or has not these layers of these sizes.
    """
    file = pretrained_weights("pretrained", pretrained, FILES)
    stack = {
        name.partition(LAYER)[2]: value
        for name, value in with_new_names(read_weights(file)).items()
        if LAYER in name
    }
    filled: dict[str, Tensor] = {}
    missing: list[str] = []
    for own, names in encoder.official_names().items():
        if ".cross_attention." in own:
            continue
        parts = [_of_layer(name, layers) for name in names]
        missing += [f"{LAYER}{part}" for part in parts if part not in stack]
        if not missing:
            filled[own] = torch.cat([stack[part].float() for part in parts])
    if missing:
        raise WeightsError(f"{file}: does not fill the fusion encoder\n  missing: {some(missing)}")
    load_exactly(encoder, {**encoder.state_dict(), **filled}, str(file))
    encoder.filled = frozenset(filled)


def _of_layer(name: str, layers: Sequence[int]) -> str:
    """The name of a layer's tensor in the file."""
    number, _, rest = name.partition(".")
    return f"{layers[int(number)]}.{rest}"

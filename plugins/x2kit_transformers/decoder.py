"""Wrap causal language models of transformers as answer decoders."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from x2kit.plugin import NameTable, TextDecoder, Tokenizer
from x2kit_transformers.mlm_heads import BERT

OFFICIAL = NameTable([("model.{rest}", "{rest}")])
LAYER = "encoder.layer."
LONGEST = 512
"""Maximum positions of a decoder beside an encoder whose positions are unlimited or thousands."""


def copied_layers(text_layers: int, fusion_layers: int, layers: int) -> list[int]:
    """List the fusion layers, from 0, to copy into a decoder.

    As in the official code (models/model_generation.py, XVLMForVQA), a decoder half as deep as the fusion encoder
    copies every second layer: those with an odd number in the stack of text and fusion layers. That is 1, 3, 5 of 6
    fusion layers on 12 text layers, and 0, 2 of 4 on 3. The official code refuses other depths; here a decoder with
    fewer layers copies evenly spaced ones up to the last, and one with more has new layers above the copied ones.
    """
    if layers == fusion_layers // 2:
        return [number for number in range(fusion_layers) if (text_layers + number) % 2][:layers]
    copied = min(layers, fusion_layers)
    return [(place + 1) * fusion_layers // copied - 1 for place in range(copied)]


def _layers(names: Iterable[str]) -> int:
    """Count the layers of tensors whose names begin with the layer's number."""
    numbers = (name.partition(".")[0] for name in names)
    return 1 + max((int(number) for number in numbers if number.isdigit()), default=-1)


class HuggingFaceDecoder(TextDecoder):
    """The causal language model of the encoder's family, which cross-attends to fused questions.

    Args:
        model_type: of transformers.
        settings: config of the text encoder, such as a published config.json.
        layers: number of layers of the decoder.
        head: tensor names of the head over the vocabulary.
    """

    def __init__(self, model_type: str, settings: Mapping[str, Any], layers: int, head: NameTable) -> None:
        super().__init__()
        self._head = head
        as_decoder = {
            "num_hidden_layers": layers,
            "is_decoder": True,
            "add_cross_attention": True,
            "use_cache": False,
        }
        encoder = {name: value for name, value in settings.items() if name != "model_type"}
        config = AutoConfig.for_model(model_type, **{**encoder, **as_decoder})
        self.model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)

    def forward(self, ids: Tensor, mask: Tensor, context: Tensor, context_mask: Tensor) -> Tensor:
        logits: Tensor = self.model(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=context,
            encoder_attention_mask=context_mask,
        ).logits
        return logits

    def begin_from(
        self, text: Mapping[str, Tensor], fusion: Mapping[str, Tensor], mlm_head: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Copy the embeddings of the text encoder, layers of the fusion encoder, and the head.

        `copied_layers` selects the layers. Keys and values of the cross-attention, with their biases, are newly
        initialised if the widths of images and questions differ.
        """
        stack = f"{self.model.base_model_prefix}."
        given = {f"{stack}{name}": value for name, value in text.items() if not name.startswith(LAYER)}
        text_layers = _layers(name.removeprefix(LAYER) for name in text if name.startswith(LAYER))
        copied = copied_layers(text_layers, _layers(fusion), self.model.config.num_hidden_layers)
        for name, value in fusion.items():
            number, _, rest = name.partition(".")
            if number.isdigit() and int(number) in copied:
                given[f"{stack}{LAYER}{copied.index(int(number))}.{rest}"] = value
        for own, value in mlm_head.items():
            given |= dict.fromkeys(self._head.official(own), value)
        if "decoder.bias" in mlm_head:  # published twice: alone and with the matrix
            matrix = self._head.official("decoder.weight")[0]
            given[f"{matrix.removesuffix('weight')}bias"] = mlm_head["decoder.bias"]
        own = self.state_dict()
        found = {
            name: given[official] for name, (official,) in self.official_names().items() if official in given
        }
        mismatched = {
            name.rpartition(".")[0] for name, value in found.items() if value.shape != own[name].shape
        }
        return {name: value for name, value in found.items() if name.rpartition(".")[0] not in mismatched}

    def hidden_matrices(self) -> set[str]:
        """Return those of the layers; the head gives logits."""
        head = self.model.get_output_embeddings()
        of_head = {id(parameter) for parameter in head.parameters()}
        return {name for name in super().hidden_matrices() if id(self.get_parameter(name)) not in of_head}

    def official_names(self, first_layer: int = 0) -> dict[str, tuple[str, ...]]:
        return OFFICIAL.of(self.state_dict())

    def official_buffers(self) -> dict[str, Tensor]:
        positions = torch.arange(self.model.config.max_position_embeddings)[None]
        return {f"{self.model.base_model_prefix}.embeddings.position_ids": positions}


def bert_decoder(sizes: Mapping[str, Any], tokenizer: Tokenizer, layers: int) -> HuggingFaceDecoder:
    """Build a decoder of BERT layers for an encoder of another family.

    Layers start from a fusion encoder with BERT's layers; embeddings and head start at random.

    Args:
        sizes: width, heads, mlp_ratio, dropout and max_length (None if unlimited) of the encoder.
        tokenizer: its ids are the vocabulary.
        layers: number of layers.
    """
    width, dropout = sizes["width"], sizes["dropout"]
    settings = {
        "vocab_size": tokenizer.vocab_size,
        "hidden_size": width,
        "num_attention_heads": sizes["heads"],
        "intermediate_size": round(width * sizes["mlp_ratio"]),
        "initializer_range": 0.02 * math.sqrt(768 / width),
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        "max_position_embeddings": min(sizes["max_length"] or LONGEST, LONGEST),
        "layer_norm_eps": 1e-12,
        "pad_token_id": tokenizer.special.pad,
    }
    return HuggingFaceDecoder("bert", settings, layers, BERT.names)

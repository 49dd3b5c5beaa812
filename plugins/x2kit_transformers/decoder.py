"""Decoders of answers around the decoders of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from x2kit.plugin import NameTable, TextDecoder

OFFICIAL = NameTable([("model.{rest}", "{rest}")])
LAYER = "encoder.layer."


class HuggingFaceDecoder(TextDecoder):
    """The causal language model of the encoder's family, which cross-attends to fused questions.

    Args:
        model_type: of transformers.
        settings: of the text encoder that it is like; a published config.json will do.
        layers: of the decoder.
        head: names of the head over the vocabulary.
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
        like = {name: value for name, value in settings.items() if name != "model_type"}
        config = AutoConfig.for_model(model_type, **{**like, **as_decoder})
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
        """Embeddings as in the text encoder, layers as the first of the fusion encoder, the head as it is.

        Keys and values of the cross-attention begin anew, their biases too, where pictures are not as wide as
        questions.
        """
        stack = f"{self.model.base_model_prefix}."
        given = {f"{stack}{name}": value for name, value in text.items() if not name.startswith(LAYER)}
        given |= {f"{stack}{LAYER}{name}": value for name, value in fusion.items()}
        for own, value in mlm_head.items():
            given |= dict.fromkeys(self._head.official(own), value)
        if "decoder.bias" in mlm_head:  # which the head lists once more, beside its matrix
            matrix = self._head.official("decoder.weight")[0]
            given[f"{matrix.removesuffix('weight')}bias"] = mlm_head["decoder.bias"]
        own = self.state_dict()
        found = {
            name: given[official] for name, (official,) in self.official_names().items() if official in given
        }
        unfit = {name.rpartition(".")[0] for name, value in found.items() if value.shape != own[name].shape}
        return {name: value for name, value in found.items() if name.rpartition(".")[0] not in unfit}

    def official_names(self, first_layer: int = 0) -> dict[str, tuple[str, ...]]:
        return OFFICIAL.of(self.state_dict())

    def official_buffers(self) -> dict[str, Tensor]:
        positions = torch.arange(self.model.config.max_position_embeddings)[None]
        return {f"{self.model.base_model_prefix}.embeddings.position_ids": positions}

"""Decoders of answers around the decoders of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from x2kit.plugin import TextDecoder


class HuggingFaceDecoder(TextDecoder):
    """The causal language model of the encoder's family, which cross-attends to fused questions.

    Args:
        model_type: of transformers.
        settings: of the text encoder that it is like.
        layers: of the decoder.
    """

    def __init__(self, model_type: str, settings: Mapping[str, Any], layers: int) -> None:
        super().__init__()
        config = AutoConfig.for_model(
            model_type,
            **{
                **settings,
                "num_hidden_layers": layers,
                "is_decoder": True,
                "add_cross_attention": True,
                "use_cache": False,
            },
        )
        self.model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")

    def forward(self, ids: Tensor, mask: Tensor, context: Tensor, context_mask: Tensor) -> Tensor:
        logits: Tensor = self.model(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=context,
            encoder_attention_mask=context_mask,
        ).logits
        return logits

    def official_names(self, first_layer: int = 0) -> dict[str, tuple[str, ...]]:
        return {name: (name.removeprefix("model."),) for name in self.state_dict()}

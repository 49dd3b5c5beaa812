"""Wrap encoders of transformers as text encoders."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from x2kit.plugin import NameTable, Past, TextEncoder, Tokenizer, causal_mask
from x2kit_transformers.sizes import position_offset

if TYPE_CHECKING:
    from x2kit_transformers.config import Summary

OFFICIAL = NameTable([("model.{rest}", "{rest}")])

PARTIAL_READERS = frozenset({"bert", "roberta", "xlm-roberta"})
"""Families whose attention is determined by a mask [B, 1, L, L] and position ids."""

MASK_FUNCTION = "create_bidirectional_mask"
"""The function of transformers that expands a family's masks; expanded ones pass unchanged."""


class HuggingFaceEncoder(TextEncoder):
    """A transformers encoder; its last hidden states are the tokens.

    Args:
        model: an encoder without a pooler.
        tokenizer: of the model's ids.
        max_length: longest text in tokens.
        summary: position 0: the first token's hidden state, or the mean of all of them.
        from_scratch: whether all parameters are newly initialised.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Tokenizer,
        max_length: int,
        summary: Summary,
        *,
        from_scratch: bool,
    ) -> None:
        super().__init__()
        self.model = model
        self.summary = summary
        self.tokenizer = tokenizer
        self.width = int(model.config.hidden_size)
        self.max_length = max_length
        self.from_scratch = from_scratch
        self.packs = model.config.model_type in PARTIAL_READERS and summary == "cls"

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        tokens: Tensor = self.model(input_ids=ids, attention_mask=self._expanded(mask)).last_hidden_state
        if self.summary == "cls":
            return tokens
        weights = mask[:, :, None].to(tokens.dtype)
        mean = (tokens * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
        return tokens.slice_scatter(mean, 1, 0, 1)

    def _expanded(self, mask: Tensor) -> Tensor | dict[str, Tensor]:
        """Expand a mask [B, L] to [B, 1, L, L], by layer type in models with windows.

        transformers would first test whether all values are True, which synchronises the device and fails on the meta
        device.
        """
        config = self.model.config
        if not hasattr(sys.modules[type(self.model).__module__], MASK_FUNCTION):
            return mask
        length = mask.shape[1]
        whole = mask[:, None, None].expand(-1, 1, length, -1)
        if "sliding_attention" not in (getattr(config, "layer_types", None) or ()):
            return self._for_attention(whole)
        places = torch.arange(length, device=mask.device)
        distance = (places[:, None] - places).abs()
        # Padding outside all windows attends to itself, so that no row of the mask is empty.
        near = (whole & (distance <= config.sliding_window)) | (distance == 0)
        return {
            "full_attention": self._for_attention(whole),
            "sliding_attention": self._for_attention(near),
        }

    def _for_attention(self, seen: Tensor) -> Tensor:
        """Return a bool mask for torch's attention, or an additive one for the family's own."""
        if self.model.config._attn_implementation == "sdpa":
            return seen
        dtype = self.model.dtype
        return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)

    def read_partly(self, ids: Tensor, sees: Tensor, positions: Tensor) -> Tensor:
        family = self.model.config.model_type
        if family not in PARTIAL_READERS:
            return super().read_partly(ids, sees, positions)
        first = position_offset(family, self.tokenizer.special.pad)
        tokens: Tensor = self.model(
            input_ids=ids, attention_mask=self._for_attention(sees[:, None]), position_ids=positions + first
        ).last_hidden_state
        return tokens

    def read_next(self, ids: Tensor, past: Past = ()) -> tuple[Tensor, Past]:
        """Encode the next tokens; `past` holds keys and values [B, L, H, D/H] of each layer."""
        family = self.model.config.model_type
        if family not in PARTIAL_READERS:
            return super().read_next(ids, past)
        cache = DynamicCache()
        for layer, (key, value) in enumerate(zip(past[::2], past[1::2], strict=True)):
            cache.update(key.transpose(1, 2), value.transpose(1, 2), layer)
        first = past[0].shape[1] if past else 0
        length = first + ids.shape[1]
        positions = torch.arange(first, length, device=ids.device) + position_offset(
            family, self.tokenizer.special.pad
        )
        tokens: Tensor = self.model(
            input_ids=ids,
            attention_mask=causal_mask(ids.shape[1], length, ids.device)[:, None],
            position_ids=positions[None],
            past_key_values=cache,
        ).last_hidden_state
        kept = [part.transpose(1, 2) for layer in cache.layers for part in (layer.keys, layer.values)]
        return tokens, tuple(kept)

    def token_embedding(self) -> nn.Embedding | None:
        embedding = self.model.get_input_embeddings()
        if not isinstance(embedding, nn.Embedding) or embedding.embedding_dim != self.width:
            return None  # ALBERT's, for one, is narrower than its layers
        return embedding

    def official_names(self, first_layer: int = 0) -> dict[str, tuple[str, ...]]:
        return OFFICIAL.of(self.state_dict())

    def official_buffers(self) -> dict[str, Tensor]:
        return {"embeddings.position_ids": torch.arange(self.model.config.max_position_embeddings)[None]}

    def save_assets(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.model.config.save_pretrained(directory)

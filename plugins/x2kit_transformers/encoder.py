"""Text encoders around the models of transformers."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from x2kit.plugin import NameTable, TextEncoder, Tokenizer
from x2kit_transformers.architecture import Summary
from x2kit_transformers.published import positions_before

OFFICIAL = NameTable([("model.{rest}", "{rest}")])

READS_PARTLY = frozenset({"bert", "roberta", "xlm-roberta"})
"""Families in which a mask [B, 1, L, L] and the positions are all there is to what a token sees."""

MAKES_MASKS = "create_bidirectional_mask"
"""The function of transformers that makes a family's masks; it passes on those that are whole already."""


class HuggingFaceEncoder(TextEncoder):
    """A transformers encoder; its last hidden states are the tokens.

    Args:
        model: an encoder without a pooler.
        tokenizer: whose ids the model reads.
        max_length: longest text in tokens.
        summary: what position 0 becomes: the first token's state, or the mean of all states.
        from_scratch: no pretrained file filled the parameters.
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
        self._from_scratch = from_scratch

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        tokens: Tensor = self.model(input_ids=ids, attention_mask=self._visible(mask)).last_hidden_state
        if self.summary == "cls":
            return tokens
        weights = mask[:, :, None].to(tokens.dtype)
        mean = (tokens * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
        return torch.cat([mean, tokens[:, 1:]], 1)

    def _visible(self, mask: Tensor) -> Tensor | dict[str, Tensor]:
        """[B, L] to whole masks [B, 1, L, L], by kind of layer where some have windows.

        Made here because a model that makes its own looks first whether all is True: a GPU would wait for that, and
        tensors without memory have no answer.
        """
        config = self.model.config
        if not hasattr(sys.modules[type(self.model).__module__], MAKES_MASKS):
            return mask
        length = mask.shape[1]
        whole = mask[:, None, None].expand(-1, 1, length, -1)
        windows = "sliding_attention" in (getattr(config, "layer_types", None) or ())
        if not windows:
            return self._as_attention_wants(whole)
        places = torch.arange(length, device=mask.device)
        distance = (places[:, None] - places).abs()
        # Padding far from every token sees itself, so that no row of the mask is empty.
        near = (whole & (distance <= config.sliding_window)) | (distance == 0)
        return {
            "full_attention": self._as_attention_wants(whole),
            "sliding_attention": self._as_attention_wants(near),
        }

    def _as_attention_wants(self, seen: Tensor) -> Tensor:
        """A whole mask as torch's attention takes it, or as what the family's own adds to its products."""
        if self.model.config._attn_implementation == "sdpa":
            return seen
        dtype = self.model.dtype
        return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)

    def read_partly(self, ids: Tensor, sees: Tensor, positions: Tensor) -> Tensor:
        family = self.model.config.model_type
        if family not in READS_PARTLY:
            return super().read_partly(ids, sees, positions)
        first = positions_before(family, self.tokenizer.special.pad)
        tokens: Tensor = self.model(
            input_ids=ids, attention_mask=sees[:, None], position_ids=positions + first
        ).last_hidden_state
        return tokens

    def token_embedding(self) -> nn.Embedding | None:
        embedding = self.model.get_input_embeddings()
        if not isinstance(embedding, nn.Embedding) or embedding.embedding_dim != self.width:
            return None  # ALBERT's, for one, is narrower than its layers
        return embedding

    def fresh(self) -> set[str]:
        return super().fresh() if self._from_scratch else set()

    def official_names(self, first_layer: int = 0) -> dict[str, tuple[str, ...]]:
        return OFFICIAL.of(self.state_dict())

    def official_buffers(self) -> dict[str, Tensor]:
        return {"embeddings.position_ids": torch.arange(self.model.config.max_position_embeddings)[None]}

    def save_assets(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.model.config.save_pretrained(directory)

"""Text encoders around the models of transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from x2kit.plugin import NameTable, TextEncoder, Tokenizer
from x2kit_transformers.architecture import Summary
from x2kit_transformers.published import positions_before

OFFICIAL = NameTable([("model.{rest}", "{rest}")])

TAKES_WHOLE_MASKS = frozenset({"bert", "roberta", "xlm-roberta"})
"""Families without windows or masks of their own, so that a mask [B, 1, L, L] is all there is to it."""


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

    def _visible(self, mask: Tensor) -> Tensor:
        """[B, L] to [B, 1, L, L] where the model takes it so: else it looks whether all is True, and a GPU waits."""
        config = self.model.config
        if config.model_type in TAKES_WHOLE_MASKS and config._attn_implementation == "sdpa":
            return mask[:, None, None].expand(-1, 1, mask.shape[1], -1)
        return mask

    def read_partly(self, ids: Tensor, sees: Tensor, positions: Tensor) -> Tensor:
        family = self.model.config.model_type
        if family not in TAKES_WHOLE_MASKS:
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

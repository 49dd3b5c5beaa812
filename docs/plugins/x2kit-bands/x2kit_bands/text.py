"""DomainText: its network. Imported when it is built."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from x2kit.plugin import TextEncoder, Tokenizer

from . import DomainText


class DomainTextEncoder(TextEncoder):
    """Ids [B, L] and mask [B, L], True is kept, to tokens [B, L, D]; position 0 is the mean of all."""

    def __init__(self, settings: DomainText, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.width, self.max_length, _ = settings.describe()
        self.words = nn.Embedding(tokenizer.vocab_size, self.width)
        self.positions = nn.Embedding(self.max_length, self.width)
        # As wide as the words, positions would make all short texts nearly equal at the start.
        nn.init.normal_(self.positions.weight, std=0.1)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                self.width,
                settings.heads,
                4 * self.width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(self.width)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """What stands at padded positions changes nothing elsewhere."""
        tokens = self.words(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for layer in self.layers:
            tokens = layer(tokens, src_key_padding_mask=~mask)
        tokens = self.norm(tokens)
        weights = mask[:, :, None].to(tokens.dtype)
        mean = (tokens * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
        return tokens.slice_scatter(mean, 1, 0, 1)

    def token_embedding(self) -> nn.Embedding:
        """The masked-language head may share the words."""
        return self.words

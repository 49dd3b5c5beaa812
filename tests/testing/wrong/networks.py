"""The networks of the right twins, with one method for each thing that a wrong one does otherwise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.testing.wrong.right import RightText, RightVision
from x2kit.plugin import Context, FusionEncoder, TextEncoder, Tokenizer, VisionEncoder, VisionFeatures


class Vision(VisionEncoder):
    def __init__(self, settings: RightVision) -> None:
        super().__init__()
        self.image_spec, self.width, self.grid = settings.describe()
        self.project = nn.Conv2d(3, self.width, 4, 4)

    def patches(self, images: Tensor) -> Tensor:
        return self.project(images).flatten(2).transpose(1, 2)

    def summary(self, patches: Tensor) -> Tensor:
        return patches.mean(1)

    def forward(self, images: Tensor) -> VisionFeatures:
        patches = self.patches(images)
        return VisionFeatures(self.summary(patches), patches, self.grid)


class Text(TextEncoder):
    def __init__(self, settings: RightText, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer, self.width, self.max_length = tokenizer, settings.width, 80
        self.words = nn.Embedding(self.rows(tokenizer), self.width)
        self.places = nn.Embedding(self.max_length, self.width)
        self.look = nn.MultiheadAttention(self.width, 2, batch_first=True)

    def rows(self, tokenizer: Tokenizer) -> int:
        return tokenizer.vocab_size

    def hidden(self, mask: Tensor) -> Tensor | None:
        return ~mask

    def finish(self, tokens: Tensor) -> Tensor:
        return tokens

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        tokens = self.words(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        seen, _ = self.look(tokens, tokens, tokens, key_padding_mask=self.hidden(mask), need_weights=False)
        return self.finish(tokens + seen)


class Fusion(FusionEncoder):
    def __init__(self, width: int, context_width: int) -> None:
        super().__init__()
        self.width = width
        self.own = nn.MultiheadAttention(width, 2, batch_first=True)
        self.look = nn.MultiheadAttention(width, 2, kdim=context_width, vdim=context_width, batch_first=True)

    def hidden(self, mask: Tensor) -> Tensor | None:
        return ~mask

    def forward(
        self, text: Tensor, text_mask: Tensor, context: Context | None, summary_rows: int = 0
    ) -> Tensor:
        text = text + self.own(text, text, text, key_padding_mask=~text_mask, need_weights=False)[0]
        if context is None:
            return text
        tokens, mask = context.expand()
        seen, _ = self.look(text, tokens, tokens, key_padding_mask=self.hidden(mask), need_weights=False)
        return text + seen

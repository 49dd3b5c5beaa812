"""Build a model of a few thousand weights, on which the checks of tasks run.

B rows, L text tokens, N patches, D width, K images of a row. Nothing here is trained, so only differences count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from x2kit.model.config import HeadsConfig
from x2kit.model.x2vlm import X2VLM
from x2kit.plugin.encoders import (
    Context,
    FusionEncoder,
    TextDecoder,
    TextEncoder,
    VisionEncoder,
    VisionFeatures,
    causal_mask,
)
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.tokenizers import SpecialIds, Tokenizer

WIDTH = 16
LONGEST = 512
SPEC = ImageSpec(size=32)
PATCH = 8


def tiny_model(heads: HeadsConfig, texts: Iterable[str], seed: int) -> X2VLM:
    """Build a model in evaluation mode; the global random state is restored.

    Args:
        heads: of the model.
        texts: whose words are the vocabulary.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text = _Text(Words(texts))
        decoder = None if heads.decoder_layers is None else _Decoder(text.tokenizer.vocab_size)
        return X2VLM(_Vision(), text, _Fusion(), heads, decoder).eval()


class Words(Tokenizer):
    """One id for each word of the texts that it is made of."""

    special = SpecialIds(pad=0, cls=1, sep=2, unk=3, mask=4)

    def __init__(self, texts: Iterable[str]) -> None:
        self.words = sorted({word for text in texts for word in text.split()})
        self.vocab_size = len(self.special) + len(self.words)
        self._ids = {word: number for number, word in enumerate(self.words, len(self.special))}

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Encode words; those of no text are unknown."""
        unk, cls, sep = self.special.unk, self.special.cls, self.special.sep
        words = [text.split()[: max_length - 2] for text in texts]
        return [[cls, *(self._ids.get(word, unk) for word in row), sep] for row in words]

    def decode(self, ids: Sequence[int]) -> str:
        """Join the words."""
        start = len(self.special)
        return " ".join(self.words[id_ - start] for id_ in ids if id_ >= start)

    def starts_word(self, ids: Sequence[int]) -> list[bool]:
        """Every id is a word."""
        return [True] * len(ids)

    def save(self, directory: Path) -> None:
        """Write the words."""
        (directory / "words.txt").write_text("\n".join(self.words), encoding="utf-8")


def _attend(query: nn.Linear, asking: Tensor, seen: Tensor, mask: Tensor) -> Tensor:
    """Average `seen` [B, N, D] for each token of `asking` [B, L, D] under a mask that broadcasts to [B, L, N]."""
    scores: Tensor = query(asking) @ seen.transpose(1, 2) / WIDTH**0.5
    return scores.masked_fill(~mask, float("-inf")).softmax(-1) @ seen


def _sees(mask: Tensor) -> Tensor:
    """Give a mask of texts, [B, L] or [B, L, L], an axis for the token that attends."""
    return mask[:, None] if mask.ndim == 2 else mask


class _Vision(VisionEncoder):
    image_spec, width, grid = SPEC, WIDTH, (SPEC.size // PATCH, SPEC.size // PATCH)

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(SPEC.channels, WIDTH, PATCH, PATCH)
        self.places = nn.Parameter(torch.randn(self.grid[0] * self.grid[1], WIDTH))

    def forward(self, images: Tensor) -> VisionFeatures:
        patches = torch.tanh(self.patch(images).flatten(2).transpose(1, 2) + self.places)
        return VisionFeatures(patches.mean(1), patches, self.grid)


class _Text(TextEncoder):
    width, max_length = WIDTH, LONGEST

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.words = nn.Embedding(tokenizer.vocab_size, WIDTH)
        self.places = nn.Embedding(LONGEST, WIDTH)
        self.query, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        return self.read_partly(ids, _sees(mask), positions)

    def read_partly(self, ids: Tensor, sees: Tensor, positions: Tensor) -> Tensor:
        tokens: Tensor = self.words(ids) + self.places(positions)
        return tokens + torch.tanh(self.out(_attend(self.query, tokens, tokens, sees)))

    def token_embedding(self) -> nn.Embedding:
        return self.words


class _Fusion(FusionEncoder):
    """Attention to the text, then to each image."""

    width = WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.own, self.look = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mix, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(
        self, text: Tensor, text_mask: Tensor, context: Context | None, summary_rows: int = 0
    ) -> Tensor:
        text = text + torch.tanh(self.mix(_attend(self.own, text, text, _sees(text_mask))))
        images = 0 if context is None else 1 if context.rows.ndim == 1 else context.rows.shape[1]
        for place in range(images):
            assert context is not None
            tokens, mask = context.select(place).expand()
            seen = _attend(self.look, text, tokens, mask[:, None])
            text = text + torch.tanh((1 + place) * self.out(seen))
        return F.layer_norm(text, (WIDTH,))


class _Decoder(TextDecoder):
    """Words so far, then the question."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab_size, WIDTH)
        self.own, self.look = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, vocab_size)

    def forward(self, ids: Tensor, mask: Tensor, context: Tensor, context_mask: Tensor) -> Tensor:
        tokens = self.words(ids)
        causal = causal_mask(ids.shape[1], ids.shape[1], ids.device)
        tokens = tokens + _attend(self.own, tokens, tokens, causal)
        logits: Tensor = self.out(tokens + _attend(self.look, tokens, context, _sees(context_mask)))
        return logits

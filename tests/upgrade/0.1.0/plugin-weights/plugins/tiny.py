"""Three encoders of a few numbers each, as a plugin of one file: what the tests of the model and the step run on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn

from x2kit.plugin import (
    Context,
    FusionEncoder,
    FusionEncoderConfig,
    FusionFacts,
    ImageSpec,
    Registry,
    SpecialIds,
    TextEncoder,
    TextEncoderConfig,
    TextFacts,
    Tokenizer,
    VisionEncoder,
    VisionEncoderConfig,
    VisionFacts,
    VisionFeatures,
    hookimpl,
)

WORDS = (
    *("a", "red", "green", "dog", "cat", "under", "the", "sun", "moon", "and", "ein", "roter", "hund"),
    *("tree", "boat", "star", "fish", "bell", "le", "dogchen", "catchen"),
)
SPEC = ImageSpec(size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


class TinyVision(VisionEncoderConfig):
    """Each patch by itself; the summary is their mean."""

    width: int = Field(8, description="width D")
    grid: tuple[int, int] = Field((4, 4), description="rows and columns of patches")

    def describe(self) -> VisionFacts:
        return VisionFacts(SPEC, self.width, self.grid)

    def build(self, assets: Path | None = None) -> VisionEncoder:
        return TinyVisionEncoder(self)


class TinyVisionEncoder(VisionEncoder):
    def __init__(self, config: TinyVision) -> None:
        super().__init__()
        self.image_spec, self.width, self.grid = config.describe()
        steps = [self.image_spec.size // count for count in self.grid]
        self.patches = nn.Conv2d(3, self.width, steps, steps)
        self.norm = nn.LayerNorm(self.width)

    def forward(self, images: Tensor) -> VisionFeatures:
        patches = self.norm(self.patches(images).flatten(2).transpose(1, 2))
        return VisionFeatures(patches.mean(1), patches, self.grid)


class TinyTokenizer(Tokenizer):
    """One id a word. What it saved decides the words."""

    special = SpecialIds(pad=1, cls=0, sep=2, unk=3, mask=4)

    def __init__(self, words: Sequence[str] = WORDS) -> None:
        self.words = list(words)
        self.vocab_size = 5 + len(self.words)

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        return [
            [0, *(5 + self.words.index(word) if word in self.words else 3 for word in text.split()), 2]
            for text in texts
        ]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(self.words[number - 5] for number in ids if number >= 5)

    def starts_word(self, ids: Sequence[int]) -> list[bool]:
        return [True] * len(ids)

    def save(self, directory: Path) -> None:
        (directory / "words.json").write_text(json.dumps(self.words))


class TinyText(TextEncoderConfig):
    """A word is its embedding and the mean of its text."""

    width: int = Field(8, description="width D")

    def describe(self) -> TextFacts:
        return TextFacts(self.width, 40, 5 + len(WORDS))

    def build_tokenizer(self, texts: Iterable[str] | None = None, assets: Path | None = None) -> Tokenizer:
        return TinyTokenizer(WORDS if assets is None else json.loads((assets / "words.json").read_text()))

    def build(self, tokenizer: Tokenizer, assets: Path | None = None) -> TextEncoder:
        return TinyTextEncoder(self, tokenizer)


class TinyTextEncoder(TextEncoder):
    def __init__(self, config: TinyText, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer, self.width, self.max_length = tokenizer, config.width, 40
        self.embedding = nn.Embedding(tokenizer.vocab_size, config.width)
        self.mix = nn.Linear(config.width, config.width)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        tokens = self.embedding(ids)
        kept = mask[..., None].to(tokens.dtype)
        mean = (tokens * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True)
        return tokens + torch.tanh(self.mix(mean))

    def token_embedding(self) -> nn.Embedding:
        return self.embedding


class TinyFusion(FusionEncoderConfig):
    """One head of attention over the expanded context."""

    def describe(self, text_width: int, context_width: int) -> FusionFacts:
        return FusionFacts(text_width, 1)

    def build(self, text_width: int, context_width: int, assets: Path | None = None) -> FusionEncoder:
        return TinyFusionEncoder(text_width, context_width)


class TinyFusionEncoder(FusionEncoder):
    def __init__(self, text_width: int, context_width: int) -> None:
        super().__init__()
        self.width = text_width
        self.own = nn.Linear(text_width, text_width)
        self.look = nn.Linear(text_width, context_width)
        self.value = nn.Linear(context_width, text_width)

    def forward(
        self, text: Tensor, text_mask: Tensor, context: Context | None, summary_rows: int = 0
    ) -> Tensor:
        kept = text_mask[..., None].to(text.dtype)
        out = text + self.own((text * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True))
        if context is None:
            return out
        tokens, mask = context.expand()
        scores = (self.look(out) @ tokens.transpose(1, 2)).masked_fill(~mask[:, None], float("-inf"))
        return out + scores.softmax(-1) @ self.value(tokens)


@hookimpl
def x2kit_register(registry: Registry) -> None:
    for component in (TinyVision, TinyText, TinyFusion):
        registry.add(component)

"""The right twins: small encoders that keep their contract. Each wrong encoder beside this changes one thing.

Imports no torch, as the settings of a plugin must not; `network` gives the class that is built.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from x2kit.plugin import (
    FusionEncoderConfig,
    FusionFacts,
    ImageSpec,
    SpecialIds,
    TextEncoderConfig,
    TextFacts,
    Tokenizer,
    VisionEncoderConfig,
    VisionFacts,
)

if TYPE_CHECKING:
    from x2kit.plugin import FusionEncoder, TextEncoder, VisionEncoder


class RightVision(VisionEncoderConfig):
    """A linear layer on 4 × 4 blocks of the image; the summary is the mean."""

    width: int = Field(8, gt=0, description="width D")

    def describe(self) -> VisionFacts:
        return VisionFacts(ImageSpec(12), self.width, (3, 3))

    def network(self) -> Any:
        from tests.testing.wrong.networks import Vision

        return Vision

    def build(self, assets: Path | None = None) -> VisionEncoder:
        return self.network()(self)


class Letters(Tokenizer):
    """Every letter of the texts is a token."""

    special = SpecialIds(0, 1, 2, 3, 4)

    def __init__(self, letters: str) -> None:
        self.letters = letters
        self.vocab_size = len(self.special) + len(letters)

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        return [[1, *(self.id_of(letter) for letter in text[: max_length - 2]), 2] for text in texts]

    def id_of(self, letter: str) -> int:
        return self.letters.index(letter) + len(self.special) if letter in self.letters else self.special.unk

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.letters[id_ - 5] for id_ in ids if id_ >= 5)

    def starts_word(self, ids: Sequence[int]) -> list[bool]:
        return [True] * len(ids)

    def save(self, directory: Path) -> None:
        (directory / "letters.json").write_text(json.dumps(self.letters), encoding="utf-8")


class RightText(TextEncoderConfig):
    """One layer of attention over letters with a position each."""

    width: int = Field(8, gt=0, description="width D")

    def describe(self) -> TextFacts:
        return TextFacts(self.width, 80, None)

    def build_tokenizer(self, texts: Iterable[str] | None = None, assets: Path | None = None) -> Tokenizer:
        if assets is not None:
            return Letters(json.loads((assets / "letters.json").read_text(encoding="utf-8")))
        return Letters("".join(sorted({letter for text in texts or () for letter in text})))

    def network(self) -> Any:
        from tests.testing.wrong.networks import Text

        return Text

    def build(self, tokenizer: Tokenizer, assets: Path | None = None) -> TextEncoder:
        return self.network()(self, tokenizer)


class RightFusion(FusionEncoderConfig):
    """Attention to the text, then to the context."""

    layers: int = Field(1, ge=1, le=1, description="layers")

    def describe(self, text_width: int, context_width: int) -> FusionFacts:
        return FusionFacts(text_width, self.layers)

    def network(self) -> Any:
        from tests.testing.wrong.networks import Fusion

        return Fusion

    def build(self, text_width: int, context_width: int, assets: Path | None = None) -> FusionEncoder:
        return self.network()(text_width, context_width)

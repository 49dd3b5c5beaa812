"""The checks of text encoders and tokenizers: a right one passes, each mistake is found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from x2kit.plugin import Past, SpecialIds, TextEncoder, TextEncoderConfig, TextFacts, Tokenizer
from x2kit.testing import checks

Mistake = Literal[
    "", "mask", "order", "embedding", "not cut", "no sep", "same ids", "batch ids", "specials", "word starts",
    "not saved", "frequencies", "length",
]  # fmt: skip


class Letters(Tokenizer):
    """Every letter of the texts is a token."""

    def __init__(self, letters: str, mistake: str) -> None:
        self.letters, self.mistake = letters, mistake
        self.special = SpecialIds(0, 1, 0 if mistake == "same ids" else 2, 3, 4)
        self.vocab_size = 5 + len(letters)

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        keep = max_length if self.mistake == "not cut" else max_length - 2
        rows = [[self.letters.find(letter) + 5 for letter in text][:keep] for text in texts]
        if self.mistake == "batch ids" and len(rows) > 1:
            rows = [row[::-1] for row in rows]
        close = [] if self.mistake == "no sep" else [self.special.sep]
        return [[1, *row, *close] for row in rows]

    def decode(self, ids: Sequence[int]) -> str:
        letters = [self.letters[id_ - 5] if id_ > 4 else "" for id_ in ids]
        return "".join(letters) + ("<pad>" if self.mistake == "specials" and 0 in ids else "")

    def starts_word(self, ids: Sequence[int]) -> list[bool]:
        return [self.mistake != "word starts" or id_ > 4 for id_ in ids]

    def log_frequencies(self) -> Sequence[float] | None:
        return [0.0] * self.vocab_size if self.mistake == "frequencies" else None

    def save(self, directory: Path) -> None:
        (directory / "letters.json").write_text(json.dumps(self.letters))


class Bag(TextEncoderConfig):
    """Sums of letters with a position each, with a mistake if one is asked for."""

    mistake: Mistake = Field("", description="what is wrong with it")

    def describe(self) -> TextFacts:
        return TextFacts(6, 80, None)

    def build_tokenizer(self, texts: Iterable[str] | None = None, assets: Path | None = None) -> Tokenizer:
        if assets is not None:
            letters = json.loads((assets / "letters.json").read_text())
            return Letters(letters[::-1] if self.mistake == "not saved" else letters, self.mistake)
        return Letters("".join(sorted({letter for text in texts or () for letter in text})), self.mistake)

    def build(self, tokenizer: Tokenizer, assets: Path | None = None) -> TextEncoder:
        return BagEncoder(tokenizer, self.mistake)


class BagEncoder(TextEncoder):
    def __init__(self, tokenizer: Tokenizer, mistake: str) -> None:
        super().__init__()
        self.tokenizer, self.width, self.mistake = tokenizer, 6, mistake
        self.max_length = 79 if mistake == "length" else 80
        self.words = nn.Embedding(tokenizer.vocab_size, 6)
        self.places = nn.Embedding(85, 6)
        self.inner = nn.Linear(6, 6)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        if self.mistake == "order":
            places = places * 0
        tokens = torch.tanh(self.words(ids) * (1 + self.places(places)))
        if self.mistake != "mask":
            tokens = tokens * mask[..., None]
        return self.inner(tokens.cumsum(1) + tokens.sum(1, keepdim=True))

    def token_embedding(self) -> nn.Embedding | None:
        return nn.Embedding(3, 6) if self.mistake == "embedding" else self.words


LAWS = [check for check in checks("text") if check.__name__ != "the_module_imports_no_torch"]


@pytest.mark.parametrize("check", LAWS)
def test_a_right_encoder_passes(check: object) -> None:
    check(Bag())


@pytest.mark.parametrize(
    ("mistake", "name", "said"),
    [
        ("mask", "padding_changes_nothing", "kept positions change when a text is padded"),
        ("order", "every_kept_token_matters", "does not see the order of the pieces"),
        ("embedding", "the_word_embedding_fits", "3 rows for"),
        ("length", "facts_are_true", r"describe\(\) says max_length 80, the encoder has 79"),
        ("not cut", "texts_are_framed_and_cut", "at most 3 are allowed"),
        ("no sep", "texts_are_framed_and_cut", "expected cls 1 first and sep 2 last"),
        ("same ids", "special_ids_are_distinct", "pad, cls, sep and mask share ids"),
        ("batch ids", "a_text_is_encoded_alone", "other ids in a batch than alone"),
        ("specials", "decoding_gives_text", "has special tokens"),
        ("word starts", "words_begin_where_they_do", "starts_word is False for cls or sep"),
        ("not saved", "the_tokenizer_survives_saving", "other ids after it is saved"),
        ("frequencies", "frequencies_are_a_distribution", "sum to"),
    ],
)
def test_each_mistake_is_named(mistake: Mistake, name: str, said: str) -> None:
    check = next(check for check in LAWS if check.__name__ == name)
    with pytest.raises(AssertionError, match=f"Bag: {name}: .*{said}"):
        check(Bag(mistake=mistake))


def test_a_cache_of_wrong_tokens_is_named() -> None:
    class Remembering(BagEncoder):
        def read_partly(self, ids: Tensor, sees: Tensor, positions: Tensor) -> Tensor:
            return sees.float() @ self.words(ids)

        def read_next(self, ids: Tensor, past: Past = ()) -> tuple[Tensor, Past]:
            tokens = self.words(ids).cumsum(1)
            if past and self.mistake != "order":
                tokens = tokens + past[0][:, -1:]
            return tokens, (torch.cat([*past, tokens], 1),)

    class Cached(Bag):
        def build(self, tokenizer: Tokenizer, assets: Path | None = None) -> TextEncoder:
            return Remembering(tokenizer, self.mistake)

    check = next(check for check in LAWS if check.__name__ == "reading_on_equals_reading_again")
    check(Cached())
    with pytest.raises(AssertionError, match="differs from reading all tokens again"):
        check(Cached(mistake="order"))


@pytest.mark.parametrize("mistake", ["", "order"])
def test_an_encoder_that_reads_texts_of_a_row_otherwise_is_named(mistake: Mistake) -> None:
    class Packing(BagEncoder):
        packs = True

        def read_partly(self, ids: Tensor, sees: Tensor, positions: Tensor) -> Tensor:
            places = torch.arange(ids.shape[1])[None] if self.mistake == "order" else positions
            tokens = torch.tanh(self.words(ids) * (1 + self.places(places)))
            return self.inner((sees.tril().float() + sees.float()) @ tokens)

    class PackingBag(Bag):
        def build(self, tokenizer: Tokenizer, assets: Path | None = None) -> TextEncoder:
            encoder = Packing(tokenizer, "")
            encoder.mistake = self.mistake
            return encoder

    check = next(check for check in LAWS if check.__name__ == "packed_texts_equal_those_alone")
    if not mistake:
        check(PackingBag())
        return
    with pytest.raises(AssertionError, match="differs from forward"):
        check(PackingBag(mistake=mistake))

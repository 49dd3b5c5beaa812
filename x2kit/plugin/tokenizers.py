"""The tokenizer contract. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class SpecialIds(NamedTuple):
    """Ids of the tokens with a meaning of their own: `cls` opens a text, `sep` closes it."""

    pad: int
    cls: int
    sep: int
    unk: int
    mask: int


class Tokenizer(ABC):
    """Texts to ids. What `save` wrote, `TextEncoderConfig.build_tokenizer(assets=...)` reads back."""

    special: SpecialIds
    vocab_size: int

    @abstractmethod
    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Ids of each text: `cls`, at most `max_length - 2` pieces, `sep`; no padding."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids, special tokens left out."""

    @abstractmethod
    def starts_word(self, ids: Sequence[int]) -> list[bool]:
        """For each id, whether it begins a word; special tokens do."""

    @abstractmethod
    def save(self, directory: Path) -> None:
        """Write all that is needed to have the same tokenizer again."""

    def log_frequencies(self) -> Sequence[float] | None:
        """Natural logarithm of each id's expected share of all tokens, where the tokenizer knows it."""
        return None

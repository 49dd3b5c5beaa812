"""A tokenizer of byte pairs, trained on the texts of a domain by the library tokenizers.

    python -m x2kit_bands.tokenizer texts/radiology.txt vocabularies/radiology.json

trains one as those that come with the plugin. Byte pairs and not WordPiece: its trainer gives the same texts
other ids in every process.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer as Pieces
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from x2kit.plugin import SpecialIds, Tokenizer, WeightsError

SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")
WORD = "▁"
"""Begins the first piece of a word."""
FILE = "tokenizer.json"


class DomainTokenizer(Tokenizer):
    """Wraps what `tokenizers` has trained or read.

    Args:
        pieces: with the special tokens as its first ids.
    """

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._pieces.encode_special_tokens = True  # a text that says [MASK] means the letters
        self.special = SpecialIds(**{name.strip("[]").lower(): id_ for id_, name in enumerate(SPECIAL)})
        self.vocab_size = pieces.get_vocab_size()

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Self:
        """A tokenizer of these texts; the same texts give the same ids."""
        pieces = Pieces(models.BPE(unk_token="[UNK]"))
        pieces.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        pieces.pre_tokenizer = pre_tokenizers.Metaspace(replacement=WORD, prepend_scheme="always")
        pieces.decoder = decoders.Metaspace(replacement=WORD, prepend_scheme="always")
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=list(SPECIAL), min_frequency=2, show_progress=False
        )
        pieces.train_from_iterator(texts, trainer)
        return cls(pieces)

    @classmethod
    def read(cls, file: Path) -> Self:
        """A saved tokenizer. Raises WeightsError if it is missing or damaged."""
        try:
            return cls(Pieces.from_file(str(file)))
        except Exception as error:  # the library has no error class of its own
            raise WeightsError(f"{file}: not readable as a tokenizer: {error}") from error

    @classmethod
    def load(cls, directory: Path) -> Self:
        """What `save` wrote."""
        return cls.read(directory / FILE)

    def save(self, directory: Path) -> None:
        """One file holds all."""
        directory.mkdir(parents=True, exist_ok=True)
        self._pieces.save(str(directory / FILE))

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """One by one: the library would start threads for many, which processes that load data must not."""
        found = (self._pieces.encode(text, add_special_tokens=False).ids for text in texts)
        return [[self.special.cls, *ids[: max_length - 2], self.special.sep] for ids in found]

    def decode(self, ids: Sequence[int]) -> str:
        """The text, without special tokens."""
        return self._pieces.decode([id_ for id_ in ids if id_ >= len(SPECIAL)], skip_special_tokens=False)

    def starts_word(self, ids: Sequence[int]) -> list[bool]:
        """Special tokens are words."""
        return [id_ < len(SPECIAL) or self._pieces.id_to_token(id_).startswith(WORD) for id_ in ids]


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    lines = source.read_text(encoding="utf-8").splitlines()
    DomainTokenizer.train(lines, 1000)._pieces.save(str(target))

"""Contract of tokenizers. Imports no torch."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from x2kit.errors import WeightsError


class SpecialIds(NamedTuple):
    """Ids of special tokens: `cls` starts a text, `sep` ends it."""

    pad: int
    cls: int
    sep: int
    unk: int
    mask: int


class Tokenizer(ABC):
    """Convert texts to ids and back. `TextEncoderConfig.build_tokenizer(assets=...)` reads a saved one.

    Attributes:
        special: required, set in the constructor: ids of padding, first, last, unknown and mask token. Texts are
            padded with `special.pad`, masked with `special.mask`; captions end at `special.sep`.
        vocab_size: required, set in the constructor: number of ids; every id is below it. It must not exceed the rows
            of the text encoder's word embedding, and is the size of an untied masked-language head.
    """

    special: SpecialIds
    vocab_size: int

    @abstractmethod
    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Encode each text as `cls`, pieces, `sep`, at most `max_length` tokens, without padding.

        `sep` is absent if the settings of the text encoder say so, as in X-VLM.
        """

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids to text, without special tokens."""

    @abstractmethod
    def starts_word(self, ids: Sequence[int]) -> list[bool]:
        """Return for each id whether it starts a word; special tokens do."""

    @abstractmethod
    def save(self, directory: Path) -> None:
        """Write all files needed to restore the tokenizer."""

    def log_frequencies(self) -> Sequence[float] | None:
        """Return the natural logarithm of each id's expected frequency; None if unknown."""
        return None

    def to_json(self) -> str | None:
        """Return the tokenizer as the text of a `tokenizer.json`, for `x2kit export`; None, the default, if it is none.

        `tokenizers.Tokenizer.from_str` reads it and encodes every cleaned text to the ids of `encode`, special tokens
        included (`framed`), without a limit of the length and without padding.
        """
        return None


def framed(first: tuple[str, int], last: tuple[str, int] | None) -> dict[str, Any]:
    """Return the post-processor of a tokenizer.json that starts each text with a token, and ends it with another.

    Args:
        first: text and id of the token.
        last: None for texts without an end token.
    """
    ends = [first] if last is None else [first, last]

    def special(token: tuple[str, int]) -> dict[str, Any]:
        return {"SpecialToken": {"id": token[0], "type_id": 0}}

    def parts(sequence: str) -> list[dict[str, Any]]:
        text = {"Sequence": {"id": sequence, "type_id": 0}}
        return [special(first), text, *([] if last is None else [special(last)])]

    return {
        "type": "TemplateProcessing",
        "single": parts("A"),
        "pair": [*parts("A"), *parts("B")],
        "special_tokens": {name: {"id": name, "ids": [id_], "tokens": [name]} for name, id_ in ends},
    }


class IdsOnly(Tokenizer):
    """Vocabulary without a tokenizer, as after converting a checkpoint that has none.

    Args:
        vocab_size: number of ids.
        special: ids of special tokens.
    """

    FILE_NAME = "ids.json"

    def __init__(self, vocab_size: int, special: SpecialIds) -> None:
        self.vocab_size = vocab_size
        self.special = special

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        raise self._absent()

    def decode(self, ids: Sequence[int]) -> str:
        raise self._absent()

    def starts_word(self, ids: Sequence[int]) -> list[bool]:
        raise self._absent()

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        content = {"vocab_size": self.vocab_size, "special": self.special._asdict()}
        (directory / self.FILE_NAME).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read the file that `save` wrote. Raises WeightsError if it is damaged."""
        file = directory / cls.FILE_NAME
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            return cls(content["vocab_size"], SpecialIds(**content["special"]))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise WeightsError(f"{file}: cannot be read as a vocabulary: {error}") from error

    @staticmethod
    def _absent() -> WeightsError:
        return WeightsError(
            "these weights have no tokenizer, so they read ids but no texts; x2kit convert --tokenizer "
            "NAME_OR_DIR adds one (for BERT models bert-base-uncased, for XLM-R xlm-roberta-base)"
        )


class WithoutEnd(Tokenizer):
    """Wrap a tokenizer so that texts do not end in `sep`, as in X-VLM.

    Args:
        tokenizer: any other tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.special = tokenizer.special
        self.vocab_size = tokenizer.vocab_size

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        return [ids[:-1] for ids in self._tokenizer.encode(texts, max_length + 1)]

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids)

    def starts_word(self, ids: Sequence[int]) -> list[bool]:
        return self._tokenizer.starts_word(ids)

    def save(self, directory: Path) -> None:
        self._tokenizer.save(directory)

    def log_frequencies(self) -> Sequence[float] | None:
        return self._tokenizer.log_frequencies()

    def to_json(self) -> str | None:
        text = self._tokenizer.to_json()
        if text is None:
            return None
        content = json.loads(text)
        special = content["post_processor"]["special_tokens"]
        name = next(name for name, token in special.items() if token["ids"] == [self.special.cls])
        return json.dumps({**content, "post_processor": framed((name, self.special.cls), None)})

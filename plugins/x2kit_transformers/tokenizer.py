"""Wrap published tokenizers of transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from x2kit.plugin import SpecialIds, Tokenizer, WeightsError, framed

INNER_PREFIX = "##"
WORD_MARKS = ("▁", "Ġ")
"""Marks of the space before a word in SentencePiece and byte-level BPE."""


class HuggingFaceTokenizer(Tokenizer):
    """A fast tokenizer of transformers.

    Args:
        tokenizer: has tokens to start, end, pad and mask texts.
        source: its origin, for messages.
        prefix: added to each text, as E5 needs; removed when decoding.
    Raises: WeightsError if it lacks one of the special tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, source: str, prefix: str = "") -> None:
        self._tokenizer = tokenizer
        self._prefix = prefix
        ids = {
            "pad": tokenizer.pad_token_id,
            "cls": tokenizer.bos_token_id if tokenizer.cls_token_id is None else tokenizer.cls_token_id,
            "sep": tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id,
            "unk": tokenizer.unk_token_id,
            "mask": tokenizer.mask_token_id,
        }
        if ids["unk"] is None:  # byte-level tokenizers have no unknown text
            ids["unk"] = ids["pad"]
        absent = sorted(name for name, id_ in ids.items() if id_ is None)
        if absent:
            raise WeightsError(
                f"{source}: the tokenizer has no {', '.join(absent)} token, which pretraining needs; "
                "use the tokenizer of a masked language model"
            )
        self.special = SpecialIds(**ids)
        self.vocab_size = len(tokenizer)
        self._starts = self._word_starts()
        self._prefix_ids = self._pieces([prefix.rstrip()])[0] if prefix else []

    @classmethod
    def load(cls, source: str | Path, prefix: str = "") -> Self:
        """Read a tokenizer by directory or published name. Raises WeightsError if there is none."""
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(source), trust_remote_code=False)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WeightsError(f"{source}: cannot read a tokenizer: {error}") from error
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise WeightsError(
                f"{source}: {type(tokenizer).__name__} is not a fast tokenizer; save a tokenizer.json with it"
            )
        return cls(tokenizer, str(source), prefix)

    def _word_starts(self) -> list[bool]:
        tokens = self._tokenizer.convert_ids_to_tokens(list(range(self.vocab_size)))
        model: dict[str, Any] = json.loads(self._tokenizer.backend_tokenizer.to_str())["model"]
        specials = set(self._tokenizer.all_special_ids)
        if model["type"] == "WordPiece":
            prefix = model.get("continuing_subword_prefix") or INNER_PREFIX
            starts = [not token.startswith(prefix) for token in tokens]
        elif any(token.startswith(WORD_MARKS) for token in tokens):
            starts = [token.startswith(WORD_MARKS) for token in tokens]
        else:
            starts = [True] * len(tokens)
        return [start or id_ in specials for id_, start in enumerate(starts)]

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        if not texts:
            return []
        keep = max(max_length - 2, 0)
        pieces = self._pieces([self._prefix + text for text in texts])
        return [[self.special.cls, *ids[:keep], self.special.sep] for ids in pieces]

    def _pieces(self, texts: Sequence[str]) -> list[list[int]]:
        found: list[list[int]] = self._tokenizer(
            list(texts),
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        return found

    def decode(self, ids: Sequence[int]) -> str:
        plain = [int(id_) for id_ in ids]
        before, after = 1, 1 + len(self._prefix_ids)  # after the first special token
        prefixed = bool(self._prefix_ids) and plain[before:after] == self._prefix_ids
        text = str(self._tokenizer.decode(plain[after:] if prefixed else plain, skip_special_tokens=True))
        return text.lstrip() if prefixed else text

    def starts_word(self, ids: Sequence[int]) -> list[bool]:
        # The first word of a text may lack the mark of a space.
        specials = {self.special.cls, self.special.sep, self.special.pad}
        return [
            self._starts[id_] or (place > 0 and ids[place - 1] in specials) for place, id_ in enumerate(ids)
        ]

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._tokenizer.save_pretrained(directory)

    def to_json(self) -> str:
        special = self.special
        content: dict[str, Any] = json.loads(self._tokenizer.backend_tokenizer.to_str())
        first, last = self._tokenizer.convert_ids_to_tokens([special.cls, special.sep])
        content |= {
            "truncation": None,
            "padding": None,
            "post_processor": framed((first, special.cls), (last, special.sep)),
        }
        if self._prefix:
            own = [] if content["normalizer"] is None else [content["normalizer"]]
            prepend = {"type": "Prepend", "prepend": self._prefix}
            content["normalizer"] = {"type": "Sequence", "normalizers": [prepend, *own]}
        return json.dumps(content, ensure_ascii=False)

"""Write a tokenizer as tokenizer.json that takes raw texts: cleaning, limit and padding included.

Imports torch: texts to compare with are made by the model's own tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from x2kit.data.transforms.text import clean
from x2kit.errors import DataError, WeightsError, X2KitError
from x2kit.plugin.tokenizers import IdsOnly, Tokenizer

FILE = "tokenizer.json"
FOLDER = "tokenizer"
_SPACE = r"[\s\x1c-\x1f]"
"""White space of Python's `re`; Oniguruma's excludes four control characters."""
_CLEANING: Sequence[tuple[str, str]] = (
    (r"[,.'!?\"()*#:;~\-/]", " "),
    ("<person>", "person"),
    (_SPACE + "{2,}", " "),
    (r"\n+\z", ""),
    (r"\A +| +\z", ""),
)
"""`x2kit.data.transforms.text.clean` after lower-casing: regular expressions and their replacements, in order."""
_CASED = r"[\p{Lu}\p{Ll}\p{Lt}]"
_IGNORED = r"[\p{Mn}\p{Me}\p{Cf}\p{Lm}\p{Sk}'.:·’‘․﹒．：﹕]"
"""Characters that have no case and are skipped (Unicode, section 3.13)."""
_FINAL_SIGMA = (
    rf"(?<={_CASED}|{_CASED}{_IGNORED}|{_CASED}{_IGNORED}{_IGNORED})Σ(?!{_IGNORED}*{_CASED})",
    "ς",
)
"""`str.lower` writes a sigma at the end of a word so; the library lower-cases characters one by one."""
SAMPLES = (
    *("A red Dog, under the TREE!", "ein großer Hund - und (k)eine Katze", "Двое детей: у моря?", "Ο ΛΟΓΟΣ"),
    *(
        "一只红色的狗。",
        "赤い犬と太陽",
        "كلب أحمر تحت الشجرة",
        "<person> holds\n two  cups ~ #1 / \"x\" 'y'",
        "İstanbul",
    ),
)
"""Texts whose ids are compared, beside texts of the tokenizer's own pieces."""
_RANDOM = 48


def write_tokenizer(tokenizer: Tokenizer, max_length: int, folder: Path) -> str | None:
    """Write tokenizer.json to a folder; without such a format, the tokenizer's own files to `tokenizer/`.

    Args:
        tokenizer: of the model.
        max_length: longer texts are cut.
        folder: of the export.
    Returns: why there is no tokenizer.json; None if there is one.
    Raises: WeightsError for weights without a tokenizer; X2KitError if the file gives other ids than the tokenizer.
    """
    if isinstance(tokenizer, IdsOnly):
        raise WeightsError(
            "these weights have no tokenizer, so an export could read no text; x2kit convert --tokenizer "
            "NAME_OR_DIR adds one (for BERT models bert-base-uncased, for XLM-R xlm-roberta-base)"
        )
    text = tokenizer.to_json()
    if text is None:
        (folder / FOLDER).mkdir()
        tokenizer.save(folder / FOLDER)
        return f"{type(tokenizer).__name__} has no tokenizer.json (Tokenizer.to_json); its files are in {FOLDER}/"
    content = for_raw_texts(json.loads(text), tokenizer, max_length)
    (folder / FILE).write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    _require_equal(folder / FILE, tokenizer, max_length)
    return None


def for_raw_texts(content: Mapping[str, Any], tokenizer: Tokenizer, max_length: int) -> dict[str, Any]:
    """Add cleaning, the limit of the length and padding to a tokenizer.json.

    Args:
        content: of `Tokenizer.to_json`, for cleaned texts.
        tokenizer: with the id of padding.
        max_length: in tokens, special ones included.
    """
    own = [] if content["normalizer"] is None else [content["normalizer"]]
    pad = tokenizer.special.pad
    known = {token["id"]: token["content"] for token in content["added_tokens"]}
    return {
        **content,
        "normalizer": {"type": "Sequence", "normalizers": [*_cleaning(), *own]},
        "truncation": {
            "direction": "Right",
            "max_length": max_length,
            "strategy": "LongestFirst",
            "stride": 0,
        },
        "padding": {
            "strategy": "BatchLongest",
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": pad,
            "pad_type_id": 0,
            "pad_token": known.get(pad, "<pad>"),
        },
    }


def _cleaning() -> list[dict[str, Any]]:
    def replace(pattern: str, content: str) -> dict[str, Any]:
        return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}

    return [
        replace(*_FINAL_SIGMA),
        {"type": "Lowercase"},
        *(replace(pattern, content) for pattern, content in _CLEANING),
    ]


def _require_equal(file: Path, tokenizer: Tokenizer, max_length: int) -> None:
    """Compare the ids of sample texts. Raises X2KitError for the first text with others."""
    from tokenizers import Tokenizer as Reader

    written = Reader.from_file(str(file))
    for text in sample_texts(tokenizer, max_length):
        (expected,) = tokenizer.encode([clean(text)], max_length)
        found = written.encode(text).ids
        if found != expected:
            raise X2KitError(
                f"{FILE} gives {text!r} the ids {found}, {type(tokenizer).__name__} gives {expected}; nothing was "
                "written. Tokenizer.to_json must encode like Tokenizer.encode"
            )


def sample_texts(tokenizer: Tokenizer, max_length: int) -> list[str]:
    """Return fixed texts, and texts of random pieces of the vocabulary, some longer than the limit."""
    rng = np.random.default_rng(0)
    texts = list(SAMPLES)
    for _ in range(_RANDOM):
        ids = rng.integers(
            0, tokenizer.vocab_size, size=int(rng.integers(1, max(3, min(max_length, 64) + 8)))
        )
        text = tokenizer.decode([int(id_) for id_ in ids if id_ not in tokenizer.special])
        texts += [text, text.title()]
    return [text for text in texts if _remains(text)]


def _remains(text: str) -> bool:
    try:
        clean(text)
    except DataError:
        return False
    return True

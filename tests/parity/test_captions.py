"""Texts are cleaned as the official code cleaned the recorded ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from x2kit.data.transforms.text import pre_caption, pre_question, text_only_caption
from x2kit.errors import DataError

from .conftest import REFERENCE
from .evidence import check_equal

FILE = "text/captions.json"
RECORDED: dict[str, list[dict[str, Any]]] = json.loads((REFERENCE / FILE).read_text(encoding="utf-8"))


def cases(kind: str) -> list[Any]:
    return [pytest.param(case, id=f"{case['input']!r}-{case['max_words']}") for case in RECORDED[kind]]


def compare(kind: str, case: dict[str, Any], cleaned: Callable[[], str], refusal: str) -> None:
    """The recorded text; where the official code raised ValueError, ours says why in a DataError."""
    if "error" in case:
        with pytest.raises(DataError, match=refusal):
            cleaned()
        check_equal(FILE, f"{kind}, refused", "ValueError", case["error"])
    else:
        check_equal(FILE, kind, cleaned(), case["output"])


@pytest.mark.parametrize("case", cases("pre_caption"))
def test_captions(case: dict[str, Any]) -> None:
    text, words = case["input"], case["max_words"]
    compare("pre_caption", case, lambda: pre_caption(text, words), "nothing remains")


@pytest.mark.parametrize("case", cases("pre_question"))
def test_questions(case: dict[str, Any]) -> None:
    text, words = case["input"], case["max_words"]
    compare("pre_question", case, lambda: pre_question(text, words), "no question is refused")


@pytest.mark.parametrize("case", cases("text_only_caption"))
def test_texts_without_images(case: dict[str, Any]) -> None:
    text, words, fewest = case["input"], case["max_words"], case["minimum_words"]
    refusal = f"fewer than {fewest} words"
    compare("text_only_caption", case, lambda: text_only_caption(text, words, fewest), refusal)

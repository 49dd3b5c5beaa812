"""Cleaning of texts, beyond the comparison with the official code in tests/parity, and the draw of one text."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from x2kit.data.transforms.text import all_texts, clean, clean_text_alone, draw, text_only_caption
from x2kit.errors import DataError


def test_all_words_are_kept_without_a_limit() -> None:
    assert clean("One, two; three!") == "one two three"


def test_an_empty_text_is_rejected_even_with_min_words_one() -> None:
    with pytest.raises(DataError, match=r"fewer than 1 word$"):
        text_only_caption("  ", 10, min_words=1)


def test_a_single_text_is_returned_without_using_the_generator(rng: np.random.Generator) -> None:
    before = rng.bit_generator.state
    assert draw("a dog", rng) == "a dog"
    assert draw({"en": "a dog"}, rng) == "a dog"
    assert rng.bit_generator.state == before


def test_texts_are_drawn_uniformly_over_entries_and_languages(rng: np.random.Generator) -> None:
    text = [{"en": "a", "de": "b"}, {"en": "c", "de": "d"}]
    counts = Counter(draw(text, rng) for _ in range(4000))
    assert set(counts) == {"a", "b", "c", "d"}
    assert all(850 < count < 1150 for count in counts.values())  # 1000 each, five standard deviations


def test_only_languages_of_the_stream_are_drawn(rng: np.random.Generator) -> None:
    text = {"en": "a", "de": "b", "fr": "c"}
    assert {draw(text, rng, ("de", "fr")) for _ in range(50)} == {"b", "c"}
    assert draw("plain", rng, ("de",)) == "plain"


def test_entries_without_a_language_of_the_stream_are_excluded(rng: np.random.Generator) -> None:
    texts: Any = [
        {"en": "a dog"},
        {"de": "ein Hund"},
        {"en": "a brown dog"},
        {"fr": "un chien", "de": "Hund"},
    ]
    drawn = Counter(draw(texts, rng, ["de"]) for _ in range(100))
    assert drawn.keys() == {"ein Hund", "Hund"}
    assert min(drawn.values()) > 25


def test_a_text_in_no_language_of_the_stream_is_rejected(rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match=r"languages en,.* de, fr") as found:
        draw({"en": "a"}, rng, ("de", "fr"))
    assert found.value.reason == "language missing"


@pytest.mark.parametrize("text", [None, 5, [], {"en": None}, [7]])
def test_values_that_are_not_texts_are_rejected(text: Any, rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="must be a str") as error:
        draw(text, rng)
    assert error.value.reason == "field of a wrong type"


def test_all_texts_yields_every_text_that_draw_could_return() -> None:
    assert list(all_texts([{"en": "a", "de": "b"}, {"en": "c"}])) == ["a", "b", "c"]
    assert list(all_texts("a")) == ["a"]


def test_text_only_captions_keep_em_spaces_that_the_stream_strips() -> None:
    """The official function strips spaces and line ends only; the official data set strips all white space before."""
    text = "\u2003two\u2003dogs run\u2003\n"
    assert text_only_caption("\u2003two\u2003dogs run\u2003", 10) == "\u2003two\u2003dogs run\u2003"
    assert clean_text_alone(text, 10) == "two\u2003dogs run"
    assert clean("\u2003two\u2003dogs\u2003") == "\u2003two\u2003dogs\u2003"

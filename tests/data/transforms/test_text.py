"""Cleaning, beyond what tests/parity compares with the official code; the choice of a text is fair and seeded."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from x2kit.data.transforms.text import all_texts, clean, clean_text_alone, draw, text_only_caption
from x2kit.errors import DataError


def test_without_a_limit_all_words_stay() -> None:
    assert clean("One, two; three!") == "one two three"


def test_nothing_is_no_text_even_where_one_word_is_enough() -> None:
    with pytest.raises(DataError, match="fewer than 1 words"):
        text_only_caption("  ", 10, min_words=1)


def test_a_text_alone_is_drawn_without_touching_the_generator(rng: np.random.Generator) -> None:
    before = rng.bit_generator.state
    assert draw("a dog", rng) == "a dog"
    assert draw({"en": "a dog"}, rng) == "a dog"
    assert rng.bit_generator.state == before


def test_every_text_of_a_list_of_languages_is_drawn_about_equally_often(rng: np.random.Generator) -> None:
    text = [{"en": "a", "de": "b"}, {"en": "c", "de": "d"}]
    counts = Counter(draw(text, rng) for _ in range(4000))
    assert set(counts) == {"a", "b", "c", "d"}
    assert all(850 < count < 1150 for count in counts.values())  # 1000 each, five standard deviations


def test_only_languages_of_the_stream_are_drawn(rng: np.random.Generator) -> None:
    text = {"en": "a", "de": "b", "fr": "c"}
    assert {draw(text, rng, ("de", "fr")) for _ in range(50)} == {"b", "c"}
    assert draw("plain", rng, ("de",)) == "plain"


def test_of_a_list_only_texts_of_the_stream_s_languages_are_a_choice(rng: np.random.Generator) -> None:
    texts: Any = [
        {"en": "a dog"},
        {"de": "ein Hund"},
        {"en": "a brown dog"},
        {"fr": "un chien", "de": "Hund"},
    ]
    drawn = Counter(draw(texts, rng, ["de"]) for _ in range(100))
    assert drawn.keys() == {"ein Hund", "Hund"}
    assert min(drawn.values()) > 25


def test_a_text_in_no_language_of_the_stream_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="has the languages en, and the stream draws from de, fr") as found:
        draw({"en": "a"}, rng, ("de", "fr"))
    assert found.value.reason == "language missing"


@pytest.mark.parametrize("text", [None, 5, [], {"en": None}, [7]])
def test_what_is_no_text_is_refused(text: Any, rng: np.random.Generator) -> None:
    with pytest.raises(DataError, match="a text is a str"):
        draw(text, rng)


def test_variants_are_all_that_could_be_drawn() -> None:
    assert list(all_texts([{"en": "a", "de": "b"}, {"en": "c"}])) == ["a", "b", "c"]
    assert list(all_texts("a")) == ["a"]


def test_texts_without_images_keep_an_em_space_until_the_stream_strips_it() -> None:
    """The official function strips spaces and line ends alone; the official data set strips all before it."""
    text = "\u2003two\u2003dogs run\u2003\n"
    assert text_only_caption("\u2003two\u2003dogs run\u2003", 10) == "\u2003two\u2003dogs run\u2003"
    assert clean_text_alone(text, 10) == "two\u2003dogs run"
    assert clean("\u2003two\u2003dogs\u2003") == "\u2003two\u2003dogs\u2003"

"""Counts of texts, boxes and equal contents."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.stubs import WordTokenizer, stream
from x2kit.data.validation.duplicates import DuplicateIds, hash_ids
from x2kit.data.validation.statistics import (
    Statistics,
    TextLimits,
    captions_of,
    image_hash,
    position,
    quantile,
    region_texts_of,
    shared_contents,
    texts_of,
)
from x2kit.plugin import Record


def test_equal_contents_are_counted_within_and_between_units(tmp_path: Path) -> None:
    contents = [
        ("dog", (0, 0)),
        ("dog", (0, 5)),
        ("dog", (2, 1)),
        ("cat", (1, 3)),
        ("cat", (2, 2)),
        ("sun", (1, 0)),
    ]
    with DuplicateIds(tmp_path) as equal:
        equal.add(hash_ids([(name, position(*place)) for name, place in contents]))
        found = shared_contents(equal)
    assert found.within == {0: 2}
    assert found.between == {(0, 2): 1, (1, 2): 1}


def test_counts_of_chunks_add_up() -> None:
    whole, first, second = Statistics(), Statistics(), Statistics()
    texts = [("en", "dog"), ("en", "cat sun tree"), ("de", "hund")]
    whole.count_texts("s", texts, TextLimits(2, 10), WordTokenizer())
    first.count_texts("s", texts[:1], TextLimits(2, 10), WordTokenizer())
    second.count_texts("s", texts[1:], TextLimits(2, 10), WordTokenizer())
    first.add(second)
    for key, counts in whole.texts.items():
        assert vars(first.texts[key]) == vars(counts)
    assert whole.texts["s", "en"].lengths == {3: 1, 5: 1}
    assert whole.texts["s", "en"].cut == 1


@pytest.mark.parametrize(
    ("limits", "cut"),
    [(TextLimits(3, 5), 0), (TextLimits(2, 5), 1), (TextLimits(3, 4), 1), (TextLimits(2, 4), 1)],
)
def test_a_text_is_cut_by_words_or_tokens(limits: TextLimits, cut: int) -> None:
    found = Statistics()
    found.count_texts("s", [("en", "cat sun tree")], limits, WordTokenizer())
    assert found.texts["s", "en"].cut == cut


def test_words_are_counted_without_a_tokenizer() -> None:
    found = Statistics()
    found.count_texts("s", [("en", "cat sun tree")], TextLimits(2, 3), None)
    assert (found.texts["s", "en"].lengths, found.texts["s", "en"].cut) == ({3: 1}, 1)


def test_texts_are_those_that_the_stream_draws() -> None:
    record: Record = {
        "caption": [{"en": "A dog.", "de": "Ein Hund"}, {"en": "dogs"}],
        "regions": [{"bbox": [0, 0, 1, 1], "caption": "Ear"}],
        "texts": {"en": "one", "fr": "un"},
    }
    english = stream("ImageText", languages=["en"])
    assert list(captions_of(record, english)) == [("en", "a dog"), ("en", "dogs")]
    assert list(region_texts_of(record, english)) == []
    assert list(region_texts_of(record, stream("RegionText"))) == [("und", "ear")]
    assert list(captions_of(record, stream("ParallelText"))) == [("en", "one"), ("fr", "un")]
    assert list(captions_of(record, None)) == [("en", "a dog"), ("de", "ein hund"), ("en", "dogs")]


def test_fields_of_tasks_are_counted_with_their_most_frequent_values() -> None:
    whole, first, second = Statistics(), Statistics(), Statistics()
    records: list[Record] = [
        {"question": "what", "answers": ["dog", "cat", "dog"]},
        {"question": "who", "answers": {"cat": 0.3, "dog": 1.0}},
        {"question": "who", "label": True},
    ]
    for counts, some in ((whole, records), (first, records[:1]), (second, records[1:])):
        for record in some:
            counts.count_fields("s", record)
    first.add(second)
    assert first.fields == whole.fields == {"s": {"question": 3, "answers": 2, "label": 1}}
    assert first.values == whole.values == {("s", "answers"): {"dog": 2}, ("s", "label"): {"True": 1}}


def test_questions_and_options_count_as_texts() -> None:
    record: Record = {
        "question": {"en": "What is it?", "de": "Was?"},
        "options": ["A dog", {"en": "!"}],
        "answers": ["dog"],
    }
    assert texts_of(record, None) == [("en", "what is it"), ("de", "was"), ("und", "a dog")]
    assert texts_of(record, stream("ImageText", languages=["de"])) == [("de", "was"), ("und", "a dog")]


def test_a_quantile_is_one_of_the_counted_values() -> None:
    assert quantile(Counter({3: 5, 9: 4, 40: 1}), 0.5) == 3
    assert quantile(Counter({3: 5, 9: 4, 40: 1}), 0.9) == 9
    assert quantile(Counter({3: 5, 9: 4, 40: 1}), 1) == 40


def test_equal_images_share_a_hash(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"image")
    assert image_hash(tmp_path / "a.png") == image_hash(b"image") == image_hash(str(tmp_path / "a.png"))
    image = Image.new("RGB", (2, 3))
    assert image_hash(image) == image_hash(image.copy()) != image_hash(Image.new("RGB", (3, 2)))
    assert image_hash(np.zeros((2, 2))) != image_hash(np.ones((2, 2)))
    assert image_hash([1]) is None

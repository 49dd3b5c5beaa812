"""The concepts can be told apart by name in every language, and by sight."""

from __future__ import annotations

import unicodedata

import pytest
from x2kit_emoji import LANGUAGES, concepts
from x2kit_emoji.concepts import Concept, choose, plain
from x2kit_emoji.drawings import drawing_files

from x2kit.plugin import SettingError


@pytest.fixture(scope="module")
def chosen() -> list[Concept]:
    return choose(200)


def test_names_are_plain_words(chosen: list[Concept]) -> None:
    for concept in chosen:
        assert tuple(concept.names) == LANGUAGES
        for name in concept.names.values():
            assert name == unicodedata.normalize("NFC", " ".join(name.split()))
            assert 0 < len(name) <= 30
            assert len(name.split()) <= 4
            assert all(c in " -'’" or unicodedata.category(c)[0] in "LMN" for c in name), name


def test_names_differ_in_every_language_even_to_a_careless_reader(chosen: list[Concept]) -> None:
    for code in LANGUAGES:
        assert len({plain(concept.names[code]) for concept in chosen}) == 200


def test_known_emoji_have_their_known_names() -> None:
    names = {concept.names["en"]: concept.names for concept in choose(400)}
    assert names["dog"]["de"] == "hund"
    assert names["dog"]["zh"] == "狗"


def test_fewer_concepts_are_among_more(chosen: list[Concept]) -> None:
    assert choose(50) == chosen[:50]


def test_both_vendors_drew_every_concept_and_differently(chosen: list[Concept]) -> None:
    google, twitter = drawing_files("google"), drawing_files("twitter")
    for concept in chosen:
        assert google[concept.point].read_bytes() != twitter[concept.point].read_bytes()


def test_drawings_that_look_alike_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    concepts._choose.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(concepts, "MIN_DIFFERENCE", 0.0)
        lax = [concept.point for concept in choose(60)]
        concepts._choose.cache_clear()
        patch.setattr(concepts, "MIN_DIFFERENCE", 0.12)
        strict = [concept.point for concept in choose(60)]
    concepts._choose.cache_clear()
    assert strict != lax
    assert strict[0] == lax[0]


def test_skin_tones_and_hair_are_no_concepts() -> None:
    assert not {concept.point for concept in choose(400)} & {
        *range(0x1F3FB, 0x1F400),
        *range(0x1F9B0, 0x1F9B4),
    }


def test_too_many_concepts_are_refused_with_the_number_there_is() -> None:
    with pytest.raises(SettingError, match=r"concepts: 5000 requested, but only 9\d\d emoji are usable"):
        choose(5000)

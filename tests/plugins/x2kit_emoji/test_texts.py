"""Parallel texts say the same in every language and nothing of the test scenes."""

from __future__ import annotations

import pickle

import pytest
from x2kit_emoji import LANGUAGES, EmojiScenes, EmojiTexts
from x2kit_emoji.dataset import split_of
from x2kit_emoji.texts import TextSource

from x2kit.plugin import Source


@pytest.fixture(scope="module")
def train() -> TextSource:
    return EmojiTexts().open()


def test_texts_are_a_source(train: TextSource) -> None:
    assert isinstance(train, Source)
    assert len(train) == 100_000
    with pytest.raises(IndexError, match="of 100000"):
        train[100_000]


def test_all_languages_say_the_same(train: TextSource) -> None:
    for index in range(100):
        texts = train[index]["texts"]
        assert tuple(texts) == LANGUAGES
        concepts = [train.concepts[number] for number in train.composition(index)]
        for code in LANGUAGES:
            assert texts[code] == ", ".join(concept.names[code] for concept in concepts)


def test_single_names_come_as_often_as_asked(train: TextSource) -> None:
    singles = sum(len(train.composition(index)) == 1 for index in range(1000))
    assert 650 <= singles <= 750
    assert all(len(EmojiTexts(single_share=0).open().composition(index)) > 1 for index in range(100))


@pytest.mark.parametrize("seed", [0, 3])
def test_no_text_has_the_composition_of_a_test_scene(seed: int) -> None:
    texts = EmojiTexts(seed=seed, concepts=30, single_share=0).open()
    scenes = EmojiScenes(split="test", seed=seed, concepts=30).open()
    assert texts.concepts == scenes.concepts
    seen = {frozenset(texts.composition(index)) for index in range(2000)}
    assert not seen & {frozenset(scenes.composition(index)) for index in range(500)}


def test_held_out_texts_are_sets_of_their_split() -> None:
    texts = EmojiTexts(split="validation").open()
    sets = [texts.composition(index) for index in range(len(texts))]
    assert len({frozenset(found) for found in sets}) == 500
    assert all(split_of([texts.concepts[number].point for number in found]) == "validation" for found in sets)


def test_texts_are_the_same_again(train: TextSource) -> None:
    again = pickle.loads(pickle.dumps(train))
    assert [again[index] for index in range(20)] == [train[index] for index in range(20)]
    assert again.fingerprint() == train.fingerprint()
    assert EmojiTexts(seed=1).open().fingerprint() != train.fingerprint()


def test_texts_of_a_seed_are_not_the_captions_of_its_scenes(train: TextSource) -> None:
    texts = EmojiTexts(single_share=0).open()
    scenes = EmojiScenes(objects=(2, 4)).open()
    assert sum(texts.composition(index) == scenes.composition(index) for index in range(100)) < 3


def test_every_name_is_among_the_texts_for_the_tokenizer(train: TextSource) -> None:
    listed = list(train.texts())
    assert {concept.names[code] for concept in train.concepts for code in LANGUAGES} <= set(listed)
    assert listed == list(EmojiScenes().open().texts())
    assert any(", " in text for text in listed)


def test_the_joined_names_for_the_tokenizer_are_of_train(train: TextSource) -> None:
    points = {concept.names["en"]: concept.point for concept in train.concepts}
    pairs = [text.split(", ") for text in train.texts() if ", " in text]
    english = [[points[name] for name in pair] for pair in pairs if set(pair) <= set(points)]
    assert len(english) > 100
    assert all(split_of(pair) == "train" for pair in english)

"""Sentences are made of names that the CLDR gives to concepts and signs."""

from __future__ import annotations

from x2kit_emoji import LANGUAGES, EmojiTexts
from x2kit_emoji.compositions import generator
from x2kit_emoji.concepts import choose, plain
from x2kit_emoji.dataset import SIGNS, split_of
from x2kit_emoji.signs import draw_sentence, sign, sign_texts


def test_signs_have_the_names_of_their_emoji() -> None:
    assert sign("left").names["en"] == "left arrow"
    assert sign("left").names["de"] == "pfeil nach links"
    assert sign("which").names["zh"] == "红色问号"
    assert all(tuple(sign(name).names) == LANGUAGES for name in SIGNS)


def test_signs_differ_in_every_language_and_are_no_concepts() -> None:
    for code in LANGUAGES:
        assert len({plain(sign(name).names[code]) for name in SIGNS}) == len(SIGNS)
    assert not {concept.point for concept in choose(400)} & set(SIGNS.values())


def test_sentences_join_names_in_one_order_in_every_language() -> None:
    one, other = choose(2)
    drawn = [draw_sentence(generator(0, "train", index), (one, other)) for index in range(200)]
    assert "koala, left arrow, racing car" in [sentence["en"] for sentence in drawn]
    assert {len(sentence["ja"].split(", ")) for sentence in drawn} == {1, 2, 3}
    assert all(len({sentence[code].count(", ") for code in LANGUAGES}) == 1 for sentence in drawn)


def test_parallel_texts_have_as_many_sentences_as_asked_and_of_train_alone() -> None:
    source = EmojiTexts(sign_share=0.2).open()
    points = {concept.names["en"]: concept.point for concept in source.concepts}
    signs = {sign(name).names["en"] for name in SIGNS}
    texts = [source[index]["texts"]["en"].split(", ") for index in range(1000)]
    sentences = [text for text in texts if set(text) & signs]
    assert 160 <= len(sentences) <= 240
    assert all(split_of(points[word] for word in text if word not in signs) == "train" for text in texts)


def test_without_a_share_texts_are_as_they_were() -> None:
    plain_texts, some = EmojiTexts().open(), EmojiTexts(sign_share=0.3).open()
    texts = [(plain_texts[index]["texts"], some[index]["texts"]) for index in range(200)]
    assert 120 <= sum(one == other for one, other in texts) <= 160


def test_the_tokenizer_sees_every_sign_in_every_language() -> None:
    listed = set(sign_texts(choose(20)))
    assert {sign(name).names[code] for name in SIGNS for code in LANGUAGES} <= listed
    assert listed <= set(EmojiTexts(concepts=20).open().texts())

"""Words of captions; the expected ones were printed by Stanford's PTBTokenizer 3.4.1 in pycocoevalcap 1.2."""

from __future__ import annotations

import pytest

from x2kit.tasks.captioning.words import metric_words, reward_words

STANFORD = {
    "A man riding a wave on top of a surfboard.": "a man riding a wave on top of a surfboard",
    "it doesn't want to; it can't, won't and isn't.": "it does n't want to it ca n't wo n't and is n't",
    "a man's hat and the dogs' ball": "a man 's hat and the dogs ball",
    "I'm sure they've got it, we'll see, you're right": "i 'm sure they 've got it we 'll see you 're right",
    "It's a cat... or a dog -- who knows?": "it 's a cat or a dog who knows",
    'a "stop" sign near 5th Ave. and Main St.': "a stop sign near 5th ave. and main st.",
    "A clock that says 3:30 p.m. in the U.S.": "a clock that says 3:30 p.m. in the u.s.",
    "A plane with the number 747-400 on it!": "a plane with the number 747-400 on it",
    "There is a $5 bill and 50% off, #1 sale": "there is a $ 5 bill and 50 % off # 1 sale",
    "a 1950's car, the 80's look": "a 1950 's car the 80 's look",
    "Two double-decker buses, one red & one blue": "two double-decker buses one red & one blue",
    "cannot gonna lemme": "can not gon na lem me",
    "a teddy bear - brown - on a bed": "a teddy bear brown on a bed",
    "A giraffe looks at the camera?!": "a giraffe looks at the camera ?!",
    "7:00pm, 5 o'clock": "7:00 pm 5 o'clock",
    "two people,a dog,and a cat": "two people a dog and a cat",
    "rock'n'roll": "rock 'n' roll",
    "a café, a woman’s bag": "a café a woman 's bag",
    "...": "",
}


@pytest.mark.parametrize(("caption", "words"), STANFORD.items())
def test_words_are_those_of_the_coco_evaluation(caption: str, words: str) -> None:
    assert metric_words(caption) == words.split()


def test_a_reward_text_loses_one_final_point_and_gains_an_end() -> None:
    assert reward_words(" a dog on the grass. ") == ["a", "dog", "on", "the", "grass", "<eos>"]
    assert reward_words("at the beach .") == ["at", "the", "beach", "<eos>"]
    assert reward_words("") == ["<eos>"]


def test_characters_of_languages_without_spaces_are_words() -> None:
    assert metric_words("犬とねこ, a dog") == ["犬", "と", "ね", "こ", "a", "dog"]

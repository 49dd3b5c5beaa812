"""Answers are true of their scenes, and cannot be told from the question."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from x2kit_emoji import EmojiQuestions
from x2kit_emoji.concepts import choose, plain
from x2kit_emoji.layout import Box
from x2kit_emoji.tasks.questions import CORNERS, COUNTS
from x2kit_emoji.tasks.studio import centre

ANSWERS = {"how many": COUNTS, "is there": ("yes", "no"), "where": CORNERS}


def questions(records: Iterable[Any]) -> list[tuple[str, str]]:
    return [(record["question"]["en"], record["answers"][0]) for record in records]


def corner(square: Box) -> str:
    down, right = (centre(square, horizontal) > 32 for horizontal in (False, True))
    return CORNERS[2 * down + right]


@pytest.mark.parametrize("kind", ["how many", "is there", "where"])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_predictor_that_sees_no_image_is_right_by_chance_exactly(kind: str, split: str) -> None:
    """Even one that knows every question of the split and its most frequent answer."""
    source = EmojiQuestions(split=split, kinds=(kind,)).open()
    found = defaultdict(Counter)
    for question, answer in questions(map(source.__getitem__, range(len(source)))):
        found[question][answer] += 1
    for counts in found.values():
        assert set(counts) == set(ANSWERS[kind])
        assert len(set(counts.values())) == 1


def test_names_cannot_be_told_from_the_question_either() -> None:
    train, test = (
        questions(map(source.__getitem__, range(2000 if source.config.split == "train" else 480)))
        for source in (EmojiQuestions(split=split, kinds=("which",)).open() for split in ("train", "test"))
    )
    best = defaultdict(Counter)
    for question, answer in train:
        best[question][answer] += 1
    right = sum(best[question].most_common(1)[0][0] == answer for question, answer in test if best[question])
    assert right <= 10  # chance: 2.4 of 480
    assert max(Counter(answer for _, answer in test).values()) <= 10


def test_four_consecutive_records_ask_the_same_and_the_kinds_take_turns() -> None:
    source = EmojiQuestions(split="test").open()
    found = questions(map(source.__getitem__, range(32)))
    blocks = [found[start : start + 4] for start in range(0, 32, 4)]
    assert all(len({question for question, _ in block}) == 1 for block in blocks)
    signs = [block[0][0].split(", ")[0] for block in blocks]
    assert signs == ["red question mark", "abacus", "check mark", "compass"] * 2


@pytest.mark.parametrize("split", ["train", "test"])
def test_answers_are_true(split: str, show: Callable[..., Any]) -> None:
    for record, ((*emoji,),) in show(EmojiQuestions(split=split).open(), range(400)):
        words = record["question"]["en"].split(", ")
        (answer,) = record["answers"]
        named = [square for name, square in emoji if name == words[-1]]
        match words[0]:
            case "abacus":
                assert answer == COUNTS[len(named)]
            case "check mark":
                assert answer == ("yes" if named else "no")
            case "compass":
                assert [corner(square) for square in named] == [answer]
            case "red question mark":
                horizontal = words[1] in ("left arrow", "right arrow")
                sign = -1 if words[1] in ("left arrow", "up arrow") else 1
                there = [
                    plain(name)
                    for name, square in emoji
                    if sign * (centre(square, horizontal) - centre(named[0], horizontal)) >= 8
                ]
                assert there == [answer]


def test_answers_are_cleaned_as_texts_are_so_that_the_vocabulary_has_them() -> None:
    source = EmojiQuestions().open()
    assert {source.answer(number) for number in range(200)} == {
        plain(each.names["en"]) for each in choose(200)
    }
    assert "e mail" in {source.answer(number) for number in range(200)}


def test_one_sees_the_count_of_other_emoji_vary(show: Callable[..., Any]) -> None:
    shown = show(EmojiQuestions(kinds=("how many",)).open(), range(400))
    totals = defaultdict(set)
    for record, images in shown:
        totals[record["answers"][0]].add(len(images[0]))
    assert totals == {"none": {2, 3, 4}, "one": {2, 3, 4}, "two": {3, 4}, "three": {4}}

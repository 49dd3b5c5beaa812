"""Clips show what their answers say, and no frame alone does."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from x2kit_emoji import EmojiClips
from x2kit_emoji.concepts import plain


@pytest.mark.parametrize("split", ["train", "test"])
def test_answers_are_true(split: str, show: Callable[..., Any]) -> None:
    for record, frames in show(EmojiClips(split=split).open(), range(240)):
        words = record["question"]["en"].split(", ")
        (answer,) = record["answers"]
        assert len(record["video"]) == len(frames) == 3
        seen = defaultdict(list)
        for frame in frames:
            for name, square in frame:
                seen[name].append(square)
        axes = {
            name: ("sideways" if squares[0].y == squares[-1].y else "up and down")
            for name, squares in seen.items()
            if len(squares) > 1
        }
        match words[0]:
            case "compass":
                assert answer == axes[words[1]]
            case "check mark":
                assert len(seen.get(words[1], [])) == (answer == "yes")
            case "red question mark":
                axis = {"left-right arrow": "sideways", "up-down arrow": "up and down"}[words[1]]
                assert [plain(name) for name, moves in axes.items() if moves == axis] == [answer]


def test_emoji_move_both_ways_by_a_third_of_the_image_and_never_meet(show: Callable[..., Any]) -> None:
    ways = set()
    for _, frames in show(EmojiClips(kinds=("where",)).open(), range(100)):
        (_, first), _ = frames[0]
        (_, last), _ = frames[-1]
        ways.add((last.x - first.x, last.y - first.y))
        for (_, one), (_, other) in frames:
            apart = max(abs(one.x - other.x), abs(one.y - other.y))
            assert apart >= one.width
            for square in (one, other):
                assert 0 <= min(square[:2]) <= max(square[:2]) <= 64 - square.width
    assert ways == {(21, 0), (-21, 0), (0, 21), (0, -21)}


@pytest.mark.parametrize("kind", ["is there", "where"])
def test_a_predictor_that_sees_no_clip_is_right_by_chance_exactly(kind: str) -> None:
    source = EmojiClips(split="test", kinds=(kind,)).open()
    found = defaultdict(Counter)
    for index in range(len(source)):
        record = source[index]
        found[record["question"]["en"]][record["answers"][0]] += 1
    assert all(len(counts) == 2 and len(set(counts.values())) == 1 for counts in found.values())


def test_a_clip_has_as_many_frames_as_asked() -> None:
    assert len(EmojiClips(frames=5).open()[0]["video"]) == 5

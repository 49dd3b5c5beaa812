"""Expressions and captions are true of their scenes, and expressions need their relation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from x2kit_emoji import EmojiCaptions, EmojiRelations
from x2kit_emoji.layout import Box
from x2kit_emoji.tasks.studio import centre

CLEAR = 8  # an eighth of 64 pixels


def lies(one: Box, sign: str, other: Box) -> bool:
    """Whether a square is clearly on the side of another one that the name of an arrow says."""
    horizontal = sign in ("left arrow", "right arrow")
    gap = centre(other, horizontal) - centre(one, horizontal)
    return (gap if sign in ("left arrow", "up arrow") else -gap) >= CLEAR


@pytest.mark.parametrize("split", ["train", "test"])
def test_of_two_equal_emoji_one_is_on_the_side_that_the_text_says(
    split: str, show: Callable[..., Any]
) -> None:
    signs = set()
    for record, ((*emoji,),) in show(EmojiRelations(split=split).open(), range(200)):
        assert len(record["regions"]) == 2
        for region in record["regions"]:
            subject, sign, landmark = region["caption"]["en"].split(", ")
            (place,) = [square for name, square in emoji if name == landmark]
            named = [square for name, square in emoji if name == subject]
            (meant,) = [square for square in named if lies(square, sign, place)]
            assert len(named) == 2
            x, y, width, height = region["bbox"]
            assert meant.x <= x < x + width <= meant.x + meant.width
            assert meant.y <= y < y + height <= meant.y + meant.height
            signs.add(sign)
    assert signs == {"left arrow", "right arrow", "up arrow", "down arrow"}


def test_without_its_relation_a_text_fits_two_regions_equally() -> None:
    for record in map(EmojiRelations(split="test").open().__getitem__, range(100)):
        one, other = (region["caption"]["en"].split(", ") for region in record["regions"])
        assert (one[0], one[2]) == (other[0], other[2])
        assert one[1] != other[1]


def test_half_of_the_scenes_have_another_emoji(show: Callable[..., Any]) -> None:
    counts = [len(images[0]) for _, images in show(EmojiRelations().open(), range(200))]
    assert set(counts) == {3, 4}
    assert 70 <= counts.count(4) <= 130


def test_captions_name_all_emoji_from_left_to_right(show: Callable[..., Any]) -> None:
    for record, ((*emoji,),) in show(EmojiCaptions(split="test").open(), range(100)):
        ordered = sorted(emoji, key=lambda each: centre(each[1], horizontal=True))
        assert record["caption"]["en"] == ", left arrow, ".join(name for name, _ in ordered)
        assert [region["caption"]["en"] for region in record["regions"]] == [name for name, _ in ordered]
        assert len(emoji) in (2, 3)

"""The sources for tasks share splits, seeds and layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError
from x2kit_emoji import (
    EmojiCaptions,
    EmojiClips,
    EmojiEntailment,
    EmojiPairs,
    EmojiQuestions,
    EmojiRelations,
)
from x2kit_emoji.dataset import split_of
from x2kit_emoji.tasks.config import TaskSourceConfig

from x2kit.plugin import DataError
from x2kit.testing import check_source

SOURCES = [EmojiRelations, EmojiQuestions, EmojiPairs, EmojiCaptions, EmojiEntailment, EmojiClips]
every_source = pytest.mark.parametrize("component", SOURCES)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@every_source
def test_they_are_sources_like_any_other(component: type[TaskSourceConfig], split: str) -> None:
    check_source(component(concepts=100).for_split(split))


@every_source
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_every_image_has_a_composition_of_its_split(
    component: type[TaskSourceConfig], split: str, show: Callable[..., Any]
) -> None:
    source = component(concepts=100).for_split(split).open()
    points = {concept.names["en"]: concept.point for concept in source.concepts}
    for record, images in show(source, range(48)):
        if record.get("video") is not None:  # a frame may show one emoji of two
            images = [[emoji for frame in images for emoji in frame]]
        for image in images:
            assert split_of({points[name] for name, _ in image}) == split


@every_source
def test_held_out_splits_have_whole_blocks(component: type[TaskSourceConfig]) -> None:
    for split in ("validation", "test"):
        source = component(concepts=100).for_split(split).open()
        assert len(source) == 480
        assert len(source) % source.block == 0


@every_source
def test_another_seed_makes_other_records(component: type[TaskSourceConfig]) -> None:
    one, other = (component(concepts=100, seed=seed).open() for seed in (0, 1))
    for index in (0, 119):
        texts = [
            [record.get(field) for field in ("caption", "question", "regions")]
            for record in (one[index], other[index])
        ]
        assert texts[0] != texts[1]


@every_source
def test_images_are_rgb_of_the_size_asked_for(component: type[TaskSourceConfig]) -> None:
    record = component(concepts=100, image_size=48).open()[0]
    images = record.get("images") or record.get("video") or [record["image"]]
    assert {(image.mode, image.size) for image in images} == {("RGB", (48, 48))}


@every_source
def test_hidden_emoji_change_the_images_alone(component: type[TaskSourceConfig]) -> None:
    shown, hidden = (
        dict(component(backgrounds=("plain",), hide_emoji=hide).open()[2]) for hide in (False, True)
    )
    images = [
        record.pop("images", None) or record.pop("video", None) or [record.pop("image")]
        for record in (shown, hidden)
    ]
    assert all(one.getcolors() != other.getcolors() for one, other in zip(*images, strict=True))
    assert all(len(image.getcolors()) == 1 for image in images[1])
    assert shown == hidden


def test_texts_are_in_14_languages() -> None:
    record = EmojiRelations(concepts=200).open()[0]
    (left, _) = (region["caption"] for region in record["regions"])
    assert len(left) == 14
    assert left["en"].split(", ")[1].endswith(" arrow")
    assert "pfeil nach" in left["de"]


def test_positions_outside_are_refused() -> None:
    source = EmojiPairs(concepts=100, split="test").open()
    for index in (-1, 480):
        with pytest.raises(IndexError, match="of 480"):
            source[index]


def test_a_layout_that_cannot_be_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"found no layout of [34] emoji; use smaller sides than \(0.5, 0.9\)"
    ):
        EmojiRelations(concepts=100, sides=(0.5, 0.9), max_overlap=0.0).open()[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sides": (0.6, 0.7)}, "sides: four emoji fit if the minimum is at most 0.5, found 0.6"),
        ({"concepts": 99}, "concepts: 100 or more, so that .* found 99"),
    ],
)
def test_settings_that_cannot_be_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EmojiQuestions.model_validate(fields)

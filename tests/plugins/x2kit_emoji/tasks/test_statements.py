"""Labels of pairs and of hypotheses are true, and cannot be told from the text."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from x2kit_emoji import EmojiEntailment, EmojiPairs
from x2kit_emoji.tasks.studio import centre

IMAGES = {"left arrow": (0,), "right arrow": (1,), "left-right arrow": (0, 1)}


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_sentence_says_which_images_have_an_emoji(split: str, show: Callable[..., Any]) -> None:
    signs = set()
    for record, images in show(EmojiPairs(split=split).open(), range(200)):
        sign, subject = record["caption"]["en"].split(", ")
        has = [subject in [name for name, _ in image] for image in images]
        assert record["label"] == all(has[place] for place in IMAGES[sign])
        assert len(record["images"]) == len(images) == 2
        signs.add(sign)
    assert signs == set(IMAGES)


def test_no_image_of_a_pair_gives_the_answer_for_both(show: Callable[..., Any]) -> None:
    """Of the false pairs of a sentence about both images, each image is in turn the wrong one."""
    for record, images in show(EmojiPairs(split="test").open(), range(200)):
        sign, subject = record["caption"]["en"].split(", ")
        if sign == "left-right arrow" and not record["label"]:
            assert sum(subject in [name for name, _ in image] for image in images) == 1


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_hypothesis_is_what_its_label_says(split: str, show: Callable[..., Any]) -> None:
    for record, ((*emoji,),) in show(EmojiEntailment(split=split).open(), range(150)):
        subject, sign, landmark = record["caption"]["en"].split(", ")
        places = dict(emoji)
        assert len(places) == 3
        if record["label"] == "neutral":
            assert len({subject, landmark} & set(places)) == 1
            continue
        horizontal = sign in ("left arrow", "right arrow")
        gap = centre(places[landmark], horizontal) - centre(places[subject], horizontal)
        before = (gap if sign in ("left arrow", "up arrow") else -gap) >= 8
        after = (gap if sign in ("left arrow", "up arrow") else -gap) <= -8
        assert record["label"] == ("entailment" if before else "contradiction" if after else None)


@pytest.mark.parametrize("component", [EmojiPairs, EmojiEntailment])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_predictor_that_sees_no_image_is_right_by_chance_exactly(
    component: type[EmojiPairs | EmojiEntailment], split: str
) -> None:
    source = component(split=split).open()
    found = defaultdict(Counter)
    for index in range(len(source)):
        record = source[index]
        found[record["caption"]["en"]][record["label"]] += 1
    classes = {label for counts in found.values() for label in counts}
    assert len(classes) == (2 if component is EmojiPairs else 3)
    assert all(len(counts) == len(classes) and len(set(counts.values())) == 1 for counts in found.values())

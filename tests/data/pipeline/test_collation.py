"""Padding, masks and groups of positives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.data.stubs import WordTokenizer, stream
from x2kit.data.pipeline.collation import Collator, groups, groups_of_pairs, pad_texts, stack_masked
from x2kit.data.pipeline.samples import PairSample, RegionTexts
from x2kit.data.pipeline.streams import DrawnPairs, DrawnParallel, DrawnTexts
from x2kit.data.transforms.masking import MaskedIds


def seeded() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("longest", "limit", "width"),
    [(3, 40, 8), (8, 40, 8), (9, 40, 16), (29, 30, 30), (30, 30, 30), (2, 4, 4)],
)
def test_texts_are_padded_to_a_multiple_of_eight_but_never_above_the_limit(
    longest: int, limit: int, width: int
) -> None:
    ids, mask, _, lengths = pad_texts([[0, 2], list(range(longest))], 1, limit)
    assert ids.shape == mask.shape == (2, width)
    assert ids[0].tolist() == [0, 2] + [1] * (width - 2)
    assert tuple(mask.sum(1).tolist()) == lengths == (2, longest)
    assert (ids.dtype, mask.dtype) == (torch.int64, torch.bool)


def test_masked_texts_are_padded_alike_and_unused_positions_are_ignored() -> None:
    masked = stack_masked([MaskedIds([0, 9, 2], [1], [7]), MaskedIds([0, 9, 9, 2], [1, 2], [5, 6])], 1, 40)
    assert masked.ids.tolist() == [[0, 9, 2, 1, 1, 1, 1, 1], [0, 9, 9, 2, 1, 1, 1, 1]]
    assert masked.positions.tolist() == [[1, 0], [1, 2]]
    assert masked.labels.tolist() == [[7, -100], [5, 6]]


def test_masked_texts_without_any_mask_have_one_ignored_position() -> None:
    masked = stack_masked([MaskedIds([0], [], [])], 1, 40)
    assert masked.positions.tolist() == [[0]]
    assert masked.labels.tolist() == [[-100]]


def test_equal_keys_share_a_group() -> None:
    assert groups(["a", "b", "a", "c"]).tolist() == [0, 1, 0, 2]


def test_positives_share_a_row_a_text_or_an_image() -> None:
    drawn = DrawnPairs([0, 0, 1], ["dog", "cat", "dog"], ["r1", "r1", "r2"])
    for positives, expected in (("row", [0, 1, 2]), ("text", [0, 1, 0]), ("image", [0, 0, 1])):
        collator = Collator(stream("ImageText", positives=positives), WordTokenizer())
        assert collator.rows(drawn, None).group.tolist() == expected


def test_rows_of_one_record_share_a_group_even_if_it_is_drawn_repeatedly() -> None:
    drawn = DrawnPairs([0, 1], ["dog", "cat"], ["r1", "r1"])
    collator = Collator(stream("ImageText", positives="image"), WordTokenizer())
    assert collator.rows(drawn, None).group.tolist() == [0, 0]


def test_pairs_that_share_a_text_in_one_language_share_a_group() -> None:
    pairs = [
        PairSample("dog", "hund", ("en", "de")),
        PairSample("chien", "dog", ("fr", "en")),
        PairSample("hund", "chien", ("de", "fr")),
        PairSample("gift", "cadeau", ("en", "fr")),
        PairSample("gift", "poison", ("de", "fr")),  # equal letters in another language differ in meaning
    ]
    assert groups_of_pairs(pairs).tolist() == [0, 0, 0, 1, 2]


def test_regions_have_boxes_and_whole_images_are_marked() -> None:
    boxes: list[tuple[float, ...]] = [(0.5, 0.5, 1, 1), (0.25, 0.5, 0.5, 0.5)]
    drawn = DrawnPairs([2, 2], ["all", "dog"], ["r", "r"], RegionTexts(["all", "dog"], boxes, [True, False]))
    rows = Collator(stream("RegionText"), WordTokenizer()).rows(drawn, seeded())
    assert rows.regions is not None
    assert rows.masked is not None
    torch.testing.assert_close(rows.regions.bbox, torch.tensor(boxes, dtype=torch.float64))
    assert rows.regions.whole.tolist() == [True, False]
    assert rows.images.tolist() == [2, 2]


def test_masked_texts_differ_from_the_texts_at_the_labels_only() -> None:
    rows = Collator(stream("PlainText"), WordTokenizer()).rows(
        DrawnTexts(["a dog sleeps here", "cat"], ["r", "s"]), seeded()
    )
    restored = rows.masked.ids.clone()
    for row, (positions, labels) in enumerate(zip(rows.masked.positions, rows.masked.labels, strict=True)):
        kept = labels != -100
        restored[row, positions[kept]] = labels[kept]
    assert torch.equal(restored, rows.texts.ids)
    assert not torch.equal(rows.masked.ids, rows.texts.ids)


def test_only_the_first_text_of_a_pair_is_masked_and_lengths_may_differ() -> None:
    long = " ".join(["dog"] * 20)
    drawn = DrawnParallel([PairSample("dog", long, ("en", "de"))], ["r"])
    rows = Collator(stream("ParallelText"), WordTokenizer()).rows(drawn, seeded())
    assert rows.first.ids.shape == (1, 8)
    assert rows.second.lengths == tuple(rows.second.mask.sum(1).tolist()) == (22,)
    assert rows.second.ids.shape == (1, 24)
    assert rows.masked_first is not None
    assert rows.masked_first.ids.shape == (1, 8)


def test_texts_are_truncated_to_max_tokens() -> None:
    collator = Collator(stream("PlainText", max_tokens=6), WordTokenizer())
    rows = collator.rows(DrawnTexts(["dog cat sun boat star fish"], ["r"]), seeded())
    assert rows.texts.ids.shape == (1, 6)
    assert rows.texts.ids[0, -1] == 2  # the closing token is kept

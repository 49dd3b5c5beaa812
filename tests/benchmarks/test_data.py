"""Equal pixels and texts of both image pipelines; no test depends on speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from x2kit_transformers import Bert

from tests.benchmarks import plain_data
from tests.benchmarks.data import (
    IMAGES,
    SMALL,
    SPEC,
    caption,
    difference,
    lines,
    plain_images,
    require_equal_texts,
    stream,
    whole_batches,
)
from tests.benchmarks.data import (
    images as all_images,
)
from tests.benchmarks.photographs import photograph
from x2kit.data.transforms.randaugment import COLOUR_OPERATIONS, SHAPE_OPERATIONS

ROTATION = len(plain_data.OPERATIONS) - 1
SIZES = ((320, 240), (300, 400), (224, 224))


def test_crops_flips_and_sizes_are_those_of_pil_to_one_grey_level() -> None:
    assert difference(lines(SMALL, 6), stream(augment_operations=0)) < 1.5


@pytest.mark.parametrize("number", range(len(plain_data.OPERATIONS)))
@pytest.mark.parametrize("sign", [-1, 1])
def test_augmentations_are_those_of_pil_to_one_grey_level_and_rotations_to_two(
    number: int, sign: int
) -> None:
    image = photograph(0, 224, 224)
    for level in (0, 3, 7, 10):
        plain = plain_data.OPERATIONS[number](image, level / 10, sign)
        ours = (COLOUR_OPERATIONS + SHAPE_OPERATIONS)[number](image, level / 10, sign)
        assert grey_levels(plain, ours) <= (2 if number == ROTATION else 1)


def test_whole_batches_look_the_same_with_augmentation() -> None:
    records = lines(SIZES, 9)
    apart = (plain_images(records, stream()) - all_images(records, stream())).abs() * 255
    assert apart.mean() < 0.1  # a level here and there, which equalising may spread


def test_images_read_at_reduced_size_look_the_same() -> None:
    records = lines([(640, 640)], 4)
    whole, reduced = (
        all_images(records, stream(augment_operations=0, crop_scale=(0.6, 1.0), reduced_decoding=wanted))
        * 255
        for wanted in (False, True)
    )
    apart = (whole - reduced).abs()
    assert 0 < apart.mean() < 4  # the sensor's noise alone is 3
    assert (apart > 32).float().mean() < 0.02  # at edges: they may move by half a reduced pixel


def test_whole_batches_have_the_same_texts_and_hide_as_many_tokens(tmp_path: Path) -> None:
    records, config = lines(SIZES, IMAGES), stream(tmp_path / "photographs.jsonl")
    tokenizer = Bert().build_tokenizer(map(caption, range(2000)))
    plain = plain_data.plain_batch(records, config, SPEC.size, tokenizer)
    ours = whole_batches(records, config, tokenizer).batch(0)
    require_equal_texts(plain, ours, tokenizer)
    assert ours.images is not None
    assert plain.images.shape == ours.images.shape
    other = plain._replace(ids=plain.ids.flip(1).roll(1, 1))
    with pytest.raises(SystemExit, match="other texts"):
        require_equal_texts(other, ours, tokenizer)


def grey_levels(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max())

"""Random convolution: colours and textures change, shapes stay where they are."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from x2kit.data.config import TransformConfig
from x2kit.data.transforms.random_convolution import convolve_randomly
from x2kit.data.transforms.view import View, render_augmented
from x2kit.plugin import ImageSpec

SIDES = (1, 3, 5, 7)


def square(channels: int = 3) -> np.ndarray:
    """A bright square at 8 to 24 on black, 32 pixels wide."""
    image = np.zeros((32, 32, channels), np.uint8)
    image[8:24, 8:24] = 200
    return image


def test_equal_generators_give_equal_images_and_others_other_ones() -> None:
    first, second = (convolve_randomly(square(), np.random.default_rng(3), SIDES) for _ in range(2))
    assert np.array_equal(first, second)
    assert (
        len({convolve_randomly(square(), np.random.default_rng(seed), SIDES).tobytes() for seed in range(20)})
        > 15
    )


@pytest.mark.parametrize("channels", [1, 3, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_shape_and_type_stay(channels: int, dtype: type) -> None:
    image = square(channels) if dtype is np.uint8 else square(channels).astype(np.float32) / 255
    found = convolve_randomly(image, np.random.default_rng(0), SIDES)
    assert found.shape == image.shape
    assert found.dtype == dtype
    assert found.min() >= 0
    assert found.max() <= (255 if dtype is np.uint8 else 1)


def test_outlines_stay_where_they_are() -> None:
    for seed in range(30):
        found = convolve_randomly(square(), np.random.default_rng(seed), SIDES).astype(int)
        outside, inside = found[:5, :5], found[12:20, 12:20]
        assert np.ptp(outside, axis=(0, 1)).max() == 0  # uniform beyond the reach of the largest kernel
        assert np.ptp(inside, axis=(0, 1)).max() == 0


def test_colours_change() -> None:
    colours = [convolve_randomly(square(), np.random.default_rng(seed), SIDES)[16, 16] for seed in range(200)]
    assert np.std(colours, axis=0).min() > 20


def test_the_probability_is_that_of_the_setting() -> None:
    config = TransformConfig(crop_scale=None, flip=0.0, augment_operations=0, random_convolution=0.25)
    image, spec = Image.fromarray(square()), ImageSpec(size=32)
    changed = sum(
        not np.array_equal(
            render_augmented(image, View((32, 32)), spec, config, np.random.default_rng(seed), True), square()
        )
        for seed in range(400)
    )
    assert 70 < changed < 130  # a quarter of 400


def test_a_kernel_of_one_pixel_changes_colours_alone() -> None:
    for seed in range(20):
        found = convolve_randomly(square(), np.random.default_rng(seed), (1,))
        assert len(np.unique(found.reshape(-1, 3), axis=0)) == 2  # the square and what is around it


def test_sides_are_odd() -> None:
    with pytest.raises(ValueError, match="odd, found 4"):
        TransformConfig(convolution_sides=(3, 4))

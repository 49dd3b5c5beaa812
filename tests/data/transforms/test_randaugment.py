"""RandAugment: magnitudes of the official code, drawn from the given generator only."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from x2kit.data.transforms.randaugment import COLOUR_OPERATIONS, SHAPE_OPERATIONS, augment


def noise(mode: str = "RGB") -> Image.Image:
    shape = (64, 64, 3) if mode == "RGB" else (64, 64)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def uniform(value: int) -> Image.Image:
    return Image.new("RGB", (64, 64), (value, value, value))


def test_equal_generators_give_equal_images() -> None:
    first, second = (augment(noise(), np.random.default_rng(5), 4, 7, False).tobytes() for _ in range(2))
    assert first == second
    others = {augment(noise(), np.random.default_rng(seed), 4, 7, False).tobytes() for seed in range(20)}
    assert len(others) > 10


def test_zero_operations_use_neither_image_nor_generator() -> None:
    image, rng = noise(), np.random.default_rng(5)
    assert augment(image, rng, 0, 7, False) is image
    assert rng.random() == np.random.default_rng(5).random()


def test_an_operation_is_applied_with_probability_one_half() -> None:
    image = noise()
    changed = sum(
        augment(image, np.random.default_rng(seed), 1, 7, False) is not image for seed in range(400)
    )
    assert 140 < changed < 220  # half of nine in ten (identity changes nothing): 180


def test_brightness_at_level_7_is_that_of_the_official_code() -> None:
    _, _, _, brightness, _ = COLOUR_OPERATIONS
    assert brightness(uniform(100), 0.7, 1).getpixel((0, 0)) == (136, 136, 136)


@pytest.mark.parametrize(("operation", "shift"), [(2, (7, 0)), (3, (0, 7))])
@pytest.mark.parametrize("sign", [-1, 1])
def test_translation_at_level_7_is_7_pixels_filled_with_grey(
    operation: int, shift: tuple[int, int], sign: int
) -> None:
    before = np.asarray(noise())
    after = np.asarray(SHAPE_OPERATIONS[operation](noise(), 0.7, sign))
    expected = np.full_like(before, 128)
    x, y = sign * shift[0], sign * shift[1]
    rows, columns = np.arange(max(y, 0), 64 + min(y, 0)), np.arange(max(x, 0), 64 + min(x, 0))
    expected[np.ix_(rows, columns)] = before[np.ix_(rows - y, columns - x)]
    assert np.array_equal(after, expected)


def test_shear_at_level_7_moves_the_last_row_by_a_fifth_of_the_height() -> None:
    image = Image.new("RGB", (200, 100), (0, 0, 0))
    image.paste((255, 255, 255), (100, 0, 110, 100))
    rows = np.asarray(SHAPE_OPERATIONS[0](image, 0.7, 1))[:, :, 0]
    first, last = ((row > 200).nonzero()[0].mean() for row in (rows[0], rows[99]))
    assert abs(abs(last - first) - 0.21 * 99) < 1.5  # pixels, after rounding


def test_rotation_is_about_the_centre() -> None:
    turned = np.asarray(SHAPE_OPERATIONS[4](uniform(255), 0.7, 1))
    assert turned[32, 32].tolist() == [255, 255, 255]
    assert turned[0, 0].tolist() == [128, 128, 128]


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_operation_keeps_size_and_mode(mode: str) -> None:
    for operation in COLOUR_OPERATIONS + SHAPE_OPERATIONS:
        changed = operation(noise(mode), 0.7, -1)
        assert (changed.size, changed.mode) == ((64, 64), mode)


def test_colour_operations_move_no_pixel() -> None:
    image = uniform(30)
    image.paste((200, 200, 200), (10, 20, 30, 25))
    marked = np.asarray(image)[:, :, 0] > 100
    for seed in range(60):
        changed = np.asarray(augment(image, np.random.default_rng(seed), 4, 7, True))[:, :, 0].astype(int)
        middle = (changed[marked].mean() + changed[~marked].mean()) / 2
        assert np.array_equal(changed > middle, marked)


def test_shape_operations_add_no_darker_value() -> None:
    image = uniform(30)
    image.paste((200, 200, 200), (10, 20, 30, 25))
    for seed in range(60):
        changed = np.asarray(augment(image, np.random.default_rng(seed), 4, 7, False, keep_colour=True))
        assert changed[32, 32].tolist() in ([30, 30, 30], [200, 200, 200]) or changed.std() > 0
        assert changed.min() >= 30


def test_nothing_changes_if_shape_and_colour_are_kept() -> None:
    image = noise()
    assert augment(image, np.random.default_rng(1), 9, 7, True, keep_colour=True) is image


@pytest.mark.parametrize("by", [-9, 9])
def test_an_array_shifted_by_more_than_its_size_is_grey(by: int) -> None:
    for operation in SHAPE_OPERATIONS[2:4]:
        moved = operation(np.ones((8, 8, 5), np.float32), 0.9, by // 9)
        assert (moved == 0.5).all()


@pytest.mark.parametrize(("operation", "levels"), [(0, 1), (1, 1), (4, 2)])
def test_shears_and_rotations_are_those_of_pil_within_these_grey_levels(operation: int, levels: int) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (48, 80, 3), dtype=np.uint8))
    for sign in (-1, 1):
        moved = SHAPE_OPERATIONS[operation](image, 0.7, sign)
        sheared = [math.degrees(math.atan(sign * 0.21 * (operation == axis))) for axis in (0, 1)]
        expected = F.affine(
            image,
            angle=sign * 21.0 * (operation == 4),
            translate=[0, 0],
            scale=1.0,
            shear=sheared,
            interpolation=InterpolationMode.BILINEAR,
            fill=[128] * 3,
            center=None if operation == 4 else [0, 0],
        )
        apart = np.abs(np.asarray(moved).astype(int) - np.asarray(expected))
        assert apart.max() <= levels
        assert (apart > 1).mean() < 0.001

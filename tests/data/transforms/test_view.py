"""Crop, flip, resize and augmentation of images and numeric arrays, from the given generator only."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from x2kit.data.config import TransformConfig
from x2kit.data.transforms.view import (
    View,
    draw_view,
    random_crop,
    read_image,
    reduction,
    render,
    render_augmented,
    stack_pixels,
    unit_floats,
)
from x2kit.plugin import ImageSpec


def noise(width: int = 20, height: int = 10, mode: str = "RGB") -> Image.Image:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return buffer.getvalue()


def test_read_image_returns_a_square_in_the_unit_range() -> None:
    tensor = read_image(noise(), ImageSpec(size=16))
    assert tensor.shape == (3, 16, 16)
    assert tensor.dtype == torch.float32
    assert 0 <= tensor.min() < 0.2
    assert 0.8 < tensor.max() <= 1
    assert read_image(noise(mode="L"), ImageSpec(size=16, channels=1)).shape == (1, 16, 16)


def test_an_image_of_the_encoders_size_is_not_resized() -> None:
    image = noise(16, 16)
    expected = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    assert torch.equal(read_image(image, ImageSpec(size=16)), expected)


def test_a_view_is_cropped_then_flipped() -> None:
    image = noise(20, 10)
    pixels = render(image, View((20, 10), (4, 1, 12, 9), flip=True), ImageSpec(size=8))
    assert np.array_equal(pixels, np.asarray(image)[1:9, 4:12][:, ::-1])


@pytest.mark.parametrize("name", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_images_are_resized_as_by_pil_within_one_grey_level(name: str, mode: str) -> None:
    image = noise(20, 10, mode)
    channels = len(image.getbands())
    by_pil = np.asarray(image.resize((16, 16), getattr(Image.Resampling, name.upper())), np.int16)
    found = render(image, View((20, 10)), ImageSpec(size=16, interpolation=name, channels=channels))
    assert found.shape == (16, 16, channels)
    assert np.abs(found - by_pil.reshape(found.shape)).max() <= 1


def test_an_image_decoded_at_reduced_size_shows_the_same_view() -> None:
    colours = Image.new("RGB", (64, 64), (10, 20, 30))
    colours.paste((200, 100, 50), (32, 0, 64, 64))
    view = View((64, 64), (16, 0, 64, 48))
    whole, half = (render(image, view, ImageSpec(size=24)) for image in (colours, colours.reduce(2)))
    assert np.abs(whole.astype(int) - half).mean() < 1


@pytest.mark.parametrize(
    ("crop", "by"), [(None, 2), ((0, 0, 64, 32), 2), ((0, 0, 64, 31), 1), ((0, 0, 8, 8), 1)]
)
def test_an_image_is_reduced_as_long_as_its_view_is_not_upsampled(crop: Any, by: int) -> None:
    assert reduction(View((64, 56), crop), ImageSpec(size=16)) == by


@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    low=st.floats(0.01, 1),
    high=st.floats(0.01, 1),
    seed=st.integers(0, 1000),
)
def test_a_random_crop_lies_inside_the_image(
    width: int, height: int, low: float, high: float, seed: int
) -> None:
    x0, y0, x1, y1 = random_crop(
        (width, height), (min(low, high), max(low, high)), np.random.default_rng(seed)
    )
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height


def test_random_crops_have_the_configured_area_and_reach_every_side() -> None:
    rng = np.random.default_rng(0)
    crops = np.array([random_crop((200, 200), (0.2, 0.9), rng) for _ in range(500)])
    widths, heights = crops[:, 2] - crops[:, 0], crops[:, 3] - crops[:, 1]
    shares = widths * heights / 200**2
    assert shares.min() == pytest.approx(0.2, abs=0.03)
    assert shares.max() == pytest.approx(0.9, abs=0.03)
    assert (widths / heights).min() == pytest.approx(3 / 4, abs=0.03)
    assert (widths / heights).max() == pytest.approx(4 / 3, abs=0.03)
    assert (crops.min(0) <= 1).tolist()[:2] == [True, True]
    assert (crops.max(0) >= 199).tolist()[2:] == [True, True]


def test_the_centre_is_taken_if_no_crop_fits() -> None:
    assert random_crop((100, 3), (1.0, 1.0), np.random.default_rng(0)) == (48, 0, 52, 3)


def test_flips_have_the_configured_frequency_unless_forbidden() -> None:
    config = TransformConfig(crop_scale=None, flip=0.3)
    flips = [draw_view(noise().size, config, np.random.default_rng(seed)).flip for seed in range(400)]
    assert 80 < sum(flips) < 160  # 120, four standard deviations
    assert not any(
        draw_view(noise().size, config, np.random.default_rng(s), may_flip=False).flip for s in range(50)
    )


def test_a_forbidden_flip_consumes_the_same_random_numbers() -> None:
    config = TransformConfig(crop_scale=(0.2, 1.0), flip=1.0)
    free, forbidden = np.random.default_rng(3), np.random.default_rng(3)
    assert (
        draw_view(noise().size, config, free)[:2]
        == draw_view(noise().size, config, forbidden, may_flip=False)[:2]
    )
    assert free.random() == forbidden.random()


def test_augmentation_draws_from_the_generator_and_no_global_state() -> None:
    config, spec, image = TransformConfig(augment_operations=3), ImageSpec(size=16), noise(16, 16)
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    found = {
        render_augmented(image, View((16, 16)), spec, config, np.random.default_rng(seed), False).tobytes()
        for seed in range(20)
    }
    assert len(found) > 10
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.random.get_state()[1].tolist() == numpy_before


def test_a_grey_image_keeps_one_channel() -> None:
    spec = ImageSpec(size=16, channels=1)
    config = TransformConfig(augment_operations=4)
    pixels = render_augmented(
        noise(16, 16, "L"), View((16, 16)), spec, config, np.random.default_rng(1), False
    )
    assert pixels.shape == (16, 16, 1)


def test_pixels_are_stacked_channel_first_and_contiguous() -> None:
    images = [render(noise(8, 8), View((8, 8)), ImageSpec(size=8)) for _ in range(3)]
    stacked = stack_pixels(images)
    assert stacked.shape == (3, 3, 8, 8)
    assert stacked.is_contiguous()
    assert stacked[1, 2, 5, 6] == images[1][5, 6, 2]
    assert unit_floats(stacked)[1, 2, 5, 6] == np.float32(images[1][5, 6, 2]) / 255


BANDS = ImageSpec(16, 8, (0.5,) * 8, (0.5,) * 8, value_range=(0, 10000))
RADIOGRAPH = ImageSpec(16, 1, (0.5,), (0.5,), value_range=(0, 4095))


def deep(height: int, width: int, channels: int, top: int = 10000) -> Any:
    return np.random.default_rng(0).integers(0, top, (height, width, channels), dtype=np.uint16)


def test_an_array_of_the_encoders_size_is_only_scaled_by_its_range() -> None:
    array = deep(16, 16, 8)
    found = read_image(array, BANDS)
    assert torch.equal(found, torch.from_numpy(array.astype(np.float32) / np.float32(10000)).permute(2, 0, 1))


def test_arrays_of_16_bits_are_not_rounded_to_8() -> None:
    array = np.full((16, 16, 1), 1000, np.uint16)
    array[8:] = 1001
    found = read_image(array, RADIOGRAPH)
    assert found.unique().tolist() == [np.float32(1000 / 4095), np.float32(1001 / 4095)]


@pytest.mark.parametrize("name", ["bicubic", "bilinear", "nearest"])
def test_an_array_is_resized_as_an_image_of_8_bits(name: str) -> None:
    pixels = np.asarray(noise(20, 10)) // 2 + np.uint8(64)  # far from 0 and 255, where uint8 saturates
    view = View((20, 10), (2, 1, 20, 10), True)
    image = render(Image.fromarray(pixels), view, ImageSpec(16, interpolation=name))
    spec = ImageSpec(16, interpolation=name, value_range=(0, 255))
    found = render(pixels, view, spec)
    assert found.dtype == np.float32
    assert 0 <= found.min() < found.max() <= 1
    assert np.abs(found * 255 - image).max() <= 1


def test_channels_are_cropped_flipped_and_resized_independently() -> None:
    array, view = deep(30, 20, 8), View((20, 30), (3, 5, 19, 28), flip=True)
    together = render(array, view, BANDS)
    for band in range(8):
        alone = render(array[..., band : band + 1], view, RADIOGRAPH._replace(value_range=(0, 10000)))
        assert np.allclose(together[..., band : band + 1], alone, atol=1e-6)


def test_channels_of_8_bits_stay_uint8() -> None:
    array = np.random.default_rng(0).integers(0, 256, (20, 20, 8), dtype=np.uint8)
    spec = BANDS._replace(value_range=None)
    pixels = render(array, View((20, 20)), spec)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (16, 16, 8))
    assert stack_pixels([pixels]).dtype == torch.uint8


@pytest.mark.parametrize("spec", [BANDS, RADIOGRAPH, BANDS._replace(value_range=None)])
def test_arrays_of_any_channels_are_augmented_by_shape_operations(spec: ImageSpec) -> None:
    array = deep(16, 16, spec.channels, 4000)
    if spec.value_range is None:
        array = (array // 16).astype(np.uint8)
    config = TransformConfig(augment_operations=2, augment_colour=False)
    whole = render(array, View((16, 16)), spec)
    found = [
        render_augmented(array, View((16, 16)), spec, config, np.random.default_rng(seed), False)
        for seed in range(20)
    ]
    assert {pixels.shape for pixels in found} == {(16, 16, spec.channels)}
    assert {pixels.dtype for pixels in found} == {whole.dtype}
    assert len({pixels.tobytes() for pixels in found}) > 5
    grey = 128 if spec.value_range is None else 0.5
    assert any((pixels[0] == grey).all() or (pixels[:, 0] == grey).all() for pixels in found)


def test_shape_operations_move_arrays_as_they_move_images() -> None:
    wave = np.sin(np.arange(64) / 9)
    smooth = (127 + 100 * wave[:, None, None] * np.stack([wave, wave**2, -wave], -1)).astype(np.uint8)
    config = TransformConfig(augment_operations=2, augment_colour=False)
    bytes_, floats = ImageSpec(64), ImageSpec(64, value_range=(0, 255))
    for seed in range(20):
        resized, array = (
            render_augmented(image, View((64, 64)), spec, config, np.random.default_rng(seed), False)
            for image, spec in ((Image.fromarray(smooth), bytes_), (smooth, floats))
        )
        differs = np.abs(array * 255 - resized)
        assert differs.mean() < 2  # PIL and torch shear half a pixel apart


def test_bicubic_overshoot_is_clipped_to_the_unit_range() -> None:
    array = np.zeros((10, 10, 1), np.uint16)
    array[:, 5:] = 4095
    found = render(array, View((10, 10)), RADIOGRAPH)
    assert (found.min(), found.max()) == (0, 1)

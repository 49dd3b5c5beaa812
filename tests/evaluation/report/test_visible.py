"""Images of any channels as displayable images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from x2kit.evaluation.report.visible import visible, visible_unit
from x2kit.plugin import ImageSpec

BANDS = ImageSpec(8, 4, (0.5,) * 4, (0.5,) * 4, value_range=(0, 10000), colours=(2, 1, 0))


def ramp(*levels: float) -> np.ndarray:
    """Bands that rise from left to right up to these levels."""
    rising = np.linspace(0, 1, 100, dtype=np.float32)[None, :, None].repeat(8, 0)
    return np.concatenate([rising * level for level in levels], -1)


def test_eight_bit_images_are_unchanged() -> None:
    image = Image.new("RGB", (4, 4), (10, 20, 30))
    assert visible(image, ImageSpec(8)) is image
    assert visible_unit(ramp(0.5, 0.2, 0.1), ImageSpec(8)).getpixel((99, 0)) == (128, 51, 26)
    assert visible_unit(ramp(0.5), ImageSpec(8, 1)).getpixel((99, 0)) == 128


def test_the_bands_named_by_the_encoder_are_rgb() -> None:
    pixels = ramp(0.0, 0.0, 0.1, 0.0)
    assert visible_unit(pixels, BANDS).getpixel((99, 0)) == (255, 0, 0)
    assert visible_unit(pixels, BANDS._replace(colours=None)).getpixel((99, 0)) == (0, 0, 255)


def test_contrast_is_stretched() -> None:
    spec = ImageSpec(8, 1, (0.5,), (0.5,), value_range=(0, 65535))
    shown = np.asarray(visible_unit(ramp(0.03), spec))
    assert (shown.min(), shown.max()) == (0, 255)
    assert (np.diff(shown.astype(int), axis=1) >= 0).all()


@pytest.mark.parametrize("value_range", [None, (0.0, 255.0)])
def test_arrays_are_scaled_as_for_the_encoder(value_range: tuple[float, float] | None) -> None:
    array = (ramp(0.1, 0.2, 0.3, 0.4) * 255).astype(np.uint8)
    shown = visible(array, BANDS._replace(value_range=value_range))
    assert (shown.mode, shown.size) == ("RGB", (100, 8))
    assert np.asarray(shown).max() == 255


def test_a_constant_band_is_unchanged() -> None:
    flat = np.full((4, 4, 4), 0.2, np.float32)
    assert visible_unit(flat, BANDS).getpixel((1, 1)) == (51, 51, 51)

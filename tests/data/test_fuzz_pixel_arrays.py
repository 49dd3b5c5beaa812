"""Readers of pictures that are arrays of numbers answer damaged files with a picture or a DataError."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.fuzzing import INPUTS, answered, damaged
from x2kit.data.config import TransformConfig
from x2kit.data.pictures import Picture
from x2kit.data.transforms import draw_view, render_augmented
from x2kit.plugin import ImageSpec


@pytest.mark.parametrize("form", ["npy", "tiff", "deflated tiff", "deep png"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pictures_of_numbers(form: str) -> None:
    rng = random.Random(5)
    draws = np.random.default_rng(0)
    spec = ImageSpec(8, channels := 1 if form == "deep png" else 4, (0.5,) * channels, (0.5,) * channels)
    spec = spec._replace(value_range=(0, 10000))
    pixels = draws.integers(0, 10000, (20, 30, channels), dtype=np.uint16)
    packed = io.BytesIO()
    if form == "npy":
        np.save(packed, pixels)
    elif form == "deep png":
        Image.fromarray(pixels[..., 0]).save(packed, "PNG")
    else:
        tifffile.imwrite(packed, pixels, compression="deflate" if "deflated" in form else None)
    config = TransformConfig(augment_colour=False)

    def read(content: bytes) -> None:
        picture = Picture(content, channels, spec.value_range)
        view = draw_view(picture.size, config, draws)
        render_augmented(picture.load(), view, spec, config, draws, False)

    good, bad = answered((damaged(packed.getvalue(), rng) for _ in range(INPUTS // 5)), read)
    assert good + bad == INPUTS // 5
    assert bad > 100

"""The steps of preprocessing.json give the tensor of the model, for every kind of image."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.inference.conftest import picture
from x2kit.data.transforms.view import read_image
from x2kit.export.preprocessing import describe
from x2kit.plugin import ImageSpec


def by_pillow(image: Image.Image, spec: ImageSpec) -> np.ndarray:
    """Read an image by the description alone."""
    steps = describe(spec)
    size = (steps["size"],) * 2
    read = image.convert(steps["mode"])
    if read.size != size:
        read = read.resize(size, Image.Resampling[steps["interpolation"].upper()])
    values = np.asarray(read, np.float32).reshape(*size, steps["channels"]).transpose(2, 0, 1)
    return (values - steps["value_range"][0]) / (steps["value_range"][1] - steps["value_range"][0])


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize("size", [(24, 24), (100, 37), (13, 20), (500, 300)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK"])
def test_pillow_gives_the_tensor_to_a_grey_level(
    size: tuple[int, int], interpolation: str, mode: str
) -> None:
    spec = ImageSpec(24, interpolation=interpolation)  # type: ignore[arg-type]
    image = picture(1, size).convert(mode)
    largest = np.abs(by_pillow(image, spec) - read_image(image, spec).numpy()).max()
    exact = size == (24, 24) or interpolation == "nearest"
    assert largest <= (1e-6 if exact else 1.001 / 255)


def test_one_channel_is_grey() -> None:
    spec = ImageSpec(24, 1, (0.5,), (0.2,))
    image = picture(2, (24, 24))
    assert describe(spec)["mode"] == "L"
    np.testing.assert_allclose(by_pillow(image, spec), read_image(image, spec).numpy(), atol=1e-6)


def test_a_value_range_is_scaled_before_it_is_resized() -> None:
    spec = ImageSpec(8, 4, (0.1,) * 4, (0.2,) * 4, value_range=(0, 10000))
    steps = describe(spec)
    assert (steps["mode"], steps["value_range"]) == (None, [0, 10000])
    assert "scale (0 becomes 0, 10000 becomes 1)" in steps["steps"][1]
    assert steps["steps"][2].startswith("resize to 8 x 8 pixels")


def test_it_has_the_numbers_of_the_encoder_and_says_who_normalises() -> None:
    steps = describe(ImageSpec(32, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)))
    assert (steps["size"], steps["mean"], steps["std"]) == (32, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert (steps["normalised_by"], steps["antialias"]) == ("the program", True)

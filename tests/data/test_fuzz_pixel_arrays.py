"""Pictures that are arrays of numbers, damaged in ten thousand ways, are read or refused with a DataError."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from tests.data.test_pixel_arrays import DEEP, deep_png, npy, numbers, tiff
from tests.fuzzing import INPUTS, answered, damaged
from x2kit.data.pictures import Picture

SHAPES = [(10, 20), (12, 10, 3), (4, 10, 12)]


@pytest.mark.slow
@pytest.mark.parametrize("written", [npy, tiff, deep_png])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_arrays(written: Callable[[np.ndarray], bytes], dtype: type) -> None:
    if written is deep_png and dtype is np.float32:
        pytest.skip("PNG has no floats")
    rng = random.Random(0)
    shapes = SHAPES[:1] if written is deep_png else SHAPES
    sound = {shape: written(numbers(*shape, dtype=dtype)) for shape in shapes}

    def read(shape: tuple[int, ...]) -> None:
        channels = {10: 1, 12: 3, 4: 4}[shape[0]]
        Picture(damaged(sound[shape], rng), channels, DEEP).load()

    good, bad = answered((rng.choice(shapes) for _ in range(INPUTS)), read)
    assert good + bad == INPUTS
    assert min(good, bad) > 10

"""Images that are arrays of numbers, damaged in ten thousand ways, are read or refused with a DataError."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from tests.data.media.test_pixel_arrays import DEEP, deep_png, npy, numbers, tiff
from tests.fuzzing import INPUTS, answered, damaged
from x2kit.data.media.images import ImageLike

SHAPES = [(10, 20), (12, 10, 3), (4, 10, 12)]
CHANNELS = {10: 1, 12: 3, 4: 4}
"""By the first number of the shape."""
Form = tuple[tuple[int, ...], type]


def forms(written: Callable[[np.ndarray], bytes]) -> list[Form]:
    """Shapes and types of numbers that a format holds."""
    if written is deep_png:
        return [(SHAPES[0], np.uint16)]
    return [(shape, dtype) for shape in SHAPES for dtype in (np.uint16, np.float32)]


@pytest.mark.slow
@pytest.mark.parametrize("written", [npy, tiff, deep_png])
def test_arrays(written: Callable[[np.ndarray], bytes]) -> None:
    rng = random.Random(0)
    sound = {(shape, dtype): written(numbers(*shape, dtype=dtype)) for shape, dtype in forms(written)}

    def read(form: Form) -> None:
        ImageLike(damaged(sound[form], rng), CHANNELS[form[0][0]], DEEP).load()

    good, bad = answered((rng.choice([*sound]) for _ in range(INPUTS)), read)
    assert good + bad == INPUTS
    assert min(good, bad) > 10

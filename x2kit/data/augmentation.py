"""RandAugment as X²-VLM uses it (Cubuk et al., arXiv:1909.13719), seeded. Imports torchvision.

The strengths are those of the official code: at level 7 brightness and sharpness 1.36, shear 0.21, 7 pixels,
21 degrees; what comes in from outside is mid grey. Pictures with boxes take the colour operations alone, so
that the boxes stay true.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

PROBABILITY = 0.5
"""Of each drawn operation to be applied."""
_FILL = 128
_MAX_LEVEL = 10

Operation = Callable[[Image.Image, float, int], Image.Image]
"""Picture, strength in [0, 1], sign (-1 or 1)."""


def _identity(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return image


def _auto_contrast(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return F.autocontrast(image)  # type: ignore[no-any-return]


def _equalise(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return F.equalize(image)  # type: ignore[no-any-return]


def _brightness(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return F.adjust_brightness(image, strength * 1.8 + 0.1)  # type: ignore[no-any-return]


def _sharpness(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return sharpened(image, strength * 1.8 + 0.1)


def sharpened(image: Image.Image, factor: float) -> Image.Image:
    """As PIL's ImageEnhance.Sharpness, whose smoothing (centre 5, neighbours 1, of 13) takes three times as long."""
    pixels = np.asarray(image)
    if min(image.size) < 3:
        return image  # no pixel has all its neighbours, and the others stay as they are
    wide = pixels.astype(np.uint16)
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    sums = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * wide[1:-1, 1:-1]
    smooth = pixels.astype(np.float32)
    smooth[1:-1, 1:-1] = (sums + 6) // np.uint16(13)
    blended = smooth + np.float32(factor) * (pixels - smooth)
    return Image.fromarray(blended.clip(0, 255).astype(np.uint8))


def _affine(
    image: Image.Image,
    *,
    angle: float = 0.0,
    shear: tuple[float, float] = (0.0, 0.0),
    center: list[float] | None = None,
) -> Image.Image:
    return F.affine(  # type: ignore[no-any-return]
        image,
        angle=angle,
        translate=[0, 0],
        scale=1.0,
        shear=[math.degrees(math.atan(value)) for value in shear],
        interpolation=InterpolationMode.BILINEAR,
        fill=[_FILL] * len(image.getbands()),
        center=center,
    )


def _moved(image: Image.Image, x: int, y: int) -> Image.Image:
    """Moved by whole pixels, which needs no interpolation."""
    moved = Image.new(image.mode, image.size, (_FILL,) * len(image.getbands()))
    moved.paste(image, (x, y))
    return moved


def _shear_x(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _affine(image, shear=(sign * strength * 0.3, 0.0), center=[0.0, 0.0])


def _shear_y(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _affine(image, shear=(0.0, sign * strength * 0.3), center=[0.0, 0.0])


def _translate_x(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _moved(image, sign * round(strength * 10), 0)


def _translate_y(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _moved(image, 0, sign * round(strength * 10))


def _rotate(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _affine(image, angle=sign * strength * 30)


COLOUR_OPERATIONS: tuple[Operation, ...] = (_identity, _auto_contrast, _equalise, _brightness, _sharpness)
SHAPE_OPERATIONS: tuple[Operation, ...] = (_shear_x, _shear_y, _translate_x, _translate_y, _rotate)


def augment(image: Image.Image, rng: Generator, operations: int, level: int, keep_shape: bool) -> Image.Image:
    """The picture after random operations, drawn with replacement, each applied with probability 0.5.

    Args:
        image: RGB or grey.
        rng: the sample's own generator.
        operations: how many are drawn.
        level: strength from 0 to 10.
        keep_shape: draw from the operations alone that move no pixel.
    """
    choices = COLOUR_OPERATIONS if keep_shape else COLOUR_OPERATIONS + SHAPE_OPERATIONS
    for which, chance, sign in rng.random((operations, 3)).tolist():
        if chance < PROBABILITY:
            image = choices[int(which * len(choices))](image, level / _MAX_LEVEL, 1 if sign < 0.5 else -1)
    return image

"""RandAugment with the operations of X²-VLM (Cubuk et al., arXiv:1909.13719). Imports torch and torchvision.

Magnitudes are those of the official code: at level 7 brightness and sharpness 1.36, shear 0.21, 7 pixels, 21
degrees; pixels from outside are mid grey. Images with boxes get colour operations only, so that the boxes stay
valid; numeric arrays get shape operations only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

PROBABILITY = 0.5
"""Probability that a drawn operation is applied."""
_FILL = 128
_MAX_LEVEL = 10

Array: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
"""[H, W, C] of any channels: 0 to 255, or float from 0 to 1."""
ImageOrArray: TypeAlias = Image.Image | Array
Operation: TypeAlias = Callable[[Any, float, int], Any]
"""Takes an image, a magnitude in [0, 1] and a sign (-1 or 1); returns an image of the same type."""


COLOUR_OPERATIONS: tuple[Operation, ...] = (
    lambda image, magnitude, sign: image,
    lambda image, magnitude, sign: F.autocontrast(image),
    lambda image, magnitude, sign: F.equalize(image),
    lambda image, magnitude, sign: F.adjust_brightness(image, magnitude * 1.8 + 0.1),
    lambda image, magnitude, sign: _sharpen(image, magnitude * 1.8 + 0.1),
)
SHAPE_OPERATIONS: tuple[Operation, ...] = (
    lambda image, magnitude, sign: _affine(image, shear=(sign * magnitude * 0.3, 0.0), center=[0.0, 0.0]),
    lambda image, magnitude, sign: _affine(image, shear=(0.0, sign * magnitude * 0.3), center=[0.0, 0.0]),
    lambda image, magnitude, sign: _shift(image, sign * round(magnitude * 10), 0),
    lambda image, magnitude, sign: _shift(image, 0, sign * round(magnitude * 10)),
    lambda image, magnitude, sign: _affine(image, angle=sign * magnitude * 30),
)


def augment(
    image: ImageOrArray,
    rng: Generator,
    operations: int,
    level: int,
    keep_shape: bool,
    keep_colour: bool = False,
) -> ImageOrArray:
    """Apply random operations, drawn with replacement, each with probability 0.5.

    Args:
        image: RGB or grey of 8 bits; or, with `keep_colour`, an array of any channels.
        rng: the sample's generator.
        operations: how many are drawn.
        level: strength from 0 to 10.
        keep_shape: draw colour operations only.
        keep_colour: draw shape operations only.
    """
    choices = COLOUR_OPERATIONS[:1] if keep_colour else COLOUR_OPERATIONS  # the first is the identity
    if not keep_shape:
        choices += SHAPE_OPERATIONS
    for which, chance, sign in rng.random((operations, 3)).tolist():
        if chance < PROBABILITY:
            image = choices[int(which * len(choices))](image, level / _MAX_LEVEL, 1 if sign < 0.5 else -1)
    return image


def _sharpen(image: Image.Image, factor: float) -> Image.Image:
    """Apply PIL's ImageEnhance.Sharpness, whose smoothing (centre 5, neighbours 1, of 13) is three times slower."""
    pixels = np.asarray(image)
    if min(image.size) < 3:
        return image  # no pixel has all neighbours; PIL leaves border pixels unchanged
    wide = pixels.astype(np.uint16)
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    sums = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * wide[1:-1, 1:-1]
    smooth = pixels.astype(np.float32)
    smooth[1:-1, 1:-1] = (sums + 6) // np.uint16(13)
    blended = smooth + np.float32(factor) * (pixels - smooth)
    return Image.fromarray(blended.clip(0, 255).astype(np.uint8))


def _affine(
    image: ImageOrArray,
    *,
    angle: float = 0.0,
    shear: tuple[float, float] = (0.0, 0.0),
    center: list[float] | None = None,
) -> ImageOrArray:
    source: Any = image
    channels = len(image.getbands()) if isinstance(image, Image.Image) else image.shape[2]
    if isinstance(image, np.ndarray):
        source = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    moved = F.affine(
        source,
        angle=angle,
        translate=[0, 0],
        scale=1.0,
        shear=[math.degrees(math.atan(value)) for value in shear],
        interpolation=InterpolationMode.BILINEAR,
        fill=[_fill(image)] * channels,
        center=center,
    )
    return moved if isinstance(image, Image.Image) else moved.permute(1, 2, 0).numpy()  # type: ignore[no-any-return]


def _shift(image: ImageOrArray, x: int, y: int) -> ImageOrArray:
    """Translate by whole pixels, without interpolation."""
    if isinstance(image, Image.Image):
        moved = Image.new(image.mode, image.size, (_FILL,) * len(image.getbands()))
        moved.paste(image, (x, y))
        return moved
    shifted = np.full_like(image, _fill(image))
    height, width = image.shape[:2]
    if abs(x) < width and abs(y) < height:
        shifted[max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)] = image[
            max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)
        ]
    return shifted


def _fill(image: ImageOrArray) -> float:
    return 0.5 if isinstance(image, np.ndarray) and image.dtype.kind == "f" else _FILL

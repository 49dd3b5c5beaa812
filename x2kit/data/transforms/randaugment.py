"""RandAugment with the operations of X²-VLM (Cubuk et al., arXiv:1909.13719). Imports torch and torchvision.

Magnitudes are those of the official code: at level 7 brightness and sharpness 1.36, shear 0.21, 7 pixels, 21
degrees; pixels from outside are mid grey. Images with boxes get colour operations only, so that the boxes stay
valid; numeric arrays get shape operations only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

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
_GREY = np.uint32(0x01010101 * _FILL)
_BYTE = np.uint32(8)
_EVEN, _ODD = np.uint32(0x00FF00FF), np.uint32(0xFF00FF00)
_HALF = np.uint32(0x00800080)
"""Rounds a result that is interpolated again; PIL cuts off the fraction of the last one."""

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
    """Rotate by degrees or shear an image, about its centre by default."""
    if isinstance(image, Image.Image):
        return _affine_image(image, angle, shear, center is None)
    moved = F.affine(
        torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
        angle=angle,
        translate=[0, 0],
        scale=1.0,
        shear=[math.degrees(math.atan(value)) for value in shear],
        interpolation=InterpolationMode.BILINEAR,
        fill=[_fill(image)] * image.shape[2],
        center=center,
    )
    return moved.permute(1, 2, 0).numpy()  # type: ignore[no-any-return]


def _affine_image(image: Image.Image, angle: float, shear: tuple[float, float], centred: bool) -> Image.Image:
    """Transform as PIL does, bilinear and filled with grey: a shear in a fifth of its time, a rotation in half.

    A pixel is a number of 32 bits. Weights of 8 bits make a difference of one grey level, or of two for rotations.
    """
    if image.mode != "RGB":
        return _affine_image(image.convert("RGB"), angle, shear, centred).convert(image.mode)
    pixels = np.frombuffer(image.tobytes("raw", "RGBX"), np.uint32)
    found = _neighbours(image.width, image.height, angle, shear, centred)
    extended = np.append(pixels, _GREY)
    values = [extended.take(places) for places in found.places]
    for weights in found.weights[:-1]:
        values = [
            _between(values[0], values[1], weights, _HALF),
            _between(values[2], values[3], weights, _HALF),
        ]
    moved = _between(values[0], values[1], found.weights[-1], np.uint32(0))
    return Image.frombytes("RGB", image.size, moved.tobytes(), "raw", "RGBX")


class _Neighbours(NamedTuple):
    """Pixels that each pixel of a transformed image lies between.

    Attributes:
        places: [H * W] each, two or four; that of a pixel outside the image is H * W.
        weights: [H * W] uint32 in 1/256, of the second of two places: across and down, or the only one that is needed.
    """

    places: tuple[NDArray[np.intp], ...]
    weights: tuple[NDArray[np.uint32], ...]


@lru_cache(maxsize=16)
def _neighbours(
    width: int, height: int, angle: float, shear: tuple[float, float], centred: bool
) -> _Neighbours:
    """Find the neighbours; a level has one angle and one shear, in two directions, so few results serve all images."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    middle_x, middle_y = (width / 2, height / 2) if centred else (0.0, 0.0)
    x = np.arange(width) + 0.5 - middle_x
    y = (np.arange(height) + 0.5 - middle_y)[:, None]
    source_x = cos * x + (sin + shear[0]) * y + middle_x
    source_y = (shear[1] - sin) * x + cos * y + middle_y
    outside = (source_x < 0) | (source_x >= width) | (source_y < 0) | (source_y >= height)
    left, right, across = _between_pixels(source_x, width)
    top, bottom, down = _between_pixels(source_y, height)

    def at(row: NDArray[np.intp], column: NDArray[np.intp]) -> NDArray[np.intp]:
        return np.where(outside, width * height, row * width + column).ravel()

    if not down.any():
        return _Neighbours((at(top, left), at(top, right)), (across,))
    if not across.any():
        return _Neighbours((at(top, left), at(bottom, left)), (down,))
    corners = at(top, left), at(top, right), at(bottom, left), at(bottom, right)
    return _Neighbours(corners, (across, down))


def _between_pixels(
    source: NDArray[np.float64], size: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint32]]:
    """Return the pixels before and after each coordinate, and the weight of the second in 1/256."""
    before = np.floor(source - 0.5)
    weights = np.rint((source - 0.5 - before) * 256).astype(np.uint32).ravel()
    return before.clip(0, size - 1).astype(np.intp), (before + 1).clip(0, size - 1).astype(np.intp), weights


def _between(
    first: NDArray[np.uint32], second: NDArray[np.uint32], weights: NDArray[np.uint32], rounding: np.uint32
) -> NDArray[np.uint32]:
    """Interpolate the four bytes of each pixel, two at a time in 16 bits each; `rounding` is added before division."""
    rest = np.uint32(256) - weights
    even = (((first & _EVEN) * rest + (second & _EVEN) * weights + rounding) >> _BYTE) & _EVEN
    odd = ((first >> _BYTE & _EVEN) * rest + (second >> _BYTE & _EVEN) * weights + rounding) & _ODD
    both: NDArray[np.uint32] = even | odd
    return both


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

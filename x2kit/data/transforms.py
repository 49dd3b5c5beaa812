"""Pictures from files to tensors: decoding, crop, flip, augmentation, size. Imports torch and torchvision.

What happens to a picture is drawn first, as a `View`, so that the boxes of its regions can follow it.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from x2kit.data.augmentation import augment
from x2kit.data.config import TransformConfig
from x2kit.errors import DataError
from x2kit.plugin.components import ImageSpec

Pixels: TypeAlias = NDArray[np.uint8]
"""[S, S, C], 0 to 255."""
Crop: TypeAlias = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the whole picture; x1 and y1 lie outside."""

_MODES = {1: "L", 3: "RGB"}
_ASPECT_RATIO = (3 / 4, 4 / 3)
_CROP_ATTEMPTS = 10


class View(NamedTuple):
    """What is seen of a picture: first cropped, then flipped.

    Attributes:
        size: width and height of the whole picture, in pixels.
        crop: the part that is kept; None for all.
        flip: mirrored left to right.
    """

    size: tuple[int, int]
    crop: Crop | None = None
    flip: bool = False


def decode(picture: Any, channels: int = 3) -> Image.Image:
    """A picture with its pixels in memory.

    Args:
        picture: a PIL image, the bytes of an encoded picture, or a path.
        channels: 3 for colour, 1 for grey.
    Raises: DataError if it is none of these, missing, damaged, empty, of deeper pixels, or so large that its
            file must be meant to fill the memory.
    """
    if channels not in _MODES:
        raise DataError(
            f"pictures of {channels} channels cannot be read yet; 1 (grey) and 3 (colour) can",
            reason="channels that cannot be read",
        )
    try:
        image = picture if isinstance(picture, Image.Image) else _open(picture)
        if image.mode.startswith(("I", "F")):
            raise DataError(
                f"pixels of mode {image.mode} are deeper than 8 bits; convert the picture to 8 bits first",
                reason="pixels deeper than 8 bits",
            )
        if 0 in image.size:
            raise DataError(
                f"a picture of {image.width} x {image.height} pixels", reason="picture without pixels"
            )
        if image.mode != _MODES[channels]:
            return image.convert(_MODES[channels])
        image.load()
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"no picture at {picture}", reason="picture missing") from error
    except Exception as error:  # damaged bytes make PIL's decoders raise nearly anything
        what = f"{len(picture)} bytes" if isinstance(picture, bytes) else str(picture)
        raise DataError(f"not a readable picture ({what}): {error}", reason="picture not readable") from error
    return image


def _open(picture: Any) -> Image.Image:
    if isinstance(picture, bytes | bytearray | memoryview):
        source: Any = io.BytesIO(picture)
    elif isinstance(picture, str | Path):
        source = Path(picture)
    else:
        raise DataError(
            f"a picture is a PIL image, bytes or a path, found {type(picture).__name__}",
            reason="picture of a wrong type",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # a small file that fills the memory
        return Image.open(source)


def read_picture(picture: Any, spec: ImageSpec) -> Tensor:
    """A picture as the encoder wants it: [C, S, S] float32 in [0, 1]. Raises DataError, as `decode`."""
    image = decode(picture, spec.channels)
    return stack_pixels([render(image, View(image.size), spec)])[0]


def draw_view(image: Image.Image, config: TransformConfig, rng: Generator, may_flip: bool = True) -> View:
    """Crop and flip of a picture, drawn. The flip's coin is thrown even where it may not flip."""
    size = image.size
    crop = None if config.crop_scale is None else random_crop(size, config.crop_scale, rng)
    return View(size, crop, draw_flip(config, rng) and may_flip)


def draw_flip(config: TransformConfig, rng: Generator) -> bool:
    """Whether the coin says to flip."""
    return config.flip > 0 and rng.random() < config.flip


def random_crop(size: tuple[int, int], scale: tuple[float, float], rng: Generator) -> Crop:
    """A random part of a picture: area and shape first, then the place (torchvision's RandomResizedCrop).

    Args:
        size: width and height.
        scale: smallest and largest share of the area.
    """
    width, height = size
    low, high = (math.log(ratio) for ratio in _ASPECT_RATIO)
    for share, shape, left, top in rng.random((_CROP_ATTEMPTS, 4)).tolist():
        area = width * height * (scale[0] + share * (scale[1] - scale[0]))
        ratio = math.exp(low + shape * (high - low))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            x, y = int(left * (width - w + 1)), int(top * (height - h + 1))
            return x, y, x + w, y + h
    w = min(
        width, round(height * _ASPECT_RATIO[1])
    )  # a picture too long for any: as much of its middle as fits
    h = min(height, round(width / _ASPECT_RATIO[0]))
    x, y = (width - w) // 2, (height - h) // 2
    return x, y, x + w, y + h


def render(image: Image.Image, view: View, spec: ImageSpec) -> Pixels:
    """The view of a picture, brought to the encoder's size."""
    interpolation = InterpolationMode(spec.interpolation)
    square = [spec.size, spec.size]
    if view.crop is not None:
        x0, y0, x1, y1 = view.crop
        image = F.resized_crop(image, y0, x0, y1 - y0, x1 - x0, square, interpolation)
    elif image.size != (spec.size, spec.size):
        image = F.resize(image, square, interpolation)
    if view.flip:
        image = F.horizontal_flip(image)
    return _pixels(image)


def render_augmented(
    image: Image.Image, view: View, spec: ImageSpec, config: TransformConfig, rng: Generator, keep_shape: bool
) -> Pixels:
    """As `render`, with random operations at the end; `keep_shape` leaves out those that move pixels."""
    pixels = render(image, view, spec)
    if config.augment_operations == 0:
        return pixels
    small = Image.fromarray(pixels if spec.channels > 1 else pixels[..., 0])
    return _pixels(augment(small, rng, config.augment_operations, config.augment_level, keep_shape))


def stack_pixels(pictures: Sequence[Pixels]) -> Tensor:
    """[M, C, S, S] float32 in [0, 1]."""
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return stacked.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def _pixels(image: Image.Image) -> Pixels:
    array = np.asarray(image)
    return array if array.ndim == 3 else array[..., None]

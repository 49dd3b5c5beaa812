"""Crop, flip, resize and augment images, and stack them as tensors. Imports torch and torchvision.

Crop and flip are drawn first, as a `View`, so that the boxes of regions can be transformed alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from x2kit.data.config import TransformConfig
from x2kit.data.media.images import REDUCTIONS, ImageLike, Loaded
from x2kit.data.media.pixel_arrays import Numbers, to_unit
from x2kit.data.transforms.randaugment import augment
from x2kit.data.transforms.random_convolution import convolve_randomly
from x2kit.plugin.facts import ImageSpec

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
"""[S, S, C]: uint8 from 0 to 255, or float32 from 0 to 1 if the encoder declares a value range."""
Crop: TypeAlias = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the whole image; x1 and y1 are exclusive."""
Decoded: TypeAlias = Loaded | Tensor
"""A PIL image or a tensor [3, H, W] of bytes, else an array [H, W, C] of numbers."""

_ASPECT_RATIO = (3 / 4, 4 / 3)
_CROP_ATTEMPTS = 10
_NEAREST = InterpolationMode.NEAREST_EXACT
"""The rule that PIL uses."""


class View(NamedTuple):
    """Crop of an image, and then a flip.

    Attributes:
        size: width and height of the whole image, in pixels.
        crop: None for the whole image.
        flip: whether the crop is mirrored left to right.
    """

    size: tuple[int, int]
    crop: Crop | None = None
    flip: bool = False


def read_image(image: Any, spec: ImageSpec) -> Tensor:
    """Read an image as the encoder's input: [C, S, S] float32 in [0, 1]. Raises DataError, as `decode`."""
    return unit_floats(
        stack_pixels([whole_image(ImageLike(image, spec.channels, spec.value_range), spec)])[0]
    )


def whole_image(image: ImageLike, spec: ImageSpec) -> Pixels:
    """Resize a whole image to the encoder's size. Raises DataError if it is damaged."""
    return render(decode(image, spec), View(image.size), spec)


def decode(image: ImageLike, spec: ImageSpec, reduction: int = 1) -> Decoded:
    """Decode an image, reduced as by `ImageLike.load`; JPEGs in colour as planes, which costs less.

    Raises: DataError if it is damaged.
    """
    planes = image.load_planes() if reduction == 1 and spec.interpolation != "nearest" else None
    return image.load(reduction) if planes is None else planes


def draw_view(size: tuple[int, int], config: TransformConfig, rng: Generator, may_flip: bool = True) -> View:
    """Draw crop and flip of an image; consumes the same random numbers whether or not it may flip."""
    crop = None if config.crop_scale is None else random_crop(size, config.crop_scale, rng)
    return View(size, crop, draw_flip(config, rng) and may_flip)


def draw_flip(config: TransformConfig, rng: Generator) -> bool:
    """Draw whether to flip."""
    return config.flip > 0 and rng.random() < config.flip


def random_crop(size: tuple[int, int], scale: tuple[float, float], rng: Generator) -> Crop:
    """Draw area and aspect ratio of a crop, then its position (torchvision's RandomResizedCrop).

    Args:
        size: width and height.
        scale: smallest and largest share of the area.
        rng: the sample's generator.
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
    # No crop fits an elongated image: take the centre.
    w = min(width, round(height * _ASPECT_RATIO[1]))
    h = min(height, round(width / _ASPECT_RATIO[0]))
    x, y = (width - w) // 2, (height - h) // 2
    return x, y, x + w, y + h


def reduction(view: View, spec: ImageSpec) -> int:
    """Return the largest factor (1, 2, 4, 8) by which an image can be decoded smaller without upsampling the view."""
    x0, y0, x1, y1 = view.crop or (0, 0, *view.size)
    shortest = min(x1 - x0, y1 - y0)
    return next((by for by in REDUCTIONS if shortest >= by * spec.size), 1)


def render(image: Decoded, view: View, spec: ImageSpec) -> Pixels:
    """Crop, resize and flip an image.

    Args:
        image: the whole image; it may have been decoded at reduced size.
        view: in pixels of the image's full size.
        spec: input of the encoder.
    """
    if isinstance(image, np.ndarray):
        return _render_array(image, view, spec)
    cropped = _cropped_planes(image, view) if isinstance(image, Tensor) else _cropped(image, view, spec)
    if cropped.shape[1:] != (
        spec.size,
        spec.size,
    ):  # within one grey level of PIL's resize, in a fifth of its time
        cropped = F.resize(cropped, [spec.size, spec.size], InterpolationMode(spec.interpolation))
    rendered = cropped.flip(-1) if view.flip else cropped
    return rendered.permute(1, 2, 0).numpy()


def _cropped_planes(planes: Tensor, view: View) -> Tensor:
    x0, y0, x1, y1 = view.crop or (0, 0, *view.size)
    rows = planes.permute(1, 2, 0)[y0:y1, x0:x1]
    return rows.contiguous().permute(
        2, 0, 1
    )  # resizing keeps the order of memory, in which pixels are copied fastest


def _cropped(image: Image.Image, view: View, spec: ImageSpec) -> Tensor:
    """Crop an image, and with "nearest" also resize it, to planes [C, H, W] of bytes."""
    if view.crop is not None:
        across, down = image.width / view.size[0], image.height / view.size[1]
        x0, y0, x1, y1 = view.crop
        image = image.crop((round(x0 * across), round(y0 * down), round(x1 * across), round(y1 * down)))
    if spec.interpolation == "nearest" and image.size != (spec.size, spec.size):
        image = image.resize((spec.size, spec.size), Image.Resampling.NEAREST)
    return torch.from_numpy(_pixels(image)).permute(2, 0, 1)


def _render_array(array: Numbers, view: View, spec: ImageSpec) -> Pixels:
    x0, y0, x1, y1 = view.crop or (0, 0, *view.size)
    cropped = array[y0:y1, x0:x1]
    pixels = np.array(cropped) if spec.value_range is None else to_unit(cropped, spec.value_range)
    if pixels.shape[:2] != (spec.size, spec.size):
        tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        mode = _NEAREST if spec.interpolation == "nearest" else InterpolationMode(spec.interpolation)
        pixels = F.resize(tensor, [spec.size, spec.size], mode).permute(1, 2, 0).numpy()
        if spec.value_range is not None:
            pixels = pixels.clip(0, 1)  # bicubic interpolation overshoots
    return pixels[:, ::-1] if view.flip else pixels


def render_augmented(
    image: Decoded, view: View, spec: ImageSpec, config: TransformConfig, rng: Generator, keep_shape: bool
) -> Pixels:
    """Render, then apply random operations and convolutions; `keep_shape` excludes operations that move pixels."""
    pixels = render(image, view, spec)
    if config.augment_operations:
        pixels = _augmented(pixels, image, spec, config, rng, keep_shape)
    if config.random_convolution and rng.random() < config.random_convolution:
        pixels = convolve_randomly(pixels, rng, config.convolution_sides)
    return pixels


def _augmented(
    pixels: Pixels, image: Decoded, spec: ImageSpec, config: TransformConfig, rng: Generator, keep_shape: bool
) -> Pixels:
    rendered: Loaded = pixels
    if not isinstance(image, np.ndarray):
        rendered = Image.fromarray(pixels if spec.channels > 1 else pixels[..., 0])
    augmented = augment(
        rendered, rng, config.augment_operations, config.augment_level, keep_shape, not config.augment_colour
    )
    return augmented if isinstance(augmented, np.ndarray) else _pixels(augmented)


def stack_pixels(images: Sequence[Pixels]) -> Tensor:
    """Stack images as [M, C, S, S], uint8 or float32 as they are: bytes take a quarter of the way to the device."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def unit_floats(images: Tensor) -> Tensor:
    """Convert images of bytes to float32 in [0, 1]; others are returned unchanged."""
    return images.to(torch.float32).div_(255) if images.dtype == torch.uint8 else images


def _pixels(image: Image.Image) -> Pixels:
    array = np.array(image)  # a copy: torch requires a writable array
    return array if array.ndim == 3 else array[..., None]

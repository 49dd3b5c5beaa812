"""The plain picture pipeline: every operation by PIL, on the whole picture, one picture after the other.

It is written as the official code does it (dataset/pretrain_dataset.py, dataset/randaugment.py), with PIL in the place
of OpenCV: base64 → PIL → RandomResizedCrop (bicubic) → flip → RandAugment → tensor. Chance is a generator from which
it draws as x2kit does, so that both show the same.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable

from numpy.random import Generator
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from x2kit.data.config import TransformConfig
from x2kit.data.transforms import draw_view

FILL = [128, 128, 128]
Resize = Callable[[Image.Image, int], Image.Image]
Operation = Callable[[Image.Image, float, int], Image.Image]
"""Picture, strength in [0, 1], sign."""


def in_one_call(image: Image.Image, size: int) -> Image.Image:
    """To a square, bicubic."""
    return image.resize((size, size), Image.Resampling.BICUBIC)


def rows_first(image: Image.Image, size: int) -> Image.Image:
    """The same, each row first and then each column.

    In one call Pillow orders the two passes as it finds quicker, by rules that change between its versions. Between
    them it rounds, so that its own results differ by up to two grey levels; comparisons need one order.
    """
    across = image.resize((size, image.height), Image.Resampling.BICUBIC)
    return across.resize((size, size), Image.Resampling.BICUBIC)


def plain_picture(
    binary: str, config: TransformConfig, size: int, rng: Generator, resize: Resize = in_one_call
) -> Tensor:
    """A picture as the encoder wants it, [3, S, S] float32 in [0, 1].

    Args:
        binary: an encoded picture in base64.
        config: crop, flip and augmentation; a crop is needed.
        size: S.
        rng: the sample's own generator.
        resize: how PIL brings the crop to S × S.
    """
    image = Image.open(io.BytesIO(base64.b64decode(binary))).convert("RGB")
    view = draw_view(image.size, config, rng)
    assert view.crop is not None
    image = resize(image.crop(view.crop), size)
    if view.flip:
        image = F.hflip(image)
    for which, chance, sign in rng.random((config.augment_operations, 3)).tolist():
        if chance < 0.5:
            operation = OPERATIONS[int(which * len(OPERATIONS))]
            image = operation(image, config.augment_level / 10, 1 if sign < 0.5 else -1)
    return F.to_tensor(image)


def _affine(
    image: Image.Image,
    angle: float = 0.0,
    translate: tuple[int, int] = (0, 0),
    shear: tuple[float, float] = (0.0, 0.0),
    center: list[int] | None = None,
) -> Image.Image:
    degrees = [math.degrees(math.atan(value)) for value in shear]
    return F.affine(
        image, angle, list(translate), 1.0, degrees, InterpolationMode.BILINEAR, fill=FILL, center=center
    )


OPERATIONS: tuple[Operation, ...] = (
    lambda image, strength, sign: image,
    lambda image, strength, sign: F.autocontrast(image),
    lambda image, strength, sign: F.equalize(image),
    lambda image, strength, sign: F.adjust_brightness(image, strength * 1.8 + 0.1),
    lambda image, strength, sign: F.adjust_sharpness(image, strength * 1.8 + 0.1),
    lambda image, strength, sign: _affine(image, shear=(sign * strength * 0.3, 0), center=[0, 0]),
    lambda image, strength, sign: _affine(image, shear=(0, sign * strength * 0.3), center=[0, 0]),
    lambda image, strength, sign: _affine(image, translate=(sign * round(strength * 10), 0)),
    lambda image, strength, sign: _affine(image, translate=(0, sign * round(strength * 10))),
    lambda image, strength, sign: _affine(image, angle=sign * strength * 30),
)
"""Of the published RandAugment, in the order of x2kit, so that equal draws mean equal operations."""

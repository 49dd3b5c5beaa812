"""Prepare images the plain way: every operation by PIL, on the whole image, one image after the other.

It is written as the official code does it (dataset/pretrain_dataset.py, dataset/randaugment.py), with PIL in the place
of OpenCV: base64 → PIL → RandomResizedCrop (bicubic) → flip → RandAugment → tensor. Chance is a generator from which
it draws as x2kit does, so that both show the same. Texts are cleaned, tokenised, masked and padded one by one, each to
the limit of tokens (dataset/utils.py, `TextMaskingGenerator`), and rows are collated at the end.
"""

from __future__ import annotations

import base64
import io
import json
import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from x2kit.data.config import MaskingConfig, StreamConfig, TransformConfig
from x2kit.data.transforms.text import clean
from x2kit.data.transforms.view import draw_view
from x2kit.plugin import Tokenizer

FILL = [128, 128, 128]
Resize = Callable[[Image.Image, int], Image.Image]
Operation = Callable[[Image.Image, float, int], Image.Image]
"""Image, strength in [0, 1], sign."""


def in_one_call(image: Image.Image, size: int) -> Image.Image:
    """Resize to a square, bicubic."""
    return image.resize((size, size), Image.Resampling.BICUBIC)


def rows_first(image: Image.Image, size: int) -> Image.Image:
    """Resize rows first, then columns.

    In one call Pillow orders the two passes as it finds quicker, by rules that change between its versions. Between
    them it rounds, so that its own results differ by up to two grey levels; comparisons need one order.
    """
    across = image.resize((size, image.height), Image.Resampling.BICUBIC)
    return across.resize((size, size), Image.Resampling.BICUBIC)


def plain_image(
    binary: str, config: TransformConfig, size: int, rng: Generator, resize: Resize = in_one_call
) -> Tensor:
    """Prepare an image for the encoder: [3, S, S] float32 in [0, 1].

    Args:
        binary: an encoded image in base64.
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


class PlainBatch(NamedTuple):
    """images [B, 3, S, S], ids and masked ids [B, L], mask [B, L], positions and labels of the masked tokens [B, K]."""

    images: Tensor
    ids: Tensor
    mask: Tensor
    masked_ids: Tensor
    positions: Tensor
    labels: Tensor


def plain_batch(records: Sequence[str], config: StreamConfig, size: int, tokenizer: Tokenizer) -> PlainBatch:
    """Build a batch from lines of JSON, one record after the other."""
    rows = []
    for seed, line in enumerate(records):
        record = json.loads(line)
        image = plain_image(record["binary"], config.transform, size, np.random.default_rng(seed))
        (ids,) = tokenizer.encode([clean(record["caption"], config.max_words)], config.max_tokens)
        hidden, positions, labels = plain_masks(ids, config.masking, tokenizer, random.Random(seed))
        padding, gaps = config.max_tokens - len(ids), config.masking.max_masks - len(positions)
        pad = [tokenizer.special.pad] * padding
        rows.append(
            (
                image,
                torch.tensor(ids + pad),
                torch.tensor([1] * len(ids) + [0] * padding),
                torch.tensor(hidden + pad),
                torch.tensor(positions + [0] * gaps),
                torch.tensor(labels + [-100] * gaps),
            )
        )
    return PlainBatch(*(torch.stack(parts) for parts in zip(*rows, strict=True)))


def plain_masks(
    ids: list[int], config: MaskingConfig, tokenizer: Tokenizer, rng: random.Random
) -> tuple[list[int], list[int], list[int]]:
    """Mask tokens by the rules of `x2kit.data.transforms.masking`. Returns: ids, positions and labels."""
    wanted = min(config.max_masks, max(1, round(len(ids) * config.mask_prob)))
    order, chosen = list(range(1, len(ids))), set[int]()
    rng.shuffle(order)
    for place in order:
        if len(chosen) >= wanted:
            break
        if place in chosen:
            continue
        first, end = place, place + 1
        if rng.random() < config.skipgram_prob:
            end += rng.randint(2, config.skipgram_size) - 1
        if config.whole_words:
            while first > 1 and not tokenizer.starts_word([ids[first]])[0]:
                first -= 1
            while end < len(ids) and not tokenizer.starts_word([ids[end]])[0]:
                end += 1
        chosen.update(range(first, min(end, len(ids))))
    positions = sorted(rng.sample(sorted(chosen), min(wanted, len(chosen))))
    hidden = list(ids)
    for position in positions:
        fate = rng.random()
        if fate < 0.8:
            hidden[position] = tokenizer.special.mask
        elif fate < 0.9:
            hidden[position] = rng.randrange(tokenizer.vocab_size)
    return hidden, positions, [ids[position] for position in positions]

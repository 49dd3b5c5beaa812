"""Paint backgrounds: one colour, a linear gradient, or coloured noise."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from x2kit_emoji.compositions import below
from x2kit_emoji.dataset import Background


def paint_background(rng: np.random.Generator, kind: Background, size: int) -> Image.Image:
    """Paint a square RGB image of `size` pixels a side."""
    if kind == "plain":
        return Image.new("RGB", (size, size), tuple(below(rng, 256) for _ in range(3)))
    if kind == "gradient":
        return _gradient(rng, size)
    return _noise(rng, size)


def _gradient(rng: np.random.Generator, size: int) -> Image.Image:
    x, y = _axes(size)
    angle = rng.random() * 2 * np.pi
    along = np.cos(angle) * x + np.sin(angle) * y  # in [-sqrt(2), sqrt(2)]
    share = (along - along.min()) / (along.max() - along.min())
    start, stop = rng.random((2, 3)).astype(np.float32) * 255
    return Image.fromarray((start + share[..., None] * (stop - start)).astype(np.uint8))


def _noise(rng: np.random.Generator, size: int) -> Image.Image:
    """Paint coarse spots of up to a quarter of the range around one colour, so that emoji stay visible."""
    cells = 4 + below(rng, 13)
    colour = rng.random(3) * 255
    spots = colour + (rng.random((cells, cells, 3)) - 0.5) * 128
    coarse = Image.fromarray(np.clip(spots, 0, 255).astype(np.uint8))
    return coarse.resize((size, size), Image.Resampling.BILINEAR)


@lru_cache(maxsize=4)
def _axes(size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    line = np.linspace(-1, 1, size, dtype=np.float32)
    return line[None, :], line[:, None]

"""Convert images of any channels and depth to displayable 8-bit images. Imports no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from x2kit.data.media.images import Loaded
from x2kit.data.media.pixel_arrays import to_unit
from x2kit.plugin.facts import ImageSpec

_DARKEST, _BRIGHTEST = 2, 98
"""Percentiles of a channel mapped to black and white, usual for satellite tiles."""


def visible(loaded: Loaded, spec: ImageSpec) -> Image.Image:
    """Convert an image read for an encoder; 8-bit grey and colour images are returned unchanged."""
    if isinstance(loaded, Image.Image):
        return loaded
    return visible_unit(to_unit(loaded, spec.value_range or (0, 255)), spec)


def visible_unit(pixels: NDArray[np.float32], spec: ImageSpec) -> Image.Image:
    """Convert pixels [H, W, C] in [0, 1] to RGB if `spec` names colours or C is at least 3, else to grey.

    Images that are not 8-bit grey or RGB get their contrast stretched by channel: a 12-bit radiograph or the
    reflectance of a forest would otherwise be black.
    """
    channels = spec.colours or ((0, 1, 2) if pixels.shape[2] >= 3 else (0,))
    shown = pixels[..., list(channels)]
    if spec.value_range is not None or pixels.shape[2] not in (1, 3):
        shown = np.stack([_stretched(shown[..., band]) for band in range(len(channels))], -1)
    bytes_ = (shown * 255).round().astype(np.uint8)
    return Image.fromarray(bytes_ if len(channels) == 3 else np.ascontiguousarray(bytes_[..., 0]))


def _stretched(band: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.percentile(band, (_DARKEST, _BRIGHTEST)).astype(np.float32)
    return band if high <= low else ((band - low) / (high - low)).clip(0, 1)

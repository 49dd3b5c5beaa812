"""Images of any channels and depth as people can look at them. Imports no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from x2kit.data.media.images import Loaded
from x2kit.data.media.pixel_arrays import to_unit
from x2kit.plugin.facts import ImageSpec

_DARKEST, _BRIGHTEST = 2, 98
"""Per cent of the numbers of a channel that become black, and that do not become white: usual for satellite tiles."""


def visible(loaded: Loaded, spec: ImageSpec) -> Image.Image:
    """An image that was read for an encoder; one of 8 bits in grey or colour is left as it is."""
    if isinstance(loaded, Image.Image):
        return loaded
    return visible_unit(to_unit(loaded, spec.value_range or (0, 255)), spec)


def visible_unit(pixels: NDArray[np.float32], spec: ImageSpec) -> Image.Image:
    """Numbers [H, W, C] in [0, 1] as colours where `spec` names them or there are three channels, else as grey.

    What an ordinary image is not is stretched, each channel for itself: a radiograph of 12 bits, or the
    reflectance of a forest, would be black.
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

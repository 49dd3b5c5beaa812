"""Random convolution: other colours and textures, the same shapes (Xu et al. 2021, arXiv:2007.13003). Imports torch.

A model that sees images of one style, camera or stain tells things by colours and textures that other styles lack. A
convolution with weights drawn anew for each image changes both, keeps outlines where they are, and leaves boxes valid.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch.nn import functional as F


def convolve_randomly(
    pixels: NDArray[np.uint8] | NDArray[np.float32], rng: Generator, sides: Sequence[int]
) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Mix an image with its convolution, in a random proportion.

    Kernels have independent weights of mean 0 and variance 1 / (channels · side²), which keeps the variance of white
    noise. The image is convolved about its middle grey, so that this stays.

    Args:
        pixels: [H, W, C], uint8 from 0 to 255 or float32 from 0 to 1.
        rng: the sample's generator; a side, a proportion and the weights are drawn.
        sides: of the kernels, in pixels, odd.
    Returns: of the same shape and type; values outside the range are clipped.
    """
    channels = pixels.shape[2]
    side = sides[int(rng.random() * len(sides))]
    share = rng.random()
    weights = rng.standard_normal((channels, channels, side, side), dtype=np.float32)
    weights /= np.sqrt(channels * side**2)
    whole = np.float32(255 if pixels.dtype == np.uint8 else 1)
    centred = torch.from_numpy(pixels.transpose(2, 0, 1) / whole - np.float32(0.5))[None]
    padded = F.pad(centred, [side // 2] * 4, mode="replicate")
    mixed = share * centred + (1 - share) * F.conv2d(padded, torch.from_numpy(weights))
    found: NDArray[np.float32] = ((mixed[0].permute(1, 2, 0).numpy() + 0.5) * whole).clip(0, whole)
    return found.round().astype(np.uint8) if pixels.dtype == np.uint8 else found

"""Draw boxes and heat maps on images at their original resolution. Imports no torch.

H, W height and width of an image in pixels; h, w rows and columns of a map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Rectangle = tuple[float, float, float, float]
"""x, y, width, height in pixels; x and y are the left upper corner."""

BOX_COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's palette, distinct with any colour vision; by rank, repeated after the last."""
HEAT_COLOURS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
"""The colour map inferno at 0, 1/4, 1/2, 3/4 and 1."""
OPACITY = 0.7
"""Opacity of the highest heat; that of 0 is 0."""
LINE_SHARE, FONT_SHARE, SMALLEST_FONT = 150, 25, 9
"""The shorter side of an image is divided by these for line width and font size, in pixels."""


def draw_boxes(
    image: Image.Image, boxes: Sequence[Rectangle], probabilities: Sequence[float] = ()
) -> Image.Image:
    """Draw boxes on a copy of an image, the first on top.

    Args:
        image: any PIL image.
        boxes: best first.
        probabilities: written at the boxes; NaN is not.
    """
    drawn = image.convert("RGB")
    pen, line = ImageDraw.Draw(drawn), max(1, min(drawn.size) // LINE_SHARE)
    shown = [*probabilities, *[math.nan] * (len(boxes) - len(probabilities))]
    for rank in reversed(range(len(boxes))):
        x, y, width, height = boxes[rank]
        colour = BOX_COLOURS[rank % len(BOX_COLOURS)]
        corners = (x, y, max(x, x + width - 1), max(y, y + height - 1))
        pen.rectangle(corners, outline=colour, width=line)
        if not math.isnan(shown[rank]):
            _label(pen, f"{shown[rank]:.2f}", (x, y), colour, drawn.size)
    return drawn


def _label(
    pen: ImageDraw.ImageDraw, text: str, corner: tuple[float, float], colour: str, size: tuple[int, int]
) -> None:
    """Write a number above a corner, or inside the image where there is no room."""
    font = ImageFont.load_default(max(SMALLEST_FONT, min(size) // FONT_SHARE))
    _, _, width, height = pen.textbbox((0, 0), text, font=font)
    left = max(0, min(corner[0], size[0] - width - 2))
    top = max(0, corner[1] - height - 2)
    pen.rectangle((left, top, left + width + 2, top + height + 2), fill=colour)
    pen.text((left + 1, top + 1), text, fill="white", font=font)


def draw_heat(image: Image.Image, heat: NDArray[np.float32]) -> Image.Image:
    """Lay a map over a copy of an image; the higher the heat, the more opaque.

    Args:
        image: any PIL image, [H, W].
        heat: [h, w] in [0, 1]; enlarged bilinearly.
    """
    base = np.asarray(image.convert("RGB"), np.float32)
    fine = np.asarray(Image.fromarray(heat).resize(image.size, Image.Resampling.BILINEAR)).clip(0, 1)
    stops = np.linspace(0, 1, len(HEAT_COLOURS))
    colours = np.stack([np.interp(fine, stops, band) for band in np.transpose(HEAT_COLOURS)], -1)
    weight = OPACITY * fine[..., None]
    return Image.fromarray((base * (1 - weight) + colours * weight).round().astype(np.uint8))

"""Boxes of regions: checked, and moved along with the image (X²-VLM, pre-training)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from x2kit.data.transforms.view import Crop, View
from x2kit.errors import DataError, Reason

Boxes: TypeAlias = NDArray[np.float64]
"""[R, 4]; float64, so that they touch the patches that they touch in the official code."""
WHOLE = (0.5, 0.5, 1.0, 1.0)
"""The box of the whole image, cxcywh."""
MIN_SHARE = 0.5
"""A box stays if more than this share of its area is inside the crop."""
_TOLERANCE = 1e-3  # pixels: boxes that come from arithmetic may stand out by a rounding error


class Placed(NamedTuple):
    """Boxes after crop and flip.

    Attributes:
        kept: [R] bool.
        bbox: [R, 4] cxcywh in [0, 1] of the view; without meaning where not kept.
    """

    kept: NDArray[np.bool_]
    bbox: Boxes


def read_boxes(boxes: Sequence[Any], size: tuple[int, int]) -> Boxes:
    """Boxes as an array [R, 4] of x, y, width, height in pixels.

    Args:
        boxes: as records hold them.
        size: width and height of the image.
    Raises: DataError for a box that is not four numbers, has no area, or lies partly outside.
    """
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused below
            array = np.array(boxes, dtype=np.float64).reshape(len(boxes), 4)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"a box is x, y, width and height, found {list(boxes)}", reason=Reason.BOX_TYPE
        ) from error
    x, y, w, h = array.T
    sound = np.isfinite(array).all(1) & (w > 0) & (h > 0)
    if not sound.all():
        number = int(sound.argmin())
        raise DataError(f"box {boxes[number]} of region {number} has no area", reason=Reason.BOX_EMPTY)
    inside = (x >= -_TOLERANCE) & (y >= -_TOLERANCE)
    inside &= (x + w <= size[0] + _TOLERANCE) & (y + h <= size[1] + _TOLERANCE)
    if not inside.all():
        number = int(inside.argmin())
        raise DataError(
            f"box {boxes[number]} of region {number} lies outside its image, {size[0]} x {size[1]} pixels",
            reason=Reason.BOX_OUTSIDE,
        )
    return array


def guided_crop(box: Sequence[float], size: tuple[int, int], rng: Generator) -> Crop:
    """A random part of the image that keeps one box whole.

    Args:
        box: x, y, width, height in pixels.
        size: width and height of the image.
    """
    left, top, right, bottom = rng.random(4).tolist()
    x, y, w, h = box
    width, height = size
    end_x, end_y = min(math.ceil(x + w), width), min(math.ceil(y + h), height)
    return (
        int(left * (math.floor(max(x, 0)) + 1)),
        int(top * (math.floor(max(y, 0)) + 1)),
        end_x + int(right * (width - end_x + 1)),
        end_y + int(bottom * (height - end_y + 1)),
    )


def place_boxes(boxes: Boxes, view: View, min_share: float = MIN_SHARE) -> Placed:
    """Boxes in a view of their image.

    A box stays if more than `min_share` of its area is inside the crop; it is clipped to it.

    Args:
        boxes: [R, 4] x, y, width, height in pixels of the whole image.
        view: what is seen.
    """
    # The arithmetic of torchvision's crop and flip of boxes, whose calls cost more than a small image's rendering.
    x0, y0, x1, y1 = view.crop or (0, 0, *view.size)
    left, top = np.maximum(boxes[:, 0], x0) - x0, np.maximum(boxes[:, 1], y0) - y0
    right = np.minimum(boxes[:, 0] + boxes[:, 2], x1) - x0
    bottom = np.minimum(boxes[:, 1] + boxes[:, 3], y1) - y0
    w, h = right - left, bottom - top
    kept = (w > 0) & (h > 0) & (w * h > min_share * boxes[:, 2] * boxes[:, 3])
    width, height = x1 - x0, y1 - y0
    middle = (left + right) / 2
    x = width - middle if view.flip else middle
    bbox = np.stack([x / width, (top + bottom) / 2 / height, w / width, h / height], 1)
    return Placed(kept, bbox)

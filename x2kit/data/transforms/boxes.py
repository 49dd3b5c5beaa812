"""Validate the boxes of regions, and crop and flip them with their image (X²-VLM, pre-training)."""

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
"""[R, 4]; float64, so that boxes cover the same patches as in the official code."""
WHOLE = (0.5, 0.5, 1.0, 1.0)
"""The box of the whole image, cxcywh."""
MIN_SHARE = 0.5
"""A box is kept if more than this share of its area is inside the crop."""
_TOLERANCE = 1e-3  # pixels: computed boxes may exceed the image by a rounding error


class PlacedBoxes(NamedTuple):
    """Boxes after crop and flip.

    Attributes:
        kept: [R] bool.
        bbox: [R, 4] cxcywh in [0, 1] of the view; undefined where not kept.
    """

    kept: NDArray[np.bool_]
    bbox: Boxes


def read_boxes(boxes: Sequence[Any], size: tuple[int, int]) -> Boxes:
    """Validate boxes of a record and return them as array [R, 4] of x, y, width, height in pixels.

    Args:
        boxes: as in the record.
        size: width and height of the image.
    Raises: DataError for a box that is not four numbers, has no area, or lies partly outside the image.
    """
    try:
        with np.errstate(
            over="ignore"
        ):  # a number too large for float64 becomes infinite and is rejected below
            array = np.array(boxes, dtype=np.float64).reshape(len(boxes), 4)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"a box must be [x, y, width, height], found {list(boxes)}", reason=Reason.BOX_TYPE
        ) from error
    x, y, w, h = array.T
    has_area = np.isfinite(array).all(1) & (w > 0) & (h > 0)
    if not has_area.all():
        number = int(has_area.argmin())
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
    """Draw a random crop that contains one box entirely.

    Args:
        box: x, y, width, height in pixels.
        size: width and height of the image.
        rng: the sample's generator.
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


def place_boxes(boxes: Boxes, view: View, min_share: float = MIN_SHARE) -> PlacedBoxes:
    """Crop and flip boxes with their image.

    A box is kept if more than `min_share` of its area is inside the crop, and clipped to the crop.

    Args:
        boxes: [R, 4] x, y, width, height in pixels of the whole image.
        view: crop and flip of the image.
        min_share: share of the area.
    """
    # The arithmetic of torchvision's crop and flip of boxes, whose calls take longer than rendering a small image.
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
    return PlacedBoxes(kept, bbox)

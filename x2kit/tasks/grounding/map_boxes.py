"""Turn the map of a text over the patches of an image into a box. Imports torch.

The score of a box is the sum of the map inside, divided by a power of its area (MAttNet, arXiv:1801.08186; X-VLM,
Grounding.py): without the division the largest box wins, with the area itself the brightest point.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

Box = Sequence[float]
"""x, y, width and height in pixels."""
SHARE_OF_PEAK = 0.2
"""Share of a map's maximum that the places of `boxes_of_peaks` reach."""
ENLARGED = 8
"""Points along a patch in `boxes_of_peaks`."""


def detection_scores(heat: Tensor, size: tuple[int, int], detections: Sequence[Box], alpha: float) -> Tensor:
    """Score the boxes of a detector on a map that is resized to the image.

    Corners are cut to whole pixels and to the image, the area is not, as in the official code. That code reads a
    negative corner from the other side of the image instead.

    Args:
        heat: [rows, columns], the map.
        size: width and height of the image in pixels.
        detections: D boxes with width and height above 0.
        alpha: power of the area.
    Returns: [D] float32.
    """
    width, height = size
    # Bicubic as in PIL, without antialiasing; it overshoots, so sums can be negative.
    resized = F.interpolate(heat[None, None].float(), (height, width), mode="bicubic", align_corners=False)[
        0, 0
    ]

    def inside(x: float, y: float, w: float, h: float) -> Tensor:
        left, top, right, bottom = (max(int(edge), 0) for edge in (x, y, x + w, y + h))
        return resized[top:bottom, left:right].sum()

    return torch.stack([inside(*box) / (box[2] * box[3]) ** alpha for box in detections])


def best_detection(
    heat: Tensor, size: tuple[int, int], detections: Sequence[Box], alpha: float
) -> tuple[float, ...]:
    """Return the detection of the highest score, the first of equal ones; arguments as `detection_scores`.

    It may be 0 or negative; where no score is above 0 the official code returns the box of the image before.
    """
    return tuple(detections[int(detection_scores(heat, size, detections, alpha).argmax())])


def box_of_map(heat: Tensor, size: tuple[int, int], alpha: float) -> tuple[float, ...]:
    """Return the box of whole patches with the highest score; the whole image for a map of zeros.

    Args:
        heat: [rows, columns], the map, not negative.
        size: width and height of the image in pixels.
        alpha: power of the area, which is counted in patches.
    """
    rows, columns = heat.shape
    width, height = size
    if not heat.any():
        return (0.0, 0.0, float(width), float(height))
    sums = F.pad(heat.double().cumsum(0).cumsum(1), (1, 0, 1, 0))  # of all patches above and to the left
    top, bottom = torch.combinations(torch.arange(rows + 1)).T
    left, right = torch.combinations(torch.arange(columns + 1)).T
    inside = (sums[bottom] - sums[top])[:, right] - (sums[bottom] - sums[top])[:, left]
    area = (bottom - top)[:, None] * (right - left)
    down, across = divmod(int((inside / area**alpha).argmax()), len(left))
    x, y = int(left[across]) * width / columns, int(top[down]) * height / rows
    return (x, y, int(right[across]) * width / columns - x, int(bottom[down]) * height / rows - y)


def boxes_of_peaks(heat: Tensor, count: int) -> Tensor:
    """Return boxes of the brightest connected places of a map, brightest first.

    The map is enlarged bilinearly. A place is a connected part with a fifth of the map's maximum or more, as for class
    activation maps (arXiv:1512.04150).

    Args:
        heat: [rows, columns], the map, not negative.
        count: maximum number of boxes.
    Returns: [count or fewer, 4] float64, corners x0, y0, x1, y1 as shares of the image's sides; the whole image for a
        map of zeros.
    """
    if not heat.any():
        return torch.tensor([[0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    fine = F.interpolate(
        heat[None, None].float(), scale_factor=ENLARGED, mode="bilinear", align_corners=False
    )
    values = fine[0, 0].cpu().numpy()
    places, number = ndimage.label(values >= SHARE_OF_PEAK * values.max())
    peaks = ndimage.maximum(values, places, range(1, number + 1))
    slices = ndimage.find_objects(places)
    order = sorted(range(number), key=lambda place: -peaks[place])[:count]
    corners = [
        [across.start, down.start, across.stop, down.stop] for down, across in (slices[i] for i in order)
    ]
    height, width = values.shape
    return torch.tensor(corners, dtype=torch.float64) / torch.tensor([width, height, width, height])

"""Locate texts in an image: the box head, then the brightest places of the heat map. Imports torch.

T texts, R boxes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from x2kit.inference.explaining import ROWS_AT_ONCE, text_heat
from x2kit.inference.one_image import OneImage, Picture, computing, encode_one
from x2kit.inference.results import Location
from x2kit.model.inputs import ImageInput, text_list
from x2kit.tasks.grounding.map_boxes import boxes_of_peaks

if TYPE_CHECKING:
    from x2kit.inference.model import Model

SAME_PLACE = 0.5
"""Candidates whose intersection over union with a better one exceeds this are dropped."""


def locate_all(
    model: Model, image: ImageInput, texts: str | Iterable[str], candidates: int = 1
) -> list[Location]:
    """Locate texts in one image; see `Model.locate_all`."""
    if not model.has("itm"):
        model.require_part("bbox")
    texts = text_list(texts)
    if not texts:
        model.reader.read_one(image)
        return []
    with computing(model):
        one = encode_one(model, image, texts)
        corners, methods = _corners(model, one, candidates)
        rows = [torch.full((len(found),), row, device=model.device) for row, found in enumerate(corners)]
        boxes = [
            box
            for part, of_texts in zip(
                torch.split(torch.cat(corners), ROWS_AT_ONCE),
                torch.split(torch.cat(rows), ROWS_AT_ONCE),
                strict=True,
            )
            for box in one.boxes(part, of_texts)
        ]
    picture, given = Picture(image, model.reader.spec), iter(boxes)
    return [
        Location(one.name, text, [next(given) for _ in found], "; ".join(methods), picture)
        for text, found in zip(texts, corners, strict=True)
    ]


def _corners(model: Model, one: OneImage, candidates: int) -> tuple[list[Tensor], list[str]]:
    """Return the boxes [R, 4] of each text as corners in [0, 1], best first, and how they were found."""
    found: list[Tensor] = [one.tokens.new_zeros(0, 4, dtype=torch.float64)] * len(one.ids)
    methods = []
    if model.has("bbox"):
        found = list(_predicted(one)[:, None])
        methods.append("box head")
    if model.has("itm") and (candidates > 1 or not methods):
        heat = text_heat(one)
        places = [boxes_of_peaks(each.view(one.grid), candidates).to(each.device) for each in heat.maps]
        found = [_distinct(torch.cat(both))[:candidates] for both in zip(found, places, strict=True)]
        methods.append(f"places of the map by {heat.method}")
    return found, methods


def _predicted(one: OneImage) -> Tensor:
    """Predict the box of each text with the box head, cut to the image: [T, 4] float64 corners."""
    fused = one.module.fuse(one.tokens, one.mask, one.context(), summary_rows=len(one.ids))
    corners: Tensor = box_convert(one.module.predict_bbox(fused).double(), "cxcywh", "xyxy")
    return corners.clamp(0, 1)


def _distinct(corners: Tensor) -> Tensor:
    """Drop boxes that lie where an earlier one does."""
    overlap = box_iou(corners, corners)
    kept: list[int] = []
    for row in range(len(corners)):
        if not kept or overlap[row, kept].max() <= SAME_PLACE:
            kept.append(row)
    return corners[kept]

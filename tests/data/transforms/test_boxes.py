"""Validation, crop and flip of boxes; tests/parity compares them with recorded values of the official code."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat

from x2kit.data.pipeline.collation import regions_of
from x2kit.data.pipeline.samples import RegionTexts
from x2kit.data.transforms.boxes import Boxes, guided_crop, place_boxes, read_boxes
from x2kit.data.transforms.view import View
from x2kit.errors import DataError
from x2kit.model.regions import patch_mask


@pytest.mark.parametrize(("beyond", "touched"), [(0.0, 1), (1e-9, 2)])
def test_an_edge_just_beyond_a_patch_border_covers_the_next_patch(beyond: float, touched: int) -> None:
    placed = place_boxes(read_boxes([[0, 0, 16 + beyond, 16]], (224, 224)), View((224, 224)))
    bbox = regions_of(RegionTexts(["dog"], [tuple(placed.bbox[0])], [False])).bbox
    assert patch_mask(bbox, (14, 14)).sum() == touched


def test_boxes_are_only_normalised_without_crop_and_flip() -> None:
    placed = place_boxes(read_boxes([[10, 20, 30, 40]], (100, 200)), View((100, 200)))
    assert placed.kept.tolist() == [True]
    np.testing.assert_allclose(placed.bbox[0], [0.25, 0.2, 0.3, 0.2], rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ([0, 0, 0, 5], "box without area"),
        ([0, 0, 5, -1], "box without area"),
        ([math.nan, 0, 5, 5], "box without area"),
        ([math.inf, 0, 5, 5], "box without area"),
        ([0, 0, 5], "box not four numbers"),
        (["a", 0, 5, 5], "box not four numbers"),
        (None, "box not four numbers"),
        ([-1, 0, 5, 5], "box outside its image"),
        ([28, 0, 5, 5], "box outside its image"),
        ([0, 12, 5, 5], "box outside its image"),
    ],
)
def test_an_invalid_box_is_rejected_with_region_and_reason(box: Any, reason: str) -> None:
    with pytest.raises(DataError) as found:
        read_boxes([[1, 1, 5, 5], box], (32, 16))
    assert found.value.reason == reason
    if reason != "box not four numbers":
        assert "of region 1" in str(found.value)


def test_a_box_may_exceed_the_edge_by_a_rounding_error() -> None:
    read_boxes([[0, 0, 32, 16], [-1e-5, 0, 32.0001, 16]], (32, 16))


SIDES = st.integers(1, 60)


@st.composite
def boxed(draw: st.DrawFn) -> tuple[tuple[int, int], list[list[float]]]:
    width, height = draw(SIDES), draw(SIDES)
    boxes = []
    for _ in range(draw(st.integers(1, 4))):
        x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        boxes.append(
            [
                float(x),
                float(y),
                draw(st.floats(0.5, 1)) * (width - x),
                draw(st.floats(0.5, 1)) * (height - y),
            ]
        )
    return (width, height), boxes


@given(scene=boxed(), seed=st.integers(0, 1000))
def test_a_guided_crop_contains_its_box(scene: tuple[tuple[int, int], list[list[float]]], seed: int) -> None:
    size, boxes = scene
    x0, y0, x1, y1 = guided_crop(boxes[0], size, np.random.default_rng(seed))
    x, y, w, h = boxes[0]
    assert 0 <= x0 <= x < x + w <= x1 <= size[0]
    assert 0 <= y0 <= y < y + h <= y1 <= size[1]
    placed = place_boxes(read_boxes(boxes, size), View(size, (x0, y0, x1, y1)))
    assert placed.kept[0]
    np.testing.assert_allclose(placed.bbox[0][2:] * [x1 - x0, y1 - y0], [w, h], rtol=1e-4)


@given(scene=boxed(), seed=st.integers(0, 1000), flip=st.booleans())
def test_kept_boxes_lie_in_the_view_and_cover_the_same_pixels(
    scene: tuple[tuple[int, int], list[list[float]]], seed: int, flip: bool
) -> None:
    size, boxes = scene
    crop = guided_crop(boxes[0], size, np.random.default_rng(seed))
    placed = place_boxes(read_boxes(boxes, size), View(size, crop, flip))
    width = crop[2] - crop[0]
    for kept, (cx, cy, w, h), (x, _, bw, _) in zip(placed.kept, placed.bbox, boxes, strict=True):
        if not kept:
            continue
        assert w > 0
        assert h > 0
        assert -1e-5 <= cx - w / 2 <= cx + w / 2 <= 1 + 1e-5
        assert -1e-5 <= cy - h / 2 <= cy + h / 2 <= 1 + 1e-5
        left = (1 - cx - w / 2 if flip else cx - w / 2) * width + crop[0]  # in pixels of the whole image
        assert left == pytest.approx(max(x, crop[0]), abs=1e-3)
        assert w * width == pytest.approx(min(x + bw, crop[2]) - max(x, crop[0]), abs=1e-3)


def by_torchvision(boxes: Boxes, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Crop and flip boxes with torchvision's tv_tensors."""
    width, height = view.size
    moved = BoundingBoxes(torch.from_numpy(boxes), format=BoundingBoxFormat.XYWH, canvas_size=(height, width))
    if view.crop is not None:
        x0, y0, x1, y1 = view.crop
        width, height = x1 - x0, y1 - y0
        moved = F.crop(moved, y0, x0, height, width)
    if view.flip:
        moved = F.horizontal_flip(moved)
    area = moved[:, 2] * moved[:, 3]
    centred = F.convert_bounding_box_format(moved, new_format=BoundingBoxFormat.CXCYWH)
    return area.numpy() / boxes[:, 2:].prod(1), centred.numpy() / [width, height, width, height]


@given(scene=boxed(), seed=st.integers(0, 1000), flip=st.booleans(), cropped=st.booleans())
def test_boxes_are_transformed_as_by_torchvision(
    scene: tuple[tuple[int, int], list[list[float]]], seed: int, flip: bool, cropped: bool
) -> None:
    size, listed = scene
    boxes = read_boxes(listed, size)
    crop = guided_crop(listed[0], size, np.random.default_rng(seed)) if cropped else None
    placed = place_boxes(boxes, View(size, crop, flip))
    shares, expected = by_torchvision(boxes, View(size, crop, flip))
    clear = abs(shares - 0.5) > 1e-4  # at the threshold itself rounding decides
    assert (placed.kept == (shares > 0.5))[clear].all()
    np.testing.assert_allclose(placed.bbox[placed.kept], expected[placed.kept], rtol=0, atol=1e-5)


def test_guided_crops_reach_every_side_of_the_image() -> None:
    rng = np.random.default_rng(0)
    crops = np.array([guided_crop([10, 10, 5, 5], (30, 30), rng) for _ in range(500)])
    assert crops.min(0).tolist() == [0, 0, 15, 15]
    assert crops.max(0).tolist() == [10, 10, 30, 30]

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from torchvision.ops import box_convert, generalized_box_iou_loss

from x2kit.objectives import bbox_loss, giou_loss
from x2kit.objectives.boxes import iou_and_giou

numbers = st.integers(1, 16).map(lambda n: n / 16)
boxes = st.tuples(numbers, numbers, numbers, numbers)


def tensor(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)


@settings(max_examples=80)
@given(st.lists(st.tuples(boxes, boxes), min_size=1, max_size=5))
def test_generalised_iou_equals_torchvisions(
    pairs: list[tuple[tuple[float, ...], tuple[float, ...]]],
) -> None:
    predicted, target = (tensor(*(pair[side] for pair in pairs)) for side in (0, 1))
    first, second = (box_convert(box, "cxcywh", "xyxy") for box in (predicted, target))
    expected = generalized_box_iou_loss(first, second, reduction="mean", eps=0)
    assert_close(giou_loss(predicted, target), expected, rtol=0, atol=1e-5)


def test_iou_and_l1_of_boxes_side_by_side() -> None:
    # 0.2 wide each with 0.2 between them: hull 0.6 x 0.2, union 0.08
    left, right = tensor((0.2, 0.5, 0.2, 0.2)), tensor((0.6, 0.5, 0.2, 0.2))
    iou, giou = iou_and_giou(left, right)
    assert iou.item() == 0
    assert_close(giou.item(), -(0.12 - 0.08) / 0.12, rtol=0, atol=1e-6)
    assert_close(bbox_loss(left, right).item(), 0.4, rtol=0, atol=1e-6)


def test_iou_of_a_box_inside_another() -> None:
    iou, giou = iou_and_giou(tensor((0.5, 0.5, 0.5, 0.5)), tensor((0.5, 0.5, 1.0, 1.0)))
    assert_close((iou.item(), giou.item()), (0.25, 0.25))


def test_l1_is_summed_over_coordinates_and_averaged_over_rows() -> None:
    predicted = tensor((0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5))
    target = tensor((0.25, 0.75, 0.5, 1.0), (0.5, 0.5, 0.5, 0.5))
    assert_close(bbox_loss(predicted, target).item(), (0.25 + 0.25 + 0.5) / 2)


def test_a_perfect_box_costs_nothing() -> None:
    box = tensor((0.3, 0.4, 0.2, 0.1))
    assert bbox_loss(box, box).item() == 0
    assert_close(giou_loss(box, box).item(), 0.0, rtol=0, atol=1e-6)


@pytest.mark.parametrize("loss", [bbox_loss, giou_loss])
def test_rows_about_whole_images_do_not_count(loss: object) -> None:
    predicted = tensor((0.5, 0.5, 0.5, 0.5), (0.9, 0.1, 0.1, 0.1)).requires_grad_()
    target = tensor((0.4, 0.5, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0))
    found = loss(predicted, target, torch.tensor([True, False]))  # type: ignore[operator]
    assert_close(found, loss(predicted[:1], target[:1]))  # type: ignore[operator]
    found.backward()
    assert not predicted.grad[1].any()
    assert predicted.grad[0].any()


@pytest.mark.parametrize("loss", [bbox_loss, giou_loss])
def test_a_batch_of_whole_images_has_no_box_loss(loss: object) -> None:
    predicted, target = tensor((0.5, 0.5, 0.5, 0.5)), tensor((0.5, 0.5, 1.0, 1.0))
    assert loss(predicted, target, torch.tensor([False])).item() == 0  # type: ignore[operator]

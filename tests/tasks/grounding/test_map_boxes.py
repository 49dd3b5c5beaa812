"""Boxes of a map: known maps have known boxes."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from x2kit.tasks.grounding.map_boxes import best_detection, box_of_map, boxes_of_peaks, detection_scores

SIZE = (80, 40)
"""Of the image; a patch of a 4 × 4 map has 20 × 10 pixels."""


def heat(*patches: tuple[int, int]) -> Tensor:
    """A 4 × 4 map that is 1 at these places (row, column)."""
    found = torch.zeros(4, 4)
    for patch in patches:
        found[patch] = 1
    return found


def test_the_box_of_a_map_has_the_patches_that_are_hot() -> None:
    assert box_of_map(heat((1, 2)), SIZE, 0.5) == (40, 10, 20, 10)
    assert box_of_map(heat((1, 0), (1, 1), (2, 0), (2, 1)), SIZE, 0.5) == (0, 10, 40, 20)


def test_the_power_of_the_area_decides_how_large_a_box_is() -> None:
    spread = heat((0, 0), (0, 1), (0, 3)) + 0.4
    assert box_of_map(spread, SIZE, 0) == (0, 0, 80, 40)
    assert box_of_map(spread + heat((2, 2)), SIZE, 1) == (0, 0, 20, 10)


def test_the_box_of_a_map_has_the_highest_score_of_all_boxes() -> None:
    torch.manual_seed(0)
    grid = torch.rand(3, 5)
    x, y, w, h = box_of_map(grid, (5, 3), 0.5)
    spans = [list(itertools.combinations(range(count + 1), 2)) for count in (3, 5)]
    best = max(
        float(grid[top:bottom, left:right].sum()) / ((bottom - top) * (right - left)) ** 0.5
        for (top, bottom), (left, right) in itertools.product(*spans)
    )
    found = grid[int(y) : int(y + h), int(x) : int(x + w)].sum() / (w * h) ** 0.5
    assert float(found) == pytest.approx(best)


def test_a_map_of_zeros_is_about_the_whole_image() -> None:
    assert box_of_map(heat(), SIZE, 0.5) == (0, 0, 80, 40)


def test_a_detection_is_scored_by_the_sum_inside_over_the_root_of_its_area() -> None:
    even = torch.ones(4, 4)
    scores = detection_scores(even, SIZE, [[0, 0, 20, 10], [10.9, 5.9, 20, 10]], 0.5)
    torch.testing.assert_close(scores, torch.tensor([200.0, 200.0]) / 200**0.5)
    assert detection_scores(even, SIZE, [[-10, 0, 20, 10]], 0.5).tolist() == pytest.approx([100 / 200**0.5])


def test_the_detection_where_the_map_is_hot_is_chosen() -> None:
    boxes = [[0.0, 0.0, 20.0, 10.0], [38.5, 9.0, 22.0, 12.0], [0.0, 0.0, 80.0, 40.0]]
    assert best_detection(heat((1, 2)), SIZE, boxes, 0.5) == tuple(boxes[1])


def test_the_first_of_equal_detections_is_chosen_even_without_a_positive_score() -> None:
    boxes = [[0.0, 0.0, 20.0, 10.0], [20.0, 0.0, 20.0, 10.0]]
    assert best_detection(heat(), SIZE, boxes, 0.5) == tuple(boxes[0])


def test_the_brightest_places_become_boxes() -> None:
    """The map is enlarged, so a box reaches from where its slope passes a fifth of the maximum."""
    two = heat((1, 0)) + 0.5 * heat((2, 3))
    boxes = boxes_of_peaks(two, 5)
    assert boxes.shape == (2, 4)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    torch.testing.assert_close(centres[1].float(), torch.tensor([3.5 / 4, 2.5 / 4]), atol=0.04, rtol=0)
    assert boxes[0, 0] == 0
    assert boxes_of_peaks(two, 1).tolist() == boxes[:1].tolist()


def test_a_weak_place_is_none() -> None:
    assert len(boxes_of_peaks(heat((1, 0)) + 0.1 * heat((3, 3)), 5)) == 1


def test_a_place_may_be_of_several_patches() -> None:
    (box,) = boxes_of_peaks(heat((1, 1), (1, 2), (2, 2)), 5)
    assert box.tolist() == pytest.approx(
        [0.25 - 0.0625, 0.25 - 0.0625, 0.75 + 0.0625, 0.75 + 0.0625], abs=0.04
    )


def test_without_a_peak_the_whole_image_is_the_place() -> None:
    assert boxes_of_peaks(heat(), 3).tolist() == [[0, 0, 1, 1]]

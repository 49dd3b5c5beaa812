"""What counts as right, by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from tests.benchmarks.heat_maps import (
    Phrase,
    chance,
    explained,
    located,
    overlap,
    points_right,
    without_attention,
    without_box_head,
    words,
)
from tests.model.conftest import build
from x2kit.inference import Box, Model


def phrase(box: Sequence[float]) -> Phrase:
    return Phrase(Image.new("RGB", (4, 4)), {"en": "a dog and the sun"}, {"en": "dog"}, box)


def test_a_map_points_at_the_centre_of_its_hottest_patch() -> None:
    heat = np.zeros((2, 4), np.float32)
    heat[1, 2] = 1  # centre at 5/8, 3/4
    assert points_right(heat, (0.6, 0.7, 0.1, 0.1))
    assert not points_right(heat, (0.7, 0.7, 0.1, 0.1))
    assert not points_right(heat, (0.6, 0.0, 0.1, 0.7))


def test_the_overlap_of_a_box_is_its_iou() -> None:
    assert overlap(Box((0, 0, 1, 1), (0, 0, 0.5, 1), 1), (0.25, 0, 0.5, 1)) == pytest.approx(1 / 3)


def test_chance_is_the_mean_area_and_the_share_of_like_boxes() -> None:
    found = chance([phrase((0, 0, 0.5, 0.5)), phrase((0, 0, 0.5, 0.6)), phrase((0.5, 0.5, 0.5, 0.5))])
    assert found["pointing"] == pytest.approx((0.25 + 0.3 + 0.25) / 3)
    assert found["box"] == pytest.approx(2 / 6)


def test_every_way_gives_shares() -> None:
    model, phrases = Model(build(), "tiny"), [phrase((0, 0, 1, 1)), phrase((0.5, 0.5, 0.5, 0.5))]
    for way in (explained, words, located, without_box_head):
        with without_attention(model):
            found = way(model, phrases, "en")
        shares = [value for name, value in found.items() if name not in ("words", "boxes")]
        assert all(0 <= value <= 1 for value in shares)
    assert words(model, phrases, "en")["words"] == 2
    assert model.has("bbox")

"""Emoji are painted in the middle of their squares, in boxes that fit."""

from __future__ import annotations

import numpy as np
from x2kit_emoji import EmojiRelations
from x2kit_emoji.compositions import generator
from x2kit_emoji.concepts import choose
from x2kit_emoji.layout import Box
from x2kit_emoji.painter import Painter


def painter() -> Painter:
    return Painter(choose(20), EmojiRelations(backgrounds=("plain",)))


def test_a_drawing_fills_the_longer_side_of_its_square_and_nothing_outside_changes() -> None:
    paint, square = painter(), Box(10, 20, 24, 24)
    canvas = paint.canvas(generator(0, "train", 1))
    for number in range(20):
        image, (box,) = paint.fill(canvas, [number], [square])
        x, y, width, height = map(int, box)
        assert 23 <= max(width, height) <= 24
        assert abs((x - 10) - (34 - x - width)) <= 1
        assert abs((y - 20) - (44 - y - height)) <= 1
        changed = (np.asarray(image) != np.asarray(canvas.image)).any(2)
        changed[y : y + height, x : x + width] = False
        assert not changed.any()


def test_boxes_are_in_the_order_of_the_concepts_and_the_canvas_stays_clean() -> None:
    paint = painter()
    canvas = paint.canvas(generator(0, "train", 1))
    before = canvas.image.tobytes()
    squares = [Box(0, 0, 18, 18), Box(30, 30, 28, 28)]
    _, boxes = paint.fill(canvas, [3, 4], squares)
    assert boxes[0][0] < 18 <= 30 <= boxes[1][0]
    assert canvas.image.tobytes() == before


def test_squares_are_in_the_sizes_of_the_settings() -> None:
    paint = painter()
    for index in range(50):
        for square in paint.squares(generator(0, "train", index), 3):
            assert square.width == square.height
            assert 17 <= square.width <= 28

"""Boxes and heat maps on images, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageColor

from x2kit.inference.drawing import BOX_COLOURS, HEAT_COLOURS, OPACITY, draw_boxes, draw_heat

FIRST, SECOND = (ImageColor.getrgb(colour) for colour in BOX_COLOURS[:2])
GREY = (90, 90, 90)


def grey(width: int = 60, height: int = 40) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


def test_a_box_is_its_outline_and_the_image_given_stays() -> None:
    image = grey()
    drawn = draw_boxes(image, [(10, 20, 30, 15)])
    assert drawn.size == image.size
    assert [drawn.getpixel(at) for at in ((10, 20), (39, 20), (10, 34), (39, 34))] == [FIRST] * 4
    assert [drawn.getpixel(at) for at in ((9, 20), (40, 34), (20, 27))] == [GREY] * 3
    assert image.getcolors() == [(60 * 40, GREY)]


def test_the_best_box_lies_on_top() -> None:
    drawn = draw_boxes(grey(), [(10, 20, 30, 15), (10, 20, 40, 15)])
    assert drawn.getpixel((10, 30)) == FIRST
    assert drawn.getpixel((49, 30)) == SECOND


def test_a_probability_is_written_and_a_missing_one_is_not() -> None:
    plain = draw_boxes(grey(), [(10, 20, 30, 15)])
    assert draw_boxes(grey(), [(10, 20, 30, 15)], [math.nan]).tobytes() == plain.tobytes()
    assert draw_boxes(grey(), [(10, 20, 30, 15)], [0.5]).tobytes() != plain.tobytes()


def test_a_box_at_the_border_keeps_its_label_inside() -> None:
    drawn = np.asarray(draw_boxes(grey(), [(50, 0, 10, 10)], [0.25]))
    assert (drawn[:5] == FIRST).all(-1).sum() > 10


def test_a_box_narrower_than_a_pixel_is_drawn() -> None:
    assert draw_boxes(grey(), [(10, 20, 0.2, 0.1)]).getpixel((10, 20)) == FIRST


def test_no_heat_leaves_the_image_and_full_heat_has_its_colour() -> None:
    heat = np.array([[0, 1]], np.float32)
    drawn = np.asarray(draw_heat(grey(), heat))
    assert (drawn[:, 0] == GREY).all()
    expected = np.array(GREY) * (1 - OPACITY) + np.array(HEAT_COLOURS[-1]) * OPACITY
    assert np.abs(drawn[:, -1] - expected).max() <= 0.5


def test_an_image_of_any_mode_becomes_colours() -> None:
    assert draw_heat(Image.new("L", (6, 4), 90), np.zeros((2, 2), np.float32)).mode == "RGB"
    assert draw_boxes(Image.new("RGBA", (6, 4)), []).mode == "RGB"

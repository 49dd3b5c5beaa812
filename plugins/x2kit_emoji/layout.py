"""Where the emoji of a scene stand: sizes and places with little overlap."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from x2kit_emoji.compositions import below

_LAYOUTS = 4
_PLACES = 16
_PLACES_A_SIZE = 5


class Box(NamedTuple):
    """Left, top, width and height in pixels."""

    x: int
    y: int
    width: int
    height: int


class Placed(NamedTuple):
    """An emoji at its place: which of the scene's, the size it was given, and its box."""

    number: int
    side: int
    box: Box


Measure = Callable[[int, int], tuple[int, int]]
"""Width and height of the emoji `number` when its longer side is `side`."""


def side_lengths(image_size: int, sides: tuple[float, float]) -> list[int]:
    """The sizes that emoji can have, in pixels, rising: at most 24, so that ready drawings can be kept."""
    shortest, longest = (max(1, math.floor(side * image_size)) for side in sides)
    return sorted({round(value) for value in np.linspace(shortest, longest, 24)})


def overlap(one: Box, other: Box) -> float:
    """The share of the smaller box that both cover."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min(one.width * one.height, other.width * other.height)


def arrange(
    rng: np.random.Generator,
    count: int,
    image_size: int,
    sides: list[int],
    max_overlap: float,
    measure: Measure,
) -> list[Placed]:
    """Places for `count` emoji, largest first, which is the order to paint them in.

    Sizes are drawn evenly; one that finds no place is made smaller, and after some vain tries all are put on
    a grid at the smallest size, where they always fit.

    Args:
        sides: possible sizes in pixels, rising; the smallest fits ceil(sqrt(count)) times into `image_size`.
        max_overlap: see `overlap`.
    """
    for _ in range(_LAYOUTS):
        levels = [below(rng, len(sides)) for _ in range(count)]
        placed: list[Placed] = []
        for number in sorted(range(count), key=lambda i: -levels[i]):
            place = _find_place(rng, number, levels[number], placed, image_size, sides, max_overlap, measure)
            if place is None:
                break
            placed.append(place)
        if len(placed) == count:
            return placed
    return _on_grid(rng, count, image_size, sides[0], measure)


def _find_place(
    rng: np.random.Generator,
    number: int,
    level: int,
    placed: list[Placed],
    image_size: int,
    sides: list[int],
    max_overlap: float,
    measure: Measure,
) -> Placed | None:
    for attempt in range(_PLACES):
        if attempt and attempt % _PLACES_A_SIZE == 0:
            level = level * 2 // 3
        width, height = measure(number, sides[level])
        box = Box(below(rng, image_size - width + 1), below(rng, image_size - height + 1), width, height)
        if all(overlap(box, other.box) <= max_overlap for other in placed):
            return Placed(number, sides[level], box)
    return None


def _on_grid(
    rng: np.random.Generator, count: int, image_size: int, side: int, measure: Measure
) -> list[Placed]:
    rows = math.isqrt(count - 1) + 1
    cell = image_size // rows
    placed: list[Placed] = []
    for number in range(count):
        width, height = measure(number, side)
        x, y = number % rows * cell, number // rows * cell
        box = Box(x + below(rng, cell - width + 1), y + below(rng, cell - height + 1), width, height)
        placed.append(Placed(number, side, box))
    return placed

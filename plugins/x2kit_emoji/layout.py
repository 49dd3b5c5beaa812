"""Lay out the emoji of a scene: sizes and positions with little overlap."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from x2kit_emoji.compositions import below

_LAYOUTS, _ATTEMPTS, _ATTEMPTS_PER_SIZE = 4, 16, 5
"""Layouts per scene, attempts to place one emoji, and attempts before it is made smaller."""


class Box(NamedTuple):
    """Left, top, width and height in pixels."""

    x: int
    y: int
    width: int
    height: int


class Placed(NamedTuple):
    """A placed emoji: its number in the scene, its longer side in pixels, and its box."""

    number: int
    side: int
    box: Box


Measure = Callable[[int, int], tuple[int, int]]
"""Width and height of the emoji `number` when its longer side is `side`."""


def side_lengths(image_size: int, sides: tuple[float, float]) -> list[int]:
    """List the sizes of emoji in pixels, ascending; at most 24, so that resized drawings can be cached."""
    shortest, longest = (max(1, math.floor(side * image_size)) for side in sides)
    return sorted({round(value) for value in np.linspace(shortest, longest, 24)})


def overlap(one: Box, other: Box) -> float:
    """Return the intersection of two boxes as a share of the smaller one."""
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
    """Place `count` emoji, largest first, which is the order to paint them in.

    Sizes are drawn uniformly. An emoji that finds no place is made smaller; after some failed layouts all are put on
    a grid at the smallest size, where they always fit.

    Args:
        sides: possible sizes in pixels, ascending; the smallest fits ceil(sqrt(count)) times into `image_size`.
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
    for attempt in range(_ATTEMPTS):
        if attempt and attempt % _ATTEMPTS_PER_SIZE == 0:
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

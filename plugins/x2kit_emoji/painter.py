"""Paint emoji on a background, scattered or at given places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from x2kit_emoji.backgrounds import paint_background
from x2kit_emoji.compositions import below
from x2kit_emoji.concepts import Concept
from x2kit_emoji.dataset import Style
from x2kit_emoji.drawings import Sprites
from x2kit_emoji.layout import Box, Measure, Placed, arrange, side_lengths

if TYPE_CHECKING:
    from x2kit_emoji.config import DrawnConfig


class Painted(NamedTuple):
    """An image and the tight boxes of its emoji, [x, y, width, height] in pixels, in the order of the concepts."""

    image: Image.Image
    boxes: list[list[float]]


class Canvas(NamedTuple):
    """A painted background and the vendor whose drawings are put on it."""

    image: Image.Image
    style: Style


class Painter:
    """Paint the concepts of a source in its sizes, styles and backgrounds."""

    def __init__(self, concepts: Sequence[Concept], config: DrawnConfig, hidden: bool = False) -> None:
        """With `hidden`, `fill` computes boxes but paints nothing."""
        self._config = config
        self._hidden = hidden
        self._sides = side_lengths(config.image_size, config.sides)
        self._sprites = Sprites([concept.point for concept in concepts], config.styles, self._sides[-1])

    def canvas(self, rng: np.random.Generator) -> Canvas:
        """Draw a style and paint a background."""
        config = self._config
        style = config.styles[below(rng, len(config.styles))]
        kind = config.backgrounds[below(rng, len(config.backgrounds))]
        return Canvas(paint_background(rng, kind, config.image_size), style)

    def scatter(self, rng: np.random.Generator, numbers: Sequence[int]) -> Painted:
        """Paint concepts by number in random sizes at random places."""
        image, style = self.canvas(rng)

        def measure(place: int, side: int) -> tuple[int, int]:
            return self._sprites.get(style, numbers[place], side).size

        boxes: dict[int, list[float]] = {}
        for place, side, box in self._arrange(rng, len(numbers), measure):
            sprite = self._sprites.get(style, numbers[place], side)
            image.paste(sprite, (box.x, box.y), sprite)
            boxes[place] = [float(value) for value in box]
        return Painted(image, [boxes[place] for place in range(len(numbers))])

    def squares(self, rng: np.random.Generator, count: int) -> list[Box]:
        """Lay out squares of random sizes at random places, largest first, to be filled by `fill`."""
        return [place.box for place in self._arrange(rng, count, lambda _, side: (side, side))]

    def fill(self, canvas: Canvas, numbers: Sequence[int], squares: Sequence[Box]) -> Painted:
        """Paint each concept in the middle of its square on a copy of the canvas, largest first."""
        image = canvas.image.copy()
        boxes: dict[int, list[float]] = {}
        for place in sorted(range(len(numbers)), key=lambda place: -squares[place].width):
            square = squares[place]
            sprite = self._sprites.get(canvas.style, numbers[place], square.width)
            x = square.x + (square.width - sprite.width) // 2
            y = square.y + (square.height - sprite.height) // 2
            if not self._hidden:
                image.paste(sprite, (x, y), sprite)
            boxes[place] = [float(x), float(y), float(sprite.width), float(sprite.height)]
        return Painted(image, [boxes[place] for place in range(len(numbers))])

    def drawings(self) -> Iterator[bytes]:
        """Iterate over the files of the drawings, for a fingerprint."""
        yield from (path.read_bytes() for paths in self._sprites.files.values() for path in paths)

    def _arrange(self, rng: np.random.Generator, count: int, measure: Measure) -> list[Placed]:
        config = self._config
        return arrange(rng, count, config.image_size, self._sides, config.max_overlap, measure)

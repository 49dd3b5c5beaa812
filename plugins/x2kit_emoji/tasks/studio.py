"""Draw scenes for tasks: concepts of a split, at places that stand in a relation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from x2kit.plugin import DataError, Record
from x2kit_emoji.compositions import Compositions, below, caption_of, generator
from x2kit_emoji.concepts import plain
from x2kit_emoji.layout import Box
from x2kit_emoji.painter import Painter
from x2kit_emoji.signs import SIDES, sign
from x2kit_emoji.texts import ConceptSource

if TYPE_CHECKING:
    from x2kit_emoji.tasks.config import TaskSourceConfig

_TRIES = 1000
_CLEAR = 1 / 8
"""Minimum distance of the centres of two emoji in a relation, along its axis, as a share of the image's side."""

Random = np.random.Generator


class Studio(ConceptSource):
    """Base of the sources for tasks.

    Consecutive records form a block with one text. `shared` generates what they share, `own` the rest of a record, so
    record i is a pure function of the settings and i. The set of concepts of every image belongs to the split.
    """

    config: TaskSourceConfig
    block = 1
    """Records of a block."""

    def __init__(self, config: TaskSourceConfig) -> None:
        super().__init__(config)
        self.painter = Painter(self.concepts, config, hidden=config.hide_emoji)
        self._compositions = Compositions(self.concepts, config.split, (2, 4))
        self._stream = int.from_bytes(blake2b(type(config).__name__.encode(), digest_size=4).digest())

    def __getitem__(self, index: int) -> Record:
        """Generate record `index`. Raises IndexError beyond the last one."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        number, turn = divmod(index, self.block)
        config = self.config
        shared = generator(config.seed, config.split, self._stream, number)
        own = generator(config.seed, config.split, self._stream, number, turn)
        return cast(Record, {"id": f"{config.split}-{index}", **self.record(number, turn, shared, own)})

    def record(self, number: int, turn: int, shared: Random, own: Random) -> dict[str, Any]:
        """Generate the fields of record `turn` of block `number`."""
        raise NotImplementedError

    def any(self, rng: Random) -> int:
        """Draw the number of a concept."""
        return below(rng, len(self.concepts))

    def others(
        self, rng: Random, count: int, some: Sequence[int] = (), without: Sequence[int] = ()
    ) -> list[int]:
        """Draw further concepts; see `Compositions.complete`."""
        return list(self._compositions.complete(rng, count, some, without))

    def text(self, *words: int | str) -> dict[str, str]:
        """Write a sentence of concepts, by number, and signs, by name, in every language."""
        return caption_of([sign(word) if isinstance(word, str) else self.concepts[word] for word in words])

    def answer(self, number: int) -> str:
        """Return the English name of a concept, cleaned as texts are; answers are labels, in one language."""
        return plain(self.concepts[number].names["en"])

    def paint(self, rng: Random, numbers: Sequence[int], squares: Sequence[Box]) -> Any:
        """Paint concepts in squares on a new background; see `Painter.fill`."""
        return self.painter.fill(self.painter.canvas(rng), numbers, squares)

    def in_line(self, rng: Random, side: str, count: int, free: int = 0) -> list[Box]:
        """Lay out `count` squares clearly apart along an axis, the one furthest to `side` first, then `free` others."""
        horizontal, backwards = side in ("left", "right"), side in ("right", "below")

        def arranged(squares: list[Box]) -> list[Box] | None:
            line = sorted(squares[:count], key=lambda square: centre(square, horizontal), reverse=backwards)
            steps = [
                abs(centre(one, horizontal) - centre(other, horizontal)) for one, other in pairwise(line)
            ]
            clear = min(steps) >= _CLEAR * self.config.image_size
            return line + squares[count:] if clear else None

        return self.laid_out(rng, count + free, arranged)

    def laid_out(self, rng: Random, count: int, accept: Callable[[list[Box]], list[Box] | None]) -> list[Box]:
        """Lay out squares in random order until `accept` returns them, in the order that it wants.

        Raises: DataError if it never does.
        """
        for _ in range(_TRIES):
            squares = self.painter.squares(rng, count)
            keys = [rng.random() for _ in squares]
            found = accept([square for _, square in sorted(zip(keys, squares, strict=True))])
            if found:
                return found
        raise DataError(
            f"emoji: found no layout of {count} emoji; use smaller sides than {self.config.sides}"
        )

    def _fingerprinted(self) -> Iterator[bytes]:
        yield from super()._fingerprinted()
        yield from self.painter.drawings()


def centre(square: Box, horizontal: bool) -> float:
    """Return the centre of a square on one axis, in pixels."""
    return square.x + square.width / 2 if horizontal else square.y + square.height / 2


def opposite(side: str) -> str:
    """Return the other side: right for left, below for above."""
    return SIDES[SIDES.index(side) ^ 1]

"""Records with what was painted in their images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from x2kit_emoji.layout import Box
from x2kit_emoji.painter import Canvas, Painted, Painter
from x2kit_emoji.tasks.studio import Studio


class Shown(NamedTuple):
    """A record and, for each of its images, the names and squares of the emoji."""

    record: Any
    images: list[list[tuple[str, Box]]]


Show = Callable[[Studio, Sequence[int]], list[Shown]]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Show:
    """Read records, noting the emoji that `Painter.fill` paints."""
    painted: list[tuple[Sequence[int], Sequence[Box]]] = []
    fill = Painter.fill

    def noting(self: Painter, canvas: Canvas, numbers: Sequence[int], squares: Sequence[Box]) -> Painted:
        painted.append((numbers, squares))
        return fill(self, canvas, numbers, squares)

    monkeypatch.setattr(Painter, "fill", noting)

    def read(source: Studio, indices: Sequence[int]) -> list[Shown]:
        found = []
        for index in indices:
            painted.clear()
            record = source[index]
            images = [
                [(source.concepts[number].names["en"], square) for number, square in zip(*each, strict=True)]
                for each in painted
            ]
            found.append(Shown(record, images))
        return found

    return read

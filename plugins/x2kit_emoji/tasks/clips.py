"""Clips of two moving emoji with questions that need all frames, but not their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from x2kit_emoji.compositions import below
from x2kit_emoji.layout import Box
from x2kit_emoji.tasks.studio import Random, Studio

if TYPE_CHECKING:
    from x2kit_emoji.tasks.config import EmojiClips

AXES = ("sideways", "up and down")
_WAY = 1 / 3
"""Distance that an emoji moves, as a share of the image's side."""


class Clip(NamedTuple):
    """A question with its answer.

    Attributes:
        numbers: of the two concepts.
        axis: on which the first moves; the second moves on the other one.
        only: the only frame in which the first is seen; None for all.
    """

    question: dict[str, str]
    answer: str
    numbers: list[int]
    axis: str
    only: int | None = None


class ClipSource(Studio):
    """Clips in blocks of four with the same question; the background does not move."""

    config: EmojiClips
    block = 4

    def record(self, number: int, turn: int, shared: Random, own: Random) -> dict[str, Any]:
        """Generate `video`, a list of frames, `question` and `answers`."""
        kinds = self.config.kinds
        clip = _KINDS[kinds[number % len(kinds)]](self, self.config.frames, turn, shared, own)
        canvas = self.painter.canvas(own)
        paths = self._paths(own, clip.axis)
        frames = []
        for frame in range(self.config.frames):
            first = 0 if clip.only in (None, frame) else 1
            squares = [path[frame] for path in paths[first:]]
            frames.append(self.painter.fill(canvas, clip.numbers[first:], squares).image)
        return {"video": frames, "question": clip.question, "answers": [clip.answer]}

    def _paths(self, rng: Random, axis: str) -> list[list[Box]]:
        """Lay out the squares of both emoji in every frame; one keeps to an edge, so that they never meet."""
        size, frames = self.config.image_size, self.config.frames
        side, way = int(self.config.sides[0] * size), int(_WAY * size)
        at_edge, far_edge = below(rng, 2), below(rng, 2)
        paths = []
        for emoji in range(2):
            along = below(rng, size - side - way + 1)
            across = below(rng, size - side + 1)
            if emoji == at_edge:
                across = (size - side) * far_edge
            else:  # the edge runs along the way of the other, so it limits the way of this one
                along = below(rng, size - 2 * side - way + 1) + side * (1 - far_edge)
            steps = [along + way * frame // (frames - 1) for frame in range(frames)]
            if below(rng, 2):
                steps.reverse()
            horizontal = (axis == AXES[0]) == (emoji == 0)
            places = [(step, across) if horizontal else (across, step) for step in steps]
            paths.append([Box(x, y, side, side) for x, y in places])
        return paths


def _which(studio: Studio, frames: int, turn: int, shared: Random, own: Random) -> Clip:
    """Ask for the one that moves on an axis."""
    axis, numbers = AXES[below(shared, 2)], studio.others(own, 2)
    return Clip(studio.text("which", axis), studio.answer(numbers[0]), numbers, axis)


def _is_there(studio: Studio, frames: int, turn: int, shared: Random, own: Random) -> Clip:
    """Ask for an emoji that is seen in one frame, or never; another one is then seen in its place."""
    subject, shown = studio.any(shared), turn % 2 == 0
    some = [subject] if shown else []
    numbers = some + studio.others(own, 2 - len(some), some, without=[subject])
    question, answer = studio.text("is there", subject), "yes" if shown else "no"
    return Clip(question, answer, numbers, AXES[below(own, 2)], only=below(own, frames))


def _where(studio: Studio, frames: int, turn: int, shared: Random, own: Random) -> Clip:
    """Ask for the axis on which an emoji moves."""
    subject, axis = studio.any(shared), AXES[turn % 2]
    return Clip(studio.text("where", subject), axis, [subject, *studio.others(own, 1, [subject])], axis)


_KINDS: dict[str, Callable[[Studio, int, int, Random, Random], Clip]] = {
    "which": _which,
    "is there": _is_there,
    "where": _where,
}

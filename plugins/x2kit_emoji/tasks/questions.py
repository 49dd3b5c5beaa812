"""Questions about scenes; the answer is a name, a number, yes or no, or a corner."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from x2kit_emoji.compositions import below
from x2kit_emoji.layout import Box
from x2kit_emoji.signs import SIDES
from x2kit_emoji.tasks.studio import Random, Studio, centre

if TYPE_CHECKING:
    from x2kit_emoji.tasks.config import EmojiQuestions

COUNTS = ("none", "one", "two", "three")
"""Words, because the vocabulary of the quickstart has no digits but those of names."""

CORNERS = ("top left", "top right", "bottom left", "bottom right")
_MIDDLE = 1 / 16
"""Minimum distance from the middle lines of the image of an emoji in a corner, as a share of the image's side."""


class Scene(NamedTuple):
    """A question with its answer, and the concepts and places of a scene."""

    question: dict[str, str]
    answer: str
    numbers: list[int]
    squares: list[Box]


class QuestionSource(Studio):
    """Scenes in blocks of four with the same question."""

    config: EmojiQuestions
    block = 4

    def record(self, number: int, turn: int, shared: Random, own: Random) -> dict[str, Any]:
        """Generate `image`, `question` and `answers`."""
        kinds = self.config.kinds
        scene = _KINDS[kinds[number % len(kinds)]](self, turn, shared, own)
        image = self.paint(own, scene.numbers, scene.squares).image
        return {"image": image, "question": scene.question, "answers": [scene.answer]}


def _which(studio: Studio, turn: int, shared: Random, own: Random) -> Scene:
    """Ask for the one of two emoji that is on one side of a third."""
    side, landmark = SIDES[below(shared, len(SIDES))], studio.any(shared)
    near, far = studio.others(own, 2, [landmark])
    squares = studio.in_line(own, side, 3)
    return Scene(studio.text("which", side, landmark), studio.answer(near), [near, landmark, far], squares)


def _how_many(studio: Studio, turn: int, shared: Random, own: Random) -> Scene:
    """Ask for the number of equal emoji, among others, from none to three."""
    subject = studio.any(shared)
    fewest = 1 if turn else 2  # a scene of one concept would always be in train
    others = fewest + below(own, 5 - turn - fewest)
    some = [subject] if turn else []
    numbers = [subject] * turn + studio.others(own, others, some, without=[subject])
    squares = studio.painter.squares(own, len(numbers))
    return Scene(studio.text("how many", subject), COUNTS[turn], numbers, squares)


def _is_there(studio: Studio, turn: int, shared: Random, own: Random) -> Scene:
    """Ask whether an emoji is among two to four."""
    subject, count, shown = studio.any(shared), 2 + below(own, 3), turn % 2 == 0
    some = [subject] if shown else []
    numbers = some + studio.others(own, count - len(some), some, without=[subject])
    squares = studio.laid_out(own, count, lambda squares: squares)
    return Scene(studio.text("is there", subject), "yes" if shown else "no", numbers, squares)


def _where(studio: Studio, turn: int, shared: Random, own: Random) -> Scene:
    """Ask for the corner of an emoji."""
    subject = studio.any(shared)
    numbers = [subject, *studio.others(own, 1 + below(own, 2), [subject])]
    right, below_middle = bool(turn % 2), turn >= 2
    side = studio.config.image_size

    def in_corner(squares: list[Box]) -> list[Box] | None:
        x, y = (centre(squares[0], horizontal) / side - 0.5 for horizontal in (True, False))
        fits = (x if right else -x) >= _MIDDLE and (y if below_middle else -y) >= _MIDDLE
        return squares if fits else None

    squares = studio.laid_out(own, len(numbers), in_corner)
    return Scene(studio.text("where", subject), CORNERS[turn], numbers, squares)


_KINDS: dict[str, Callable[[Studio, int, Random, Random], Scene]] = {
    "which": _which,
    "how many": _how_many,
    "is there": _is_there,
    "where": _where,
}

"""Sentences with scenes that make them true or false: pairs of scenes, and entailment."""

from __future__ import annotations

from typing import Any

from x2kit_emoji.compositions import below
from x2kit_emoji.signs import SIDES
from x2kit_emoji.tasks.studio import Random, Studio, opposite

_SHOWN = {
    "left": ((True, True), (True, False), (False, True), (False, False)),
    "right": ((True, True), (False, True), (True, False), (False, False)),
    "sideways": ((True, True), (True, True), (True, False), (False, True)),
}
"""By sign, whether the left and the right image of each record of a block have the emoji; the first two are true."""


class PairSource(Studio):
    """Two scenes of two or three emoji; the sentence says which image has one of them."""

    block = 4

    def record(self, number: int, turn: int, shared: Random, own: Random) -> dict[str, Any]:
        """Generate `images`, `caption` and `label`."""
        sign = tuple(_SHOWN)[below(shared, len(_SHOWN))]
        subject = self.any(shared)
        images = [self._scene(own, subject, shown) for shown in _SHOWN[sign][turn]]
        return {"images": images, "caption": self.text(sign, subject), "label": turn < 2}

    def _scene(self, rng: Random, subject: int, shown: bool) -> Any:
        count, some = 2 + below(rng, 2), [subject] if shown else []
        numbers = some + self.others(rng, count - len(some), some, without=[subject])
        return self.paint(rng, numbers, self.laid_out(rng, count, lambda squares: squares)).image


class EntailmentSource(Studio):
    """A hypothesis on two emoji with a scene of each class; another emoji is somewhere in every scene."""

    block = 3

    def record(self, number: int, turn: int, shared: Random, own: Random) -> dict[str, Any]:
        """Generate `image`, `caption` and `label`."""
        side = SIDES[below(shared, len(SIDES))]
        subject = self.any(shared)
        landmark = (subject + 1 + below(shared, len(self.concepts) - 1)) % len(self.concepts)
        label = ("entailment", "contradiction", "neutral")[turn]
        shown = [subject, landmark]
        if label == "neutral":
            missing = below(own, 2)
            shown[missing], *more = self.others(own, 2, [shown[1 - missing]], without=[shown[missing]])
        else:
            more = self.others(own, 1, shown)
        seen = (
            opposite(side)
            if label == "contradiction" or (label == "neutral" and own.random() < 0.5)
            else side
        )
        painted = self.paint(own, [*shown, *more], self.in_line(own, seen, 2, free=1))
        return {"image": painted.image, "caption": self.text(subject, side, landmark), "label": label}

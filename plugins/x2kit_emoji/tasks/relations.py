"""Scenes whose texts say where emoji are: referring expressions and captions."""

from __future__ import annotations

from typing import Any

from x2kit_emoji.compositions import below
from x2kit_emoji.signs import SIDES
from x2kit_emoji.tasks.studio import Random, Studio, opposite


class RelationSource(Studio):
    """Two equal emoji on either side of another one, and in half of the scenes one more."""

    def record(self, number: int, turn: int, shared: Random, own: Random) -> dict[str, Any]:
        """Generate `image` and `regions`."""
        side = SIDES[below(own, len(SIDES))]
        subject, landmark, *more = self.others(own, 2 + below(own, 2))
        squares = self.in_line(own, side, 3, free=len(more))
        painted = self.paint(own, [subject, landmark, subject, *more], squares)
        texts = [self.text(subject, side, landmark), self.text(subject, opposite(side), landmark)]
        regions = [
            {"bbox": painted.boxes[place], "caption": text} for place, text in zip((0, 2), texts, strict=True)
        ]
        return {"image": painted.image, "regions": regions}


class CaptionSource(Studio):
    """Two or three emoji, named from left to right."""

    def record(self, number: int, turn: int, shared: Random, own: Random) -> dict[str, Any]:
        """Generate `image`, `caption`, and `regions` with the name of each emoji."""
        found = self.others(own, 2 + below(own, 2))
        painted = self.paint(own, found, self.in_line(own, "left", len(found)))
        words: list[int | str] = [found[0]]
        for concept in found[1:]:
            words += ["left", concept]
        regions = [
            {"bbox": box, "caption": self.text(concept)}
            for box, concept in zip(painted.boxes, found, strict=True)
        ]
        return {"image": painted.image, "caption": self.text(*words), "regions": regions}

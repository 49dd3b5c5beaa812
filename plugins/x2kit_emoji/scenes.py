"""Generate scenes on access: images of emoji with boxes and captions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from x2kit.plugin import Record
from x2kit_emoji.compositions import caption_of, generator
from x2kit_emoji.painter import Painter
from x2kit_emoji.texts import SetSource

if TYPE_CHECKING:
    from x2kit_emoji.config import EmojiScenes

# Streams of a record's random numbers. Each has its own generator, so that a near duplicate can draw the
# composition of the scene before it without painting that scene.
_COMPOSITION, _IMAGE, _PARTNER = range(3)


class SceneSource(SetSource):
    """The scenes of one split. Record i is a pure function of the settings and i."""

    config: EmojiScenes

    def __init__(self, config: EmojiScenes) -> None:
        super().__init__(config)
        self._painter = Painter(self.concepts, config)

    def __getitem__(self, index: int) -> Record:
        """Generate scene `index`: RGB image, caption and regions in every language, with tight boxes.

        `detections` are the same boxes from left to right, those of a perfect detector.

        A box encloses the whole drawing, even where another emoji covers a corner of it.
        """
        config = self.config
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        numbers = self.composition(index)
        image, boxes = self._painter.scatter(generator(config.seed, config.split, index, _IMAGE), numbers)
        concepts = self.named(numbers)
        return {
            "id": f"{config.split}-{index}",
            "image": image,
            "caption": caption_of(concepts),
            "regions": [
                {"bbox": bbox, "caption": dict(concept.names)}
                for bbox, concept in zip(boxes, concepts, strict=True)
            ],
            "detections": [{"bbox": bbox} for bbox in sorted(boxes)],
        }

    def _draw(self, index: int) -> tuple[int, ...]:
        config = self.config
        if index % 2 and config.near_duplicates:
            rng = generator(config.seed, config.split, index, _PARTNER)
            if rng.random() < config.near_duplicates:
                return self._compositions.change_one(rng, self.composition(index - 1))
        return self._compositions.draw(generator(config.seed, config.split, index, _COMPOSITION))

    def _fingerprinted(self) -> Iterator[bytes]:
        yield from super()._fingerprinted()
        yield from self._painter.drawings()

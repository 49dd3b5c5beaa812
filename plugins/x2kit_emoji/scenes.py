"""Generate scenes on access: images of emoji with boxes and captions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from x2kit.plugin import Record
from x2kit_emoji.backgrounds import paint_background
from x2kit_emoji.compositions import below, caption_of, generator
from x2kit_emoji.drawings import Sprites
from x2kit_emoji.layout import arrange, side_lengths
from x2kit_emoji.texts import ConceptSource

if TYPE_CHECKING:
    from x2kit_emoji.config import EmojiScenes

# Streams of a record's random numbers. Each has its own generator, so that a near duplicate can draw the
# composition of the scene before it without painting that scene.
_COMPOSITION, _IMAGE, _PARTNER = range(3)


class SceneSource(ConceptSource):
    """The scenes of one split. Record i is a pure function of the settings and i."""

    config: EmojiScenes

    def __init__(self, config: EmojiScenes) -> None:
        super().__init__(config)
        self._sides = side_lengths(config.image_size, config.sides)
        self._sprites = Sprites([concept.point for concept in self.concepts], config.styles, self._sides[-1])

    def __getitem__(self, index: int) -> Record:
        """Generate scene `index`: RGB image, caption and regions in every language, with tight boxes.

        A box encloses the whole drawing, even where another emoji covers a corner of it.
        """
        config = self.config
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        numbers = self.composition(index)
        rng = generator(config.seed, config.split, index, _IMAGE)
        style = config.styles[below(rng, len(config.styles))]
        image = paint_background(
            rng, config.backgrounds[below(rng, len(config.backgrounds))], config.image_size
        )

        def measure(place: int, side: int) -> tuple[int, int]:
            return self._sprites.get(style, numbers[place], side).size

        boxes: dict[int, list[float]] = {}
        for place, side, box in arrange(
            rng, len(numbers), config.image_size, self._sides, config.max_overlap, measure
        ):
            sprite = self._sprites.get(style, numbers[place], side)
            image.paste(sprite, (box.x, box.y), sprite)
            boxes[place] = [float(value) for value in box]
        concepts = [self.concepts[number] for number in numbers]
        return {
            "id": f"{config.split}-{index}",
            "image": image,
            "caption": caption_of(concepts),
            "regions": [
                {"bbox": boxes[place], "caption": dict(concept.names)}
                for place, concept in enumerate(concepts)
            ],
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
        yield from (path.read_bytes() for paths in self._sprites.files.values() for path in paths)

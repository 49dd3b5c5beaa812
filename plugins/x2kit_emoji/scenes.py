"""Scenes: images of emoji with boxes and captions, made when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

from x2kit.plugin import Record
from x2kit_emoji import EmojiScenes
from x2kit_emoji.backgrounds import paint_background
from x2kit_emoji.compositions import Compositions, below, caption_of, generator
from x2kit_emoji.concepts import choose
from x2kit_emoji.drawings import Sprites
from x2kit_emoji.layout import arrange, side_lengths
from x2kit_emoji.texts import all_texts

# The parts of a record's randomness; each has a generator of its own, so that a near-duplicate can ask for
# the composition of the scene before it without painting that scene.
_COMPOSITION, _IMAGE, _PARTNER = range(3)


class SceneSource:
    """The scenes of one split. Record i is a pure function of the settings and i."""

    def __init__(self, config: EmojiScenes) -> None:
        self.config = config
        self.concepts = choose(config.concepts)
        self._compositions = Compositions(self.concepts, config.split, config.counts())
        # Train draws each set when asked; the others need all sets at once, so that none comes twice.
        self._sets = None
        if config.split != "train":
            config.check()
            self._sets = self._compositions.draw_all(config.seed, config.records)
        self._sides = side_lengths(config.image_size, config.sides)
        self._sprites = Sprites([concept.point for concept in self.concepts], config.styles, self._sides[-1])

    def __len__(self) -> int:
        return self.config.records

    def __getitem__(self, index: int) -> Record:
        """Scene `index`: RGB image, caption and regions in every language; boxes fit the drawings tightly.

        A box is that of the whole drawing, also where another emoji covers a corner of it.
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

    def composition(self, index: int) -> tuple[int, ...]:
        """The concept numbers of scene `index`, in the order of its caption."""
        if self._sets is not None:
            return self._sets[index]
        config = self.config
        if index % 2 and config.near_duplicates:
            rng = generator(config.seed, config.split, index, _PARTNER)
            if rng.random() < config.near_duplicates:
                return self._compositions.change_one(rng, self.composition(index - 1))
        return self._compositions.draw(generator(config.seed, config.split, index, _COMPOSITION))

    def texts(self) -> Iterator[str]:
        """Every name in every language, and some joined by commas."""
        return all_texts(self.concepts)

    def fingerprint(self) -> str:
        """A hash of settings, names and drawings."""
        digest = blake2b(self.config.model_dump_json().encode(), digest_size=8)
        for concept in self.concepts:
            digest.update(repr(concept).encode())
        for paths in self._sprites.files.values():
            for path in paths:
                digest.update(path.read_bytes())
        return digest.hexdigest()

    def __reduce__(self) -> tuple[type[SceneSource], tuple[EmojiScenes]]:
        # a worker process opens the source again instead of being sent thousands of drawings
        return SceneSource, (self.config,)

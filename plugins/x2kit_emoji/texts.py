"""Generate parallel texts on access: names in all languages, alone, in sets, and in sentences with signs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Self

from x2kit.plugin import Record
from x2kit_emoji.compositions import SEPARATOR, Compositions, below, caption_of, generator
from x2kit_emoji.concepts import Concept, choose
from x2kit_emoji.dataset import LANGUAGES, split_of
from x2kit_emoji.signs import draw_sentence, sign_texts

if TYPE_CHECKING:
    from x2kit_emoji.config import EmojiConfig, EmojiTexts, SetConfig

_TEXTS, _SENTENCES = 16, 17
"""Streams of random numbers; those of scenes are lower, so texts are not the captions of the scenes of their seed."""

_NEIGHBOURS = 3
"""Maximum distance, in concept numbers, of the names that `all_texts` joins."""


class ConceptSource(ABC):
    """Base of all sources: records about concepts of one split, generated on access."""

    def __init__(self, config: EmojiConfig) -> None:
        self.config = config
        self.concepts = choose(config.concepts)

    def __len__(self) -> int:
        return self.config.records

    @abstractmethod
    def __getitem__(self, index: int) -> Record:
        raise NotImplementedError

    def named(self, numbers: Iterable[int]) -> list[Concept]:
        """Return the concepts of these numbers."""
        return [self.concepts[number] for number in numbers]

    def texts(self) -> Iterator[str]:
        """Iterate over every name in every language, some joined by commas, and the names of signs."""
        return all_texts(self.concepts)

    def fingerprint(self) -> str:
        """Hash the settings, the names and, of scenes, the drawings."""
        digest = blake2b(digest_size=8)
        for part in self._fingerprinted():
            digest.update(part)
        return digest.hexdigest()

    def _fingerprinted(self) -> Iterator[bytes]:
        yield self.config.model_dump_json().encode()
        yield from (repr(concept).encode() for concept in self.concepts)

    def __reduce__(self) -> tuple[type[Self], tuple[EmojiConfig]]:
        # A worker process opens the source again, instead of receiving thousands of drawings.
        return type(self), (self.config,)


class SetSource(ConceptSource):
    """Base of scenes and texts: no two records of validation, nor of test, have the same composition."""

    config: SetConfig

    def __init__(self, config: SetConfig) -> None:
        super().__init__(config)
        self._compositions = Compositions(self.concepts, config.split, config.counts())
        # Train draws a set on access; the other splits draw all sets at once, so that they are distinct.
        self._sets: list[tuple[int, ...]] | None = None
        if config.split != "train":
            config.check()
            self._sets = self._compositions.draw_all(config.seed, config.records)

    def composition(self, index: int) -> tuple[int, ...]:
        """Return the concept numbers of record `index`, in the order of its texts."""
        return self._draw(index) if self._sets is None else self._sets[index]

    @abstractmethod
    def _draw(self, index: int) -> tuple[int, ...]:
        """Draw the composition of a record of train."""


class TextSource(SetSource):
    """The parallel texts of one split. Record i is a pure function of the settings and i."""

    config: EmojiTexts

    def __init__(self, config: EmojiTexts) -> None:
        super().__init__(config)
        self._pairs = Compositions(self.concepts, config.split, (2, 2))

    def __getitem__(self, index: int) -> Record:
        """Generate one meaning in all languages: `texts` is {code: names joined by commas}, in one order."""
        if not 0 <= index < len(self):
            raise IndexError(f"text {index} of {len(self)}")
        return {"id": f"{self.config.split}-{index}", "texts": self._sentence(index)}

    def _sentence(self, index: int) -> dict[str, str]:
        if self.config.split == "train" and self.config.sign_share:
            rng = generator(self.config.seed, self.config.split, index, _SENTENCES)
            if rng.random() < self.config.sign_share:
                return draw_sentence(rng, self.named(self._pairs.draw(rng)))
        return caption_of(self.named(self.composition(index)))

    def _draw(self, index: int) -> tuple[int, ...]:
        rng = generator(self.config.seed, self.config.split, index, _TEXTS)
        if rng.random() < self.config.single_share:
            return (below(rng, len(self.concepts)),)
        return self._compositions.draw(rng)


def all_texts(concepts: Sequence[Concept]) -> Iterator[str]:
    """Iterate over every name in every language, pairs of names of train joined as in captions, and signs.

    Each name is in several pairs, so that a tokenizer trained on the texts keeps its words whole.
    """
    for code in LANGUAGES:
        yield from (concept.names[code] for concept in concepts)
    for code in LANGUAGES:
        for distance in range(1, _NEIGHBOURS + 1):
            for one, other in zip(concepts, concepts[distance:], strict=False):
                if split_of((one.point, other.point)) == "train":
                    yield SEPARATOR.join((one.names[code], other.names[code]))
    yield from sign_texts(concepts)

"""Parallel texts: what the concepts are called in all languages, alone and in sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b

from x2kit.plugin import Record
from x2kit_emoji import LANGUAGES, EmojiTexts
from x2kit_emoji.compositions import SEPARATOR, Compositions, below, caption_of, generator, split_of
from x2kit_emoji.concepts import Concept, choose

_TEXTS = 16
"""A part of its own beside those of scenes: texts are not the captions of the scenes of the same seed."""


_NEIGHBOURS = 3
"""How far apart the names are that `all_texts` joins."""


class TextSource:
    """The parallel texts of one split. Record i is a pure function of the settings and i."""

    def __init__(self, config: EmojiTexts) -> None:
        self.config = config
        self.concepts = choose(config.concepts)
        self._compositions = Compositions(self.concepts, config.split, config.counts())
        self._sets = None
        if config.split != "train":
            config.check()
            self._sets = self._compositions.draw_all(config.seed, config.records)

    def __len__(self) -> int:
        return self.config.records

    def __getitem__(self, index: int) -> Record:
        """One meaning in all languages: `texts` is {code: names joined by commas}, in one order."""
        if not 0 <= index < len(self):
            raise IndexError(f"text {index} of {len(self)}")
        concepts = [self.concepts[number] for number in self.composition(index)]
        return {"id": f"{self.config.split}-{index}", "texts": caption_of(concepts)}

    def composition(self, index: int) -> tuple[int, ...]:
        """The concept numbers of record `index`, in the order of its texts."""
        if self._sets is not None:
            return self._sets[index]
        rng = generator(self.config.seed, self.config.split, index, _TEXTS)
        if rng.random() < self.config.single_share:
            return (below(rng, len(self.concepts)),)
        return self._compositions.draw(rng)

    def texts(self) -> Iterator[str]:
        """Every name in every language, and some joined by commas."""
        return all_texts(self.concepts)

    def fingerprint(self) -> str:
        """A hash of settings and names."""
        digest = blake2b(self.config.model_dump_json().encode(), digest_size=8)
        for concept in self.concepts:
            digest.update(repr(concept).encode())
        return digest.hexdigest()

    def __reduce__(self) -> tuple[type[TextSource], tuple[EmojiTexts]]:
        return TextSource, (self.config,)


def all_texts(concepts: Sequence[Concept]) -> Iterator[str]:
    """Every name in every language, then pairs of names that show how they are joined; train's pairs only.

    Each name comes in several pairs: a tokenizer that saw it once has no reason to keep its words whole.
    """
    for code in LANGUAGES:
        yield from (concept.names[code] for concept in concepts)
    for code in LANGUAGES:
        for distance in range(1, _NEIGHBOURS + 1):
            for one, other in zip(concepts, concepts[distance:], strict=False):
                if split_of((one.point, other.point)) == "train":
                    yield SEPARATOR.join((one.names[code], other.names[code]))

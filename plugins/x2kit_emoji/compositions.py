"""Draw compositions, sets of concepts that belong to one split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from x2kit.plugin import DataError
from x2kit_emoji.concepts import Concept
from x2kit_emoji.dataset import LANGUAGES, Split, split_of

SEPARATOR = ", "
_SPLIT_CODES: dict[Split, int] = {"train": 0, "validation": 1, "test": 2}
_TRIES = 500


def generator(seed: int, split: Split, *position: int) -> np.random.Generator:
    """Seed a generator by these numbers alone. Use only `random`, which is the same in every numpy version."""
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([seed, _SPLIT_CODES[split], *position]))
    )


def below(rng: np.random.Generator, count: int) -> int:
    """Draw an integer from 0 to count - 1."""
    return int(rng.random() * count)


def caption_of(concepts: Sequence[Concept]) -> dict[str, str]:
    """Join the names by commas, in the order given, in every language."""
    return {code: SEPARATOR.join([concept.names[code] for concept in concepts]) for code in LANGUAGES}


class Compositions:
    """Draw sets of concepts of one split; a set is a tuple of concept numbers in random order."""

    def __init__(self, concepts: Sequence[Concept], split: Split, counts: tuple[int, int]) -> None:
        """`counts` is the minimum and maximum number of concepts of a set."""
        self.points = [concept.point for concept in concepts]
        self.split = split
        self.counts = counts

    def draw(self, rng: np.random.Generator, seen: set[frozenset[int]] | None = None) -> tuple[int, ...]:
        """Draw a set of this split that is not in `seen`. Raises DataError if none is found."""
        fewest, most = self.counts
        count = fewest
        for attempt in range(_TRIES):
            if attempt % 20 == 0:  # not at every attempt, which would favour single concepts: they always fit
                count = fewest + below(rng, most - fewest + 1)
            found = self._distinct(rng, count)
            if self._fits(found) and (seen is None or frozenset(found) not in seen):
                return found
        raise DataError(
            f"emoji: found no new set of {fewest} to {most} of {len(self.points)} concepts in {self.split}"
        )

    def complete(
        self, rng: np.random.Generator, count: int, some: Sequence[int] = (), without: Sequence[int] = ()
    ) -> tuple[int, ...]:
        """Draw `count` concepts that, together with `some`, form a set of this split.

        Args:
            without: concepts that are not drawn.
        Raises: DataError if none is found.
        """
        for _ in range(_TRIES):
            found = self._distinct(rng, count, (*some, *without))
            if self._fits((*some, *found)):
                return found
        raise DataError(
            f"emoji: found no set of {len(some) + count} of {len(self.points)} concepts in {self.split}"
        )

    def change_one(self, rng: np.random.Generator, base: tuple[int, ...]) -> tuple[int, ...]:
        """Replace one concept of a set. Raises DataError if no such set is found."""
        for _ in range(_TRIES):
            changed = list(base)
            changed[below(rng, len(base))] = below(rng, len(self.points))
            if len(set(changed)) == len(base) and set(changed) != set(base) and self._fits(changed):
                return tuple(changed)
        raise DataError(
            f"emoji: found no near duplicate of a set of {len(base)} of {len(self.points)} concepts in {self.split}"
        )

    def draw_all(self, seed: int, size: int) -> list[tuple[int, ...]]:
        """Draw `size` distinct sets. The first ones are the same for any `size`."""
        sets: list[tuple[int, ...]] = []
        seen: set[frozenset[int]] = set()
        for index in range(size):
            sets.append(self.draw(generator(seed, self.split, index, 0), seen))
            seen.add(frozenset(sets[-1]))
        return sets

    def _distinct(self, rng: np.random.Generator, count: int, without: Sequence[int] = ()) -> tuple[int, ...]:
        found: list[int] = []
        while len(found) < count:
            number = below(rng, len(self.points))
            if number not in found and number not in without:
                found.append(number)
        return tuple(found)

    def _fits(self, numbers: Iterable[int]) -> bool:
        return split_of([self.points[number] for number in numbers]) == self.split

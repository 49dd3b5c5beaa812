"""Compositions: sets of concepts, which split each belongs to, and how they are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np

from x2kit.plugin import DataError
from x2kit_emoji import HELD_OUT_SHARE, LANGUAGES, Split
from x2kit_emoji.concepts import Concept

SEPARATOR = ", "
_SPLIT_CODES: dict[Split, int] = {"train": 0, "validation": 1, "test": 2}
_TRIES = 500


def generator(seed: int, split: Split, *position: int) -> np.random.Generator:
    """Randomness that depends on these numbers alone. Use `random` only: it is the same in every numpy."""
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([seed, _SPLIT_CODES[split], *position]))
    )


def below(rng: np.random.Generator, count: int) -> int:
    """A whole number from 0 to count - 1."""
    return int(rng.random() * count)


def split_of(points: Iterable[int]) -> Split:
    """The split that a set of code points belongs to, decided by its hash alone; single ones are in train."""
    ordered = sorted(points)
    if len(ordered) < 2:
        return "train"
    digest = blake2b("-".join(f"{point:x}" for point in ordered).encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    if share < HELD_OUT_SHARE:
        return "test"
    return "validation" if share < 2 * HELD_OUT_SHARE else "train"


def caption_of(concepts: Sequence[Concept]) -> dict[str, str]:
    """The names joined by commas, in the order given, in every language."""
    return {code: SEPARATOR.join([concept.names[code] for concept in concepts]) for code in LANGUAGES}


class Compositions:
    """Draws sets of concepts of one split; a set is a tuple of concept numbers in a random order."""

    def __init__(self, concepts: Sequence[Concept], split: Split, counts: tuple[int, int]) -> None:
        """`counts` are the fewest and most concepts of a set."""
        self.points = [concept.point for concept in concepts]
        self.split = split
        self.counts = counts

    def draw(self, rng: np.random.Generator, seen: set[frozenset[int]] | None = None) -> tuple[int, ...]:
        """A set of this split that is not in `seen`. Raises DataError if none is found."""
        fewest, most = self.counts
        count = fewest
        for attempt in range(_TRIES):
            if (
                attempt % 20 == 0
            ):  # not at every try: the larger sets would lose to the single ones, always allowed
                count = fewest + below(rng, most - fewest + 1)
            found = self._distinct(rng, count)
            if self._fits(found) and (seen is None or frozenset(found) not in seen):
                return found
        raise DataError(
            f"emoji: no new set of {fewest} to {most} of {len(self.points)} concepts in {self.split}"
        )

    def change_one(self, rng: np.random.Generator, base: tuple[int, ...]) -> tuple[int, ...]:
        """The same set with one concept replaced. Raises DataError if none is found."""
        for _ in range(_TRIES):
            changed = list(base)
            changed[below(rng, len(base))] = below(rng, len(self.points))
            if len(set(changed)) == len(base) and set(changed) != set(base) and self._fits(changed):
                return tuple(changed)
        raise DataError(
            f"emoji: no neighbour of a set of {len(base)} of {len(self.points)} concepts in {self.split}"
        )

    def draw_all(self, seed: int, size: int) -> list[tuple[int, ...]]:
        """`size` different sets. The first ones are the same for any `size`."""
        sets: list[tuple[int, ...]] = []
        seen: set[frozenset[int]] = set()
        for index in range(size):
            sets.append(self.draw(generator(seed, self.split, index, 0), seen))
            seen.add(frozenset(sets[-1]))
        return sets

    def _distinct(self, rng: np.random.Generator, count: int) -> tuple[int, ...]:
        found: list[int] = []
        while len(found) < count:
            number = below(rng, len(self.points))
            if number not in found:
                found.append(number)
        return tuple(found)

    def _fits(self, numbers: Iterable[int]) -> bool:
        return split_of([self.points[number] for number in numbers]) == self.split

"""Which record stands where, and the randomness of each sample: pure functions of the seed. Imports no torch.

Nothing here is a state: a run that starts again at a step, on any number of workers, sees what it would have
seen. Every random number comes from Philox, a counter turned into numbers by a key (Salmon et al., SC 2011).
Key and counter say what the numbers are for, so no two uses share any and none depends on what came before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.random import Generator, Philox, SeedSequence
from numpy.typing import NDArray

from x2kit.errors import DataError

Purpose = Literal["sample", "epoch", "replacement", "rows", "masks"]
_PURPOSES: dict[Purpose, int] = {"sample": 0, "epoch": 1, "replacement": 2, "rows": 3, "masks": 4}


class Slot(NamedTuple):
    """A place in a stream: its epoch, its position within that, and the record that stands there."""

    epoch: int
    position: int
    record: int


@dataclass(frozen=True)
class Share:
    """The part of every step's records that one of several processes takes."""

    rank: int = 0
    count: int = 1

    def places(self, records: int, block: int) -> list[int]:
        """The places in a step, of so many records, that this process takes.

        They alternate, so that the first rows of a stream, which alone are fused where `fusion_rows` says so, fall to
        all processes alike; neighbours of a block stay together as far as the shares allow.
        """
        run = math.gcd(block, max(1, records // self.count))
        return [place for place in range(records) if place // run % self.count == self.rank]


ALL = Share()
"""What one process alone takes."""


class StreamOrder:
    """The order of a stream's records, and its generators.

    Args:
        seed: of the run.
        stream: name of the stream; streams of one run differ.
        size: records of the source.
        block: records are shuffled in blocks of so many neighbours. Where `size` is no multiple, the short
            block is filled with other records, so that blocks keep their places in later epochs too.
    Raises: DataError if there are no records.
    """

    def __init__(self, seed: int, stream: str, size: int, block: int = 1) -> None:
        if size < 1:
            raise DataError(f"stream {stream}: the source has no records")
        self.size = size
        self.block = block
        self._blocks = -(-size // block)
        self.epoch_length = self._blocks * block
        self._key = int(SeedSequence([seed, *stream.encode()]).generate_state(1, np.uint64)[0])
        self._epoch_blocks = lru_cache(maxsize=2)(
            self._shuffled_blocks
        )  # two: a step may span an epoch's end

    def slots(self, first: int, count: int) -> list[Slot]:
        """The slots `first` to `first + count - 1`, counted over all epochs."""
        return [self.slot(place) for place in range(first, first + count)]

    def slot(self, place: int) -> Slot:
        """One slot, counted over all epochs."""
        epoch, position = divmod(place, self.epoch_length)
        number, offset = divmod(position, self.block)
        record = int(self._epoch_blocks(epoch)[number]) * self.block + offset
        return Slot(epoch, position, record if record < self.size else self.replacement(epoch, position, 0))

    def replacement(self, epoch: int, position: int, attempt: int) -> int:
        """Another record for this place, from all records with the same chance."""
        return int(self._generator("replacement", epoch, position, attempt).random() * self.size)

    def of_sample(self, epoch: int, record: int) -> Generator:
        """The generator of a record's visit: its texts, crop, flip and augmentation."""
        return self._generator("sample", epoch, record)

    def of_rows(self, step: int) -> Generator:
        """The generator that says which rows of a step stay where there are too many."""
        return self._generator("rows", 0, step)

    def of_masks(self, step: int) -> Generator:
        """The generator of the tokens that are masked in a step."""
        return self._generator("masks", 0, step)

    def _shuffled_blocks(self, epoch: int) -> NDArray[np.int64]:
        return self._generator("epoch", epoch, 0).permutation(self._blocks)

    def _generator(self, purpose: Purpose, epoch: int, place: int, attempt: int = 0) -> Generator:
        # The lowest word counts the numbers as they are drawn; the others keep the uses apart.
        counter = np.array([0, place, attempt, _PURPOSES[purpose]], dtype=np.uint64)
        return Generator(Philox(counter=counter, key=np.array([self._key, epoch], dtype=np.uint64)))

"""Map positions of a stream to records, and to random generators, as pure functions of the seed. Imports no torch.

There is no state: a run that resumes at any step, with any number of workers, sees the same data. Random numbers come
from Philox, a counter-based generator (Salmon et al., SC 2011). Key and counter encode the use of the numbers, so no
two uses share any and none depends on earlier draws.

A stream of a billion records is shuffled without a table: a Feistel network (Luby and Rackoff, 1988) permutes the
powers of two, and values outside the stream are permuted again until they fall inside (Black and Rogaway, 2002).
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
LARGEST_TABLE = 2**20
"""Most blocks whose order is drawn as a table of 8 bytes each: 8 MiB, in 15 ms."""
ROUNDS = 8
_WORD = 2**64 - 1
_MIX = 0xBF58476D1CE4E5B9
"""Multiplier of SplitMix64 (Steele, Lea and Flood, 2014)."""


class Slot(NamedTuple):
    """A position in a stream: epoch, position within the epoch, and the record there."""

    epoch: int
    position: int
    record: int


@dataclass(frozen=True)
class Share:
    """The share of every step's records that one of several ranks reads."""

    rank: int = 0
    count: int = 1

    def places(self, records: int, block: int) -> list[int]:
        """Return the positions in a step of `records` records that this rank reads.

        They alternate between ranks, so that the first rows of a stream, the ones fused with `fusion_rows`, are spread
        evenly; neighbours of a block stay together as far as the shares allow.
        """
        run = math.gcd(block, max(1, records // self.count))
        return [place for place in range(records) if place // run % self.count == self.rank]


ALL = Share()
"""The share of a single process."""


class KeyedPermutation:
    """A permutation of the numbers below `size` in constant memory.

    Args:
        size: at least 2.
        keys: a random key of 64 bits for each round.
    """

    def __init__(self, size: int, keys: list[int]) -> None:
        bits = (size - 1).bit_length()
        self._size, self._keys = size, keys
        self._low, self._high = bits // 2, bits - bits // 2

    def __getitem__(self, number: int) -> int:
        """Return the image of a number below `size`."""
        while True:
            number = self._permute(number)
            if number < self._size:
                return number

    def _permute(self, number: int) -> int:
        low, high = self._low, self._high
        for key in self._keys:  # the halves swap, and so do their widths
            left, right = number >> low, number & ((1 << low) - 1)
            mixed = ((right ^ key) * _MIX) & _WORD
            mixed = ((mixed ^ (mixed >> 31)) * _MIX) & _WORD
            number = (right << high) | (left ^ (mixed >> (64 - high)))
            low, high = high, low
        return number


class StreamOrder:
    """Order and random generators of a stream's records.

    Args:
        seed: of the run.
        stream: name of the stream; it enters the seed.
        size: number of records in the source.
        block: records are shuffled in blocks of this many neighbours. If `size` is not a multiple, the last block is
            filled with other records, so that blocks stay aligned in later epochs.
    Raises: DataError if `size` is 0.
    """

    def __init__(self, seed: int, stream: str, size: int, block: int = 1) -> None:
        if size < 1:
            raise DataError(f"stream {stream}: the source has no records")
        self.size = size
        self.block = block
        self._blocks = -(-size // block)
        self.epoch_length = self._blocks * block
        self._key = int(SeedSequence([seed, *stream.encode()]).generate_state(1, np.uint64)[0])
        self._epoch_blocks = lru_cache(maxsize=2)(self._shuffled_blocks)  # a step may span two epochs

    def slots(self, first: int, count: int) -> list[Slot]:
        """Return the slots `first` to `first + count - 1`, numbered over all epochs."""
        return [self.slot(place) for place in range(first, first + count)]

    def slot(self, place: int) -> Slot:
        """Return one slot, numbered over all epochs."""
        epoch, position = divmod(place, self.epoch_length)
        number, offset = divmod(position, self.block)
        record = int(self._epoch_blocks(epoch)[number]) * self.block + offset
        return Slot(epoch, position, record if record < self.size else self.replacement(epoch, position, 0))

    def replacement(self, epoch: int, position: int, attempt: int) -> int:
        """Draw another record for this position, uniformly from all records."""
        return int(self._generator("replacement", epoch, position, attempt).random() * self.size)

    def of_sample(self, epoch: int, record: int) -> Generator:
        """Return the generator of a sample: its texts, crop, flip and augmentation."""
        return self._generator("sample", epoch, record)

    def of_rows(self, step: int) -> Generator:
        """Return the generator that selects the rows of a step above `batch_size`."""
        return self._generator("rows", 0, step)

    def of_masks(self, step: int) -> Generator:
        """Return the generator of the masked tokens of a step."""
        return self._generator("masks", 0, step)

    def _shuffled_blocks(self, epoch: int) -> NDArray[np.int64] | KeyedPermutation:
        generator = self._generator("epoch", epoch, 0)
        if self._blocks <= LARGEST_TABLE:
            return generator.permutation(self._blocks)
        return KeyedPermutation(
            self._blocks, generator.integers(2**64, size=ROUNDS, dtype=np.uint64).tolist()
        )

    def _generator(self, purpose: Purpose, epoch: int, place: int, attempt: int = 0) -> Generator:
        # The lowest word counts the draws; the others separate the uses.
        counter = np.array([0, place, attempt, _PURPOSES[purpose]], dtype=np.uint64)
        return Generator(Philox(counter=counter, key=np.array([self._key, epoch], dtype=np.uint64)))

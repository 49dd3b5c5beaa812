"""Interleave the records of several sources in fixed shares. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from hashlib import blake2b
from math import gcd, lcm
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from x2kit.data.index.chain import place_in_part, record_of_part
from x2kit.errors import SettingError
from x2kit.plugin.sources import Place, Record, Source, index_in

if TYPE_CHECKING:
    from x2kit.data.sources.config import Mixture

MAX_TURNS = 2**16
"""Largest number of turns in a round, after which the order repeats."""


def whole_shares(weights: Sequence[float]) -> list[int]:
    """Convert decimal weights to the smallest whole numbers in their ratio: 0.7 and 0.2 to 7 and 2.

    Raises: SettingError if their sum is above `MAX_TURNS`.
    """
    ratios = [Fraction(str(weight)) for weight in weights]
    scale = lcm(*(ratio.denominator for ratio in ratios))
    whole = [int(ratio * scale) for ratio in ratios]
    shares = [number // gcd(*whole) for number in whole]
    if sum(shares) > MAX_TURNS:
        raise SettingError(
            "weights",
            f"as whole numbers they are {', '.join(map(str, shares))}, with the sum {sum(shares)}; the sum may be at "
            f"most {MAX_TURNS}: use fewer digits",
        )
    return shares


def turns(shares: Sequence[int]) -> NDArray[np.int64]:
    """Schedule one round of `sum(shares)` turns, spread evenly.

    After any number of turns, the turns of each source differ from its share by less than one: R. Tijdeman, The
    chairman assignment problem, Discrete Mathematics 32 (1980), in whole numbers.

    Args:
        shares: turns of each source in a round.
    Returns: [sum(shares)] int64, the source of each turn.
    """
    total, slack = sum(shares), max(1, 2 * len(shares) - 2)
    taken = [0] * len(shares)
    order = np.empty(total, np.int64)
    for turn in range(1, total + 1):
        # lag of each source, in units of 1 / (slack * total) turns; only a large enough lag qualifies
        lags = [slack * (share * turn - total * had) for share, had in zip(shares, taken, strict=True)]
        candidates = [number for number, lag in enumerate(lags) if lag >= total]
        # the candidate whose lag would reach a whole turn first
        chosen = min(candidates, key=lambda n: (Fraction((slack - 1) * total - lags[n], shares[n]), n))
        taken[chosen] += 1
        order[turn - 1] = chosen
    return order


class MixtureSource:
    """The mixed records of several sources; an epoch has as many as all sources, in whole rounds.

    A source repeats records within an epoch if its share is larger than its size, and continues with its next records
    in the next epoch if it is smaller. Over a run the shares are exact, and the visits of any two records of a source
    differ by at most one. The record of `position` in `epoch` is at index `position + epoch * len(source)`.

    Attributes:
        sources: opened sources by name.
    """

    renews_each_epoch: ClassVar[bool] = True

    def __init__(self, config: Mixture) -> None:
        self.config = config
        self.sources: dict[str, Source] = {name: source.open() for name, source in config.sources.items()}
        self._names = list(self.sources)
        self._shares = whole_shares([config.weights[name] for name in self._names])
        self._turns = turns(self._shares)
        # turns of the same source earlier in the round
        self._earlier = np.empty_like(self._turns)
        for number, share in enumerate(self._shares):
            self._earlier[self._turns == number] = np.arange(share)
        records = sum(map(len, self.sources.values()))
        self._length = -(-records // len(self._turns)) * len(self._turns)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Record:
        """Read the record at `index`, counted over epochs; its id begins with the name of its source."""
        name, place = self._locate(index)
        return record_of_part(name, self.sources[name], place)

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))

    def place(self, index: int) -> Place:
        """Return file and line or offset of a record, or the name of a source without places."""
        name, place = self._locate(index)
        return place_in_part(name, self.sources[name], place)

    def parts(self) -> dict[str, Source]:
        """Return the mixed sources by name."""
        return self.sources

    def texts(self) -> Iterator[str]:
        """Yield the texts of every source in order, once each."""
        for source in self.sources.values():
            yield from source.texts()

    def fingerprint(self) -> str:
        """Hash the names, shares and fingerprints of the sources."""
        digest = blake2b(digest_size=8)
        for share, (name, source) in zip(self._shares, self.sources.items(), strict=True):
            digest.update(f"{name}\0{share}\0{source.fingerprint()}\0".encode())
        return digest.hexdigest()

    def _locate(self, index: int) -> tuple[str, int]:
        if index < 0:
            raise IndexError(f"record {index} of {len(self)}")
        rounds, turn = divmod(index, len(self._turns))
        number = int(self._turns[turn])
        name = self._names[number]
        visit = rounds * self._shares[number] + int(self._earlier[turn])
        source = self.sources[name]
        epoch, position = divmod(visit, len(source))
        return name, index_in(source, position, epoch)

"""A fixed order in which sources take turns, so that every stretch of it has their shares. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from hashlib import blake2b
from math import gcd, lcm
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from x2kit.data.index.chain import place_in_part, record_of_part
from x2kit.data.sources.config import Mixture
from x2kit.errors import SettingError
from x2kit.plugin.sources import Place, Record, Source, index_in

LONGEST = 2**16
"""Turns after which the order repeats, at most."""


def whole_shares(weights: Sequence[float]) -> list[int]:
    """The smallest whole numbers in the ratio of the weights as they are written: 0.7 and 0.2 give 7 and 2.

    Raises: SettingError if their sum is over 65,536.
    """
    ratios = [Fraction(str(weight)) for weight in weights]
    scale = lcm(*(ratio.denominator for ratio in ratios))
    whole = [int(ratio * scale) for ratio in ratios]
    shares = [number // gcd(*whole) for number in whole]
    if sum(shares) > LONGEST:
        raise SettingError(
            "weights",
            f"as whole numbers they are {', '.join(map(str, shares))}, {sum(shares)} in all; write weights that make "
            f"no more than {LONGEST} in all, with fewer digits",
        )
    return shares


def turns(shares: Sequence[int]) -> NDArray[np.int64]:
    """Whose turn it is, for one round of `sum(shares)` turns, after which it repeats.

    After any number of turns each has had its share of them to within one turn: the algorithm of R. Tijdeman,
    The chairman assignment problem, Discrete Mathematics 32 (1980), in whole numbers.

    Args:
        shares: turns of each in one round.
    Returns: [sum(shares)] int64, numbers of the sources.
    """
    total, slack = sum(shares), max(1, 2 * len(shares) - 2)
    taken = [0] * len(shares)
    order = np.empty(total, np.int64)
    for turn in range(1, total + 1):
        # how far each is behind, in units of 1 / (slack * total) turns; only who is behind enough may come
        behind = [slack * (share * turn - total * had) for share, had in zip(shares, taken, strict=True)]
        waiting = [number for number, late in enumerate(behind) if late >= total]
        # of these the one that would be a whole turn behind first
        chosen = min(waiting, key=lambda n: (Fraction((slack - 1) * total - behind[n], shares[n]), n))
        taken[chosen] += 1
        order[turn - 1] = chosen
    return order


class MixtureSource:
    """An epoch has as many records as all sources together, in whole rounds of their turns.

    A source whose share is larger than its size repeats its records within an epoch, one whose share is smaller goes
    on with its next records in the next epoch. So over a run every record of a source comes as often as any other, to
    within one visit, and the shares are exact. Which record stands at a position therefore depends on the epoch: the
    record of `position` in `epoch` is the one at `position + epoch * len(source)`.

    Attributes:
        sources: by name.
    """

    renews_each_epoch: ClassVar[bool] = True

    def __init__(self, config: Mixture) -> None:
        self.config = config
        self.sources: dict[str, Source] = {name: source.open() for name, source in config.sources.items()}
        self._names = list(self.sources)
        self._shares = whole_shares([config.weights[name] for name in self._names])
        self._turns = turns(self._shares)
        # of each turn, how many its source had before in the round
        self._before = np.empty_like(self._turns)
        for number, share in enumerate(self._shares):
            self._before[self._turns == number] = np.arange(share)
        records = sum(map(len, self.sources.values()))
        self._length = -(-records // len(self._turns)) * len(self._turns)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Record:
        """The record at `index`, which goes on over epochs; its id begins with the name of its source."""
        name, place = self._locate(index)
        return record_of_part(name, self.sources[name], place)

    def __iter__(self) -> Iterator[Record]:
        return (self[index] for index in range(len(self)))

    def place(self, index: int) -> Place:
        """File and line or offset of a record; the name of its source where that does not know."""
        name, place = self._locate(index)
        return place_in_part(name, self.sources[name], place)

    def parts(self) -> dict[str, Source]:
        """The mixed sources by name."""
        return self.sources

    def texts(self) -> Iterator[str]:
        """The texts of one source after the other, each once."""
        for source in self.sources.values():
            yield from source.texts()

    def fingerprint(self) -> str:
        """A hash of names, shares and the sources' own fingerprints."""
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
        visit = rounds * self._shares[number] + int(self._before[turn])
        source = self.sources[name]
        epoch, position = divmod(visit, len(source))
        return name, index_in(source, position, epoch)

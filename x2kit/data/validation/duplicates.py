"""Ids that occur more than once, found in bounded memory. Imports no torch.

128-bit hashes of all ids go to files by their first bits; each file is then small enough to be sorted alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

Hashed: TypeAlias = NDArray[np.void]
"""[N] of `HASHED`: the hash of an id in two halves, and the position of its record."""
HASHED = np.dtype([("high", "<u8"), ("low", "<u8"), ("index", "<i8")])
_FILES = 256


def hashed(ids: Iterable[tuple[str, int]]) -> Hashed:
    """The hashes of ids with the positions of their records."""
    packed = b"".join(
        blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest() + index.to_bytes(8, "little")
        for name, index in ids
    )
    return np.frombuffer(packed, HASHED)


class DuplicateIds:
    """Takes the ids of one source in any order. Use as a context manager.

    Args:
        folder: empty; 24 bytes an id are written there.
    """

    def __init__(self, folder: Path) -> None:
        self._paths = [folder / f"{number:03d}" for number in range(_FILES)]
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        self._files = [self._closing.enter_context(path.open("wb")) for path in self._paths]
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()

    def add(self, ids: Hashed) -> None:
        """Take some ids."""
        places = ids["high"] % _FILES
        for place in np.unique(places):
            self._files[place].write(ids[places == place].tobytes())

    def groups(self) -> Iterator[NDArray[np.int64]]:
        """Positions that share an id, in order, two or more; once, when all are taken."""
        for index, again in self._sorted():
            starts = np.flatnonzero(~again)
            for group in np.split(index, starts[1:]) if len(starts) < len(index) else ():
                if len(group) > 1:
                    yield group

    def found(self) -> Iterator[tuple[int, int]]:
        """Pairs of positions: a record, and the first one that has its id already; once, when all are taken."""
        for index, again in self._sorted():
            starts = np.maximum.accumulate(np.where(again, 0, np.arange(len(index))))
            later = np.flatnonzero(again)
            yield from zip(index[later].tolist(), index[starts[later]].tolist(), strict=True)

    def _sorted(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
        """Of each file the positions, equal ids side by side, and whether each has the id of the one before."""
        self._closing.close()
        for path in self._paths:
            ids = np.fromfile(path, HASHED)
            ids = ids[np.lexsort((ids["index"], ids["low"], ids["high"]))]
            again = np.zeros(len(ids), bool)
            again[1:] = (ids["high"][1:] == ids["high"][:-1]) & (ids["low"][1:] == ids["low"][:-1])
            yield ids["index"], again

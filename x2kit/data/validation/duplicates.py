"""Find duplicate ids in bounded memory. Imports no torch.

128-bit hashes of all ids are partitioned into files by their value; each file is small enough to sort in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

IdHashes: TypeAlias = NDArray[np.void]
"""[N] of `HASH_DTYPE`: the two halves of an id's hash, and the index of its record."""
HASH_DTYPE = np.dtype([("high", "<u8"), ("low", "<u8"), ("index", "<i8")])
_FILES = 256


def hash_ids(ids: Iterable[tuple[str, int]]) -> IdHashes:
    """Hash pairs of an id and the index of its record."""
    packed = b"".join(
        blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest() + index.to_bytes(8, "little")
        for name, index in ids
    )
    return np.frombuffer(packed, HASH_DTYPE)


class DuplicateIds:
    """Collect the ids of one source in any order, then list the duplicates. Use as a context manager.

    Args:
        folder: created if missing, else empty; takes 24 bytes per id.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._paths = [folder / f"{number:03d}" for number in range(_FILES)]
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        self._files = [self._closing.enter_context(path.open("wb")) for path in self._paths]
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()

    def add(self, ids: IdHashes) -> None:
        """Add hashed ids."""
        parts = ids["high"] % _FILES
        for part in np.unique(parts):
            self._files[part].write(ids[parts == part].tobytes())

    def groups(self) -> Iterator[NDArray[np.int64]]:
        """Yield the ascending indices of each id that occurs more than once; call once, after the last `add`."""
        self._closing.close()
        for path in self._paths:
            ids = np.fromfile(path, HASH_DTYPE)
            ids = ids[np.lexsort((ids["index"], ids["low"], ids["high"]))]
            repeats = np.zeros(len(ids), bool)
            repeats[1:] = (ids["high"][1:] == ids["high"][:-1]) & (ids["low"][1:] == ids["low"][:-1])
            shared = repeats.copy()
            shared[:-1] |= repeats[1:]
            if shared.any():
                yield from np.split(ids["index"][shared], np.flatnonzero(~repeats[shared])[1:])

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield the index of each repeated record with that of the first; call once, after the last `add`."""
        for group in self.groups():
            first, *repeated = group.tolist()
            yield from ((index, first) for index in repeated)

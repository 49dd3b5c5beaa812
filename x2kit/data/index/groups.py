"""Entries that belong together, in two arrays that forked processes share. Imports no torch."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


class Groups:
    """Places of entries by group; groups stand in the order of their first entries, and entries in their own.

    Args:
        keys: [K], equal where entries belong together.
        kept: [K] bool, entries that are in a group; None for all.
    """

    def __init__(self, keys: NDArray[np.int64], kept: NDArray[np.bool_] | None = None) -> None:
        places = np.arange(len(keys)) if kept is None else np.flatnonzero(kept)
        _, first, inverse = np.unique(keys[places], return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        groups = rank[inverse]
        self._order = places[np.argsort(groups, kind="stable")]
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(groups, minlength=len(first)))])

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, group: int) -> list[int]:
        """The places of the entries of a group."""
        if not 0 <= group < len(self):
            raise IndexError(f"record {group} of {len(self)}")
        members: list[int] = self._order[self._starts[group] : self._starts[group + 1]].tolist()
        return members


def key_of(text: str) -> int:
    """A number that stands for a text; two of a million texts are given one number once in 30 million cases."""
    return int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), signed=True)

"""Group entries by key, in two arrays that forked processes share. Imports no torch."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


class Groups:
    """Groups of entries with equal keys, in the order of their first entries.

    Args:
        keys: [K], equal within a group.
        kept: [K] bool, entries to group; None for all.
    """

    def __init__(self, keys: NDArray[np.int64], kept: NDArray[np.bool_] | None = None) -> None:
        entries = np.arange(len(keys)) if kept is None else np.flatnonzero(kept)
        _, first, inverse = np.unique(keys[entries], return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        groups = rank[inverse]
        self._order = entries[np.argsort(groups, kind="stable")]
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(groups, minlength=len(first)))])

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, group: int) -> list[int]:
        """Return the entries of a group in order."""
        if not 0 <= group < len(self):
            raise IndexError(f"record {group} of {len(self)}")
        members: list[int] = self._order[self._starts[group] : self._starts[group + 1]].tolist()
        return members


def hash_key(text: str) -> int:
    """Hash a text to 64 bits; among a million texts, a collision has a chance of 1 in 30 million."""
    return int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), signed=True)

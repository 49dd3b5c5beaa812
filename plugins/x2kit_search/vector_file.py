"""Read, write and scan a file of vectors, one after the other. Imports numpy; scanning imports torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 1 << 20
"""Scores or numbers computed at a time: 4 MB of float32, which stay in the cache."""


class Nearest(NamedTuple):
    """Candidates of each of q queries: slots [q, m] int64 and scores [q, m] float32, best first."""

    slots: np.ndarray
    scores: np.ndarray


def write_vectors(path: Path, first: int, vectors: np.ndarray) -> None:
    """Write vectors [n, E] from the slot `first` on, and wait until they are on disk."""
    flags = os.O_WRONLY | os.O_CREAT
    with os.fdopen(os.open(path, flags, 0o666), "wb") as file:
        file.seek(first * vectors.shape[1] * vectors.itemsize)
        file.write(np.ascontiguousarray(vectors).tobytes())
        file.flush()
        os.fsync(file.fileno())


def map_vectors(path: Path, count: int, dim: int, dtype: str) -> np.ndarray:
    """Map the first `count` vectors, read-only. Raises FileNotFoundError, or ValueError if there are fewer."""
    if count == 0:
        return np.empty((0, dim), dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", shape=(count, dim))


class Best:
    """The k vectors with the largest dot product to each query, over blocks that are added one by one.

    Args:
        queries: [q, E] float32.
        k: number of vectors to keep per query.
    """

    def __init__(self, queries: np.ndarray, k: int) -> None:
        import torch

        self._queries, self._k = torch.from_numpy(queries), k
        self._scores = torch.empty(len(queries), 0)
        self._slots = torch.empty(len(queries), 0, dtype=torch.int64)

    def add(self, vectors: np.ndarray, slots: np.ndarray) -> None:
        """Compare with vectors [n, E], whose slots are [n] int64."""
        import torch

        block = self._queries @ _float(vectors).T
        scores, places = block.topk(min(self._k, len(slots)), dim=1)
        scores = torch.cat([self._scores, scores], dim=1)
        found = torch.cat([self._slots, torch.from_numpy(slots)[places]], dim=1)
        self._scores, order = scores.topk(min(self._k, scores.shape[1]), dim=1)
        self._slots = found.gather(1, order)

    def result(self) -> Nearest:
        """Return the vectors found so far."""
        return Nearest(self._slots.numpy(), self._scores.numpy())


def nearest(vectors: np.ndarray, slots: np.ndarray, queries: np.ndarray, k: int) -> Nearest:
    """Find the k vectors with the largest dot product among the named slots.

    Args:
        vectors: [N, E], mapped.
        slots: [n] int64, ascending.
        queries: [q, E] float32.
    """
    best, step = Best(queries, k), max(1, BLOCK // max(len(queries), vectors.shape[1]))
    for start in range(0, len(slots), step):
        part = slots[start : start + step]
        best.add(_rows(vectors, part), part)
    return best.result()


def _rows(vectors: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """Return rows without a copy where the slots are consecutive."""
    first, last = int(slots[0]), int(slots[-1])
    return vectors[first : last + 1] if last - first + 1 == len(slots) else vectors[slots]


def _float(vectors: np.ndarray) -> Tensor:
    """Convert to float32 in torch, which does it with all cores and vector instructions; numpy does not."""
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.asarray(vectors)).float()

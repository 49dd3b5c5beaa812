"""Read, write and scan a file of vectors, one after the other. Imports numpy; `nearest` imports torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 1 << 24
"""Scores or numbers computed at a time: 64 MB of float32."""


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


def nearest(vectors: np.ndarray, slots: np.ndarray, queries: np.ndarray, k: int) -> Nearest:
    """Find the k vectors with the largest dot product among the named slots.

    Args:
        vectors: [N, E], mapped.
        slots: [n] int64, ascending.
        queries: [q, E] float32.
    """
    import torch

    asked = torch.from_numpy(queries)
    scores, found = torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
    step = max(1, BLOCK // max(len(queries), vectors.shape[1]))
    for start in range(0, len(slots), step):
        part = slots[start : start + step]
        block = asked @ _float(_rows(vectors, part)).T
        best, places = block.topk(min(k, len(part)), dim=1)
        scores = torch.cat([scores, best], dim=1)
        found = torch.cat([found, torch.from_numpy(part)[places]], dim=1)
        scores, order = scores.topk(min(k, scores.shape[1]), dim=1)
        found = found.gather(1, order)
    return Nearest(found.numpy(), scores.numpy())


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

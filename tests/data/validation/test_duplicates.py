"""Duplicate ids are found in any order and in bounded memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np

from x2kit.data.validation.duplicates import HASH_DTYPE, DuplicateIds, hash_ids


def duplicates(folder: Path, *parts: list[tuple[str, int]]) -> list[tuple[int, int]]:
    with DuplicateIds(folder) as ids:
        for part in parts:
            ids.add(hash_ids(part))
        return sorted(ids.pairs())


def test_each_repeated_record_is_paired_with_the_first_one(tmp_path: Path) -> None:
    assert duplicates(tmp_path, [("c", 7), ("a", 3), ("b", 4)], [("a", 9), ("a", 1), ("c", 8)]) == [
        (3, 1),
        (8, 7),
        (9, 1),
    ]


def test_different_ids_are_no_duplicates(tmp_path: Path) -> None:
    names = [("", 0), ("0", 1), ("00", 2), ("ä", 3), ("a\u0308", 4), ("\ud83d", 5)]
    assert duplicates(tmp_path, names) == []


def test_no_ids_have_no_duplicates(tmp_path: Path) -> None:
    assert duplicates(tmp_path) == []


def test_a_million_ids_take_little_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tracemalloc.start()
    with DuplicateIds(tmp_path) as ids:
        for start in range(0, 1_000_000, 10_000):
            part = np.zeros(10_000, HASH_DTYPE)
            part["high"], part["low"] = rng.integers(0, 2**63, (2, 10_000))
            part["index"] = np.arange(start, start + 10_000)
            ids.add(part)
        assert list(ids.pairs()) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20

"""Ids that occur twice are found whatever their number and order."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np

from x2kit.data.validation.duplicates import HASHED, DuplicateIds, hashed


def found(folder: Path, *parts: list[tuple[str, int]]) -> list[tuple[int, int]]:
    with DuplicateIds(folder) as ids:
        for part in parts:
            ids.add(hashed(part))
        return sorted(ids.found())


def test_every_later_record_is_named_with_the_first_that_has_its_id(tmp_path: Path) -> None:
    assert found(tmp_path, [("c", 7), ("a", 3), ("b", 4)], [("a", 9), ("a", 1), ("c", 8)]) == [
        (3, 1),
        (8, 7),
        (9, 1),
    ]


def test_ids_that_differ_are_none(tmp_path: Path) -> None:
    names = [("", 0), ("0", 1), ("00", 2), ("ä", 3), ("a\u0308", 4), ("\ud83d", 5)]
    assert found(tmp_path, names) == []


def test_no_ids_have_no_duplicates(tmp_path: Path) -> None:
    assert found(tmp_path) == []


def test_a_million_ids_take_little_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tracemalloc.start()
    with DuplicateIds(tmp_path) as ids:
        for start in range(0, 1_000_000, 10_000):
            part = np.zeros(10_000, HASHED)
            part["high"], part["low"] = rng.integers(0, 2**63, (2, 10_000))
            part["index"] = np.arange(start, start + 10_000)
            ids.add(part)
        assert list(ids.found()) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20

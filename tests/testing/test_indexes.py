"""The checks of indexes: each mistake is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from x2kit_search import Exact
from x2kit_search.exact import ExactIndex

from tests.testing.losing_index import LosesTheTail
from x2kit.plugin import BuildReport, DataError, Hit, Index, IndexConfig, IndexSpec, Rows
from x2kit.testing import checks

IN_OTHER_PROCESSES = (
    "the_module_imports_no_torch",
    "other_processes_see_every_write",
    "processes_write_at_once",
    "a_killed_writer_leaves_whole_batches",
)
"""Checks that start processes; a right index passes them in tests/plugins/x2kit_search."""


def check(component: IndexConfig) -> None:
    for one in checks("index"):
        if one.__name__ not in IN_OTHER_PROCESSES:
            one(component)


def broken(change: type[ExactIndex]) -> IndexConfig:
    """Make a component whose table has one changed method."""

    class Broken(Exact):
        """An index with a mistake."""

        def create(self, location: str, spec: IndexSpec) -> Index:
            return change.create(location, spec)

        def open(self, location: str) -> Index:
            return change.open(location)

    return Broken()


class ForgetsTheSpec(ExactIndex):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.spec = replace(self.spec, facts={})


class AppendsAlways(ExactIndex):
    def count(self, where: str = "") -> int:
        return self._table_rows() if not where else super().count(where)

    def _table_rows(self) -> int:
        with self._table.read() as table:
            return table.state().next_slot


class ChecksNothing(ExactIndex):
    def upsert(self, rows: Rows) -> None:
        vectors = np.nan_to_num(
            np.zeros((len(rows), self.spec.dim)) if rows.vectors is None else rows.vectors
        )
        norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        super().upsert(replace(rows, vectors=(vectors / norms).astype(np.float32)))


class UpdatesMakeRows(ExactIndex):
    def update(self, ids: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> int:
        super().update(ids, columns)
        return len(ids)


class DeletesAllForNothing(ExactIndex):
    def delete(self, where: str) -> int:
        return super().delete(where or "TRUE")


class IgnoresCase(ExactIndex):
    def _lower(self, where: str) -> str:
        return where.replace("path LIKE 'a", "lower(path) LIKE 'a")

    def scan(
        self, columns: Any = (), where: str = "", vectors: bool = False, batch: int = 10
    ) -> Iterator[Rows]:
        return super().scan(columns, self._lower(where), vectors, batch)


class FiltersAfterwards(ExactIndex):
    def search(self, vectors: np.ndarray, k: int, where: str = "", exact: bool = False) -> list[list[Hit]]:
        allowed = {name for rows in self.scan((), where) for name in rows.ids}
        return [[hit for hit in hits if hit.id in allowed] for hits in super().search(vectors, k)]


class IgnoresMistakes(ExactIndex):
    def count(self, where: str = "") -> int:
        try:
            return super().count(where)
        except DataError:
            return 0


class WorstFirst(ExactIndex):
    def search(self, vectors: np.ndarray, k: int, where: str = "", exact: bool = False) -> list[list[Hit]]:
        return [hits[::-1] for hits in super().search(vectors, k, where, exact)]


class Distances(ExactIndex):
    def search(self, vectors: np.ndarray, k: int, where: str = "", exact: bool = False) -> list[list[Hit]]:
        found = super().search(vectors, k, where, exact)
        return [[replace(hit, score=1 - hit.score) for hit in hits] for hits in found]


class NoColumns(ExactIndex):
    def search(self, vectors: np.ndarray, k: int, where: str = "", exact: bool = False) -> list[list[Hit]]:
        found = super().search(vectors, k, where, exact)
        return [[replace(hit, columns={}) for hit in hits] for hits in found]


class SilentRecall(ExactIndex):
    def build(self, progress: Any = None) -> BuildReport:
        return BuildReport("HNSW", self.count(), 0.1)


class LosesRows(ExactIndex):
    def compact(self) -> None:
        self.delete("year = 2006")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (ForgetsTheSpec, "it_creates_a_table_once: a reopened table has the description"),
        (AppendsAlways, "60 rows written repeatedly are 150"),
        (ChecksNothing, r"upsert\(\) accepts a vector with NaN"),
        (UpdatesMakeRows, r"update\(\) of two existing rows returns 3"),
        (DeletesAllForNothing, r"delete\(\) accepts an empty condition"),
        (IgnoresCase, r"path LIKE 'album 1/%': scan\(\) selects"),
        (FiltersAfterwards, r"search\(\) finds other rows than scan\(\)|0 hits, but|hits, but"),
        (IgnoresMistakes, r"count\(\) accepts the condition 'nowhere = 1'"),
        (WorstFirst, "the hits are not the nearest rows"),
        (Distances, "a score differs by"),
        (NoColumns, "a hit has other columns than its row"),
        (SilentRecall, r"build\(\) reports HNSW, stats\(\) exact"),
        (LosesRows, r"compact\(\) changes the set of rows"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_each_mistake_is_found(change: type[ExactIndex], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check(broken(change))


def named(name: str) -> Callable[..., None]:
    return next(one for one in checks("index") if one.__name__ == name)


@pytest.mark.parametrize("name", ["other_processes_see_every_write", "a_killed_writer_leaves_whole_batches"])
def test_rows_that_another_process_loses_are_found(name: str) -> None:
    with pytest.raises(
        AssertionError, match=r"rows of another process differ|left 39|rows were written|left \d+"
    ):
        named(name)(LosesTheTail())

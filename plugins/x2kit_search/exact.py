"""Exact search: compare queries with every stored vector. Imports numpy; searching imports torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from x2kit.plugin import BuildReport, DataError, Hit, Index, IndexSpec, IndexStats, Progress, Rows, rank_hits
from x2kit_search.row_table import RowTable, Snapshot, State
from x2kit_search.vector_file import Nearest, map_vectors, nearest, write_vectors


class ExactIndex(Index):
    """A SQLite table of rows, and a file of their vectors that is mapped into memory and scanned with torch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._table = RowTable(folder)
        self.spec = self._table.spec
        self._live: tuple[State, np.ndarray] | None = None

    @classmethod
    def create(cls, location: str, spec: IndexSpec, **settings: Any) -> Self:
        """Create an empty table in a local folder. Raises DataError for a URL or an existing table."""
        folder = local_folder(location)
        RowTable.create(folder, spec).close()
        return cls(folder, **settings)

    @classmethod
    def open(cls, location: str, **settings: Any) -> Self:
        """Open the table in a local folder. Raises DataError if there is none."""
        return cls(local_folder(location), **settings)

    def upsert(self, rows: Rows) -> None:
        rows.check(self.spec)
        if not len(rows) or rows.vectors is None:
            return
        with self._table.write() as table:
            state = table.state()
            file = self._vector_file(state.generation)
            write_vectors(file, state.next_slot, rows.vectors.astype(self.spec.dtype))
            table.insert(rows, state.next_slot)
            grown = state.next_slot + len(rows)
            table.set_fact("state", state._replace(next_slot=grown, version=state.version + 1))

    def update(self, ids: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> int:
        rows = Rows(ids, None, columns)
        rows.check(self.spec, vectors=False)
        if not ids or not columns:
            return 0
        with self._table.write() as table:
            state = table.state()
            table.set_fact("state", state._replace(version=state.version + 1))
            return table.update(rows)

    def delete(self, where: str) -> int:
        if not where.strip():
            raise DataError('an empty condition; to delete all rows use "TRUE"')
        with self._table.write() as table:
            slots = table.slots(where)
            table.delete(slots)
            state = table.state()
            table.set_fact("state", state._replace(version=state.version + 1))
        return len(slots)

    def count(self, where: str = "") -> int:
        with self._table.read() as table:
            return int(table.select("count(*)", where).fetchone()[0])

    def scan(
        self, columns: Sequence[str] = (), where: str = "", vectors: bool = False, batch: int = 10_000
    ) -> Iterator[Rows]:
        self.spec.require_columns(columns)
        mapped = None  # before another process compacts the table and deletes the file
        for table, slots, rows in self._table.scan(columns, where, batch):
            if vectors:
                mapped = self._map(table.state()) if mapped is None else mapped
                rows = Rows(rows.ids, mapped[slots].astype(np.float32), rows.columns)
            yield rows

    def search(self, vectors: np.ndarray, k: int, where: str = "", exact: bool = False) -> list[list[Hit]]:
        queries = self.spec.check_queries(vectors)
        try:
            found, rows = self._find(queries, k, where, exact)
        except DataError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            found, rows = self._find(
                queries, k, where, exact
            )  # another process compacted the table meanwhile
        return [
            rank_hits([Hit(rows[slot][0], score, rows[slot][1]) for slot, score in zip(*one, strict=True)], k)
            for one in zip(found.slots.tolist(), found.scores.tolist(), strict=True)
        ]

    def build(self, progress: Progress | None = None) -> BuildReport:
        return BuildReport("exact", self.count(), 0.0)

    def stats(self) -> IndexStats:
        with self._table.read() as table:
            rows, version = table.select("count(*)", "").fetchone()[0], table.state().version
        return IndexStats(rows, self._bytes(), "exact", 0, version)

    def compact(self) -> None:
        """Write the vectors of existing rows to a new file, and delete the old one."""
        with self._table.write() as table:
            state, slots = table.state(), table.slots("")
            if len(slots) == state.next_slot:
                return
            mapped, target = self._map(state), self._vector_file(state.generation + 1)
            target.unlink(missing_ok=True)  # left by a killed compaction
            for start in range(0, len(slots), 65_536):
                write_vectors(target, start, mapped[slots[start : start + 65_536]])
            table.renumber(slots)
            table.set_fact("state", State(state.generation + 1, len(slots), state.version + 1))
        self._vector_file(state.generation).unlink(missing_ok=True)
        self._table.vacuum()

    def close(self) -> None:
        self._table.close()

    def _find(
        self, queries: np.ndarray, k: int, where: str, exact: bool
    ) -> tuple[Nearest, dict[int, tuple[str, dict[str, Any]]]]:
        """Search in one transaction. Returns: slots and scores, and the rows by slot."""
        with self._table.read() as table:
            found = self._nearest(table, queries, k, where, exact)
            return found, table.by_slot(np.unique(found.slots).tolist())

    def _nearest(self, table: Snapshot, queries: np.ndarray, k: int, where: str, exact: bool) -> Nearest:
        return nearest(self._map(table.state()), self._slots(table, where), queries, k)

    def _slots(self, table: Snapshot, where: str) -> np.ndarray:
        """Return the slots of rows; those of all rows are kept until the table changes."""
        if where.strip():
            return table.slots(where)
        state, live = table.state(), self._live
        if live is None or live[0] != state:
            self._live = live = (state, table.slots(""))
        return live[1]

    def _map(self, state: State) -> np.ndarray:
        file = self._vector_file(state.generation)
        try:
            return map_vectors(file, state.next_slot, self.spec.dim, self.spec.dtype)
        except (OSError, ValueError) as error:
            raise DataError(f"{file}: vectors are missing or cut off: {error}") from error

    def _vector_file(self, generation: int) -> Path:
        return self._folder / f"vectors-{generation}.bin"

    def _bytes(self) -> int:
        return sum(file.stat().st_size for file in self._folder.iterdir() if file.is_file())


def local_folder(location: str) -> Path:
    """Return a location as a path. Raises DataError for a URL."""
    if "://" in location:
        raise DataError(f"{location}: this index is stored in a local folder; LanceDB also takes URLs")
    return Path(location)

"""Table of LanceDB, on disk or in an object store. Imports lancedb, pyarrow and numpy."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import BTree, IvfRq

from x2kit.plugin import BuildReport, DataError, Hit, Index, IndexSpec, IndexStats, Progress, Rows, rank_hits
from x2kit_search.row_table import QUOTED
from x2kit_search.vector_file import Best

if TYPE_CHECKING:
    from x2kit_search.config import LanceDB

TABLE = "rows"
SPEC = b"x2kit"
"""Key of the description in the metadata of the table's schema."""
VECTOR_INDEX = "vector_idx"
MANY = 4
"""Queries that make one pass over all vectors faster than a search of LanceDB for each."""
SCANNED = 16_384

_TYPES = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_()}


class LanceIndex(Index):
    """A table of LanceDB: every write is a version, and rows that an index lacks are searched exactly."""

    def __init__(self, settings: LanceDB, location: str) -> None:
        self._settings, self._location = settings, location
        with self._errors():
            self._table: Any = _connect(location).open_table(TABLE)
            self._schema = self._table.schema
        found = (self._schema.metadata or {}).get(SPEC)
        if found is None:
            raise DataError(f"{location}: the table {TABLE} of LanceDB was not written by x2kit")
        self.spec = IndexSpec.from_dict(json.loads(found))

    @classmethod
    def create(cls, settings: LanceDB, location: str, spec: IndexSpec) -> LanceIndex:
        """Create an empty table. Raises DataError if there is one."""
        try:
            table = _connect(location).create_table(TABLE, schema=_schema(spec))
        except ValueError as error:
            raise DataError(f"{location}: there is a table already") from error
        table.create_index("id", config=BTree())
        return cls(settings, location)

    def upsert(self, rows: Rows) -> None:
        rows.check(self.spec)
        if not len(rows) or rows.vectors is None:
            return
        flat = pa.array(rows.vectors.astype(self.spec.dtype).ravel())
        vectors = pa.FixedSizeListArray.from_arrays(flat, self.spec.dim)
        columns = [
            pa.array(rows.columns.get(name, [None] * len(rows)), _TYPES[kind])
            for name, kind in self.spec.columns.items()
        ]
        written = pa.Table.from_arrays([pa.array(rows.ids), vectors, *columns], schema=self._schema)
        with self._errors():
            merge = self._table.merge_insert("id").when_matched_update_all()
            merge.when_not_matched_insert_all().execute(written)

    def update(self, ids: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> int:
        Rows(ids, None, columns).check(self.spec, vectors=False)
        if not ids or not columns:
            return 0
        arrays = {name: pa.array(values, _TYPES[self.spec.columns[name]]) for name, values in columns.items()}
        with self._errors():
            merge = self._table.merge_insert("id").when_matched_update_all()
            return int(merge.execute(pa.table({"id": pa.array(ids), **arrays})).num_updated_rows)

    def delete(self, where: str) -> int:
        if not where.strip():
            raise DataError('an empty condition; to delete all rows use "TRUE"')
        with self._errors(where):
            return int(self._table.delete(_whole(where)).num_deleted_rows)

    def count(self, where: str = "") -> int:
        with self._errors(where):
            return int(self._table.count_rows(_whole(where)))

    def scan(
        self, columns: Sequence[str] = (), where: str = "", vectors: bool = False, batch: int = 10_000
    ) -> Iterator[Rows]:
        self.spec.require_columns(columns)
        names = ["id", *(["vector"] if vectors else []), *columns]
        with self._errors(where):
            query = self._table.search().select(names)
            for part in _where(query, where).to_batches(batch_size=batch):
                if not part.num_rows:
                    continue
                found = _vectors(part.column("vector"), self.spec.dim) if vectors else None
                values = {name: part.column(name).to_pylist() for name in columns}
                yield Rows(part.column("id").to_pylist(), found, values)

    def search(self, vectors: np.ndarray, k: int, where: str = "", exact: bool = False) -> list[list[Hit]]:
        queries = self.spec.check_queries(vectors)
        found = self._search(queries, k, where, exact)
        short = [place for place, hits in enumerate(found) if len(hits) < k]
        if short and not exact and self._stats() is not None:  # the probed partitions had too few rows
            for place, hits in zip(short, self._search(queries[short], k, where, exact=True), strict=True):
                found[place] = hits
        return found

    def build(self, progress: Progress | None = None) -> BuildReport:
        rows = self.count()
        if rows < max(self._settings.exact_below, 256):  # its quantiser needs 256 vectors
            return BuildReport("exact", rows, 0.0)
        say = progress or (lambda text: None)
        say(f"IVF_RQ over {rows:,} vectors")
        started = time.perf_counter()
        parts = max(1, rows // self._settings.partition_size)
        with self._errors(), warnings.catch_warnings():
            config = IvfRq(distance_type="cosine", num_partitions=parts)
            self._table.create_index("vector", config=config, name=VECTOR_INDEX, replace=True)
        seconds = time.perf_counter() - started
        say("recall")
        sample = self._sample(rows)
        return BuildReport(self.stats().kind, rows, seconds, self.recall(sample), len(sample))

    def stats(self) -> IndexStats:
        with self._errors():
            found, rows = self._stats(), self._table.count_rows()
            kind, unindexed = ("exact", 0) if found is None else (found.index_type, found.num_unindexed_rows)
            return IndexStats(rows, self._bytes(), kind, unindexed, self._table.version)

    def compact(self) -> None:
        """Merge small files, extend the indexes, and remove versions older than `keep_minutes`."""
        with self._errors(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="optimize")  # that 0 minutes suits one process only
            self._table.optimize(cleanup_older_than=timedelta(minutes=self._settings.keep_minutes))

    def close(self) -> None:
        """Do nothing: LanceDB opens files for each operation."""

    def _search(self, queries: np.ndarray, k: int, where: str, exact: bool) -> list[list[Hit]]:
        if len(queries) >= MANY and (exact or self._stats() is None):
            return self._scan_nearest(queries, k, where)
        if not len(queries):
            return []
        names = list(self.spec.columns)
        with self._errors(where):
            query = self._table.search(list(queries), vector_column_name="vector").distance_type("cosine")
            query = query.nprobes(self._settings.nprobes).refine_factor(self._settings.refine).limit(k)
            query = query.bypass_vector_index() if exact else query
            found = _where(query, where).select(["id", *names, "_distance"]).to_arrow()
        hits: list[list[Hit]] = [[] for _ in queries]
        places = found.column("query_index").to_pylist() if len(queries) > 1 else [0] * len(found)
        for place, row in zip(places, found.select(["id", "_distance", *names]).to_pylist(), strict=True):
            columns = {name: row[name] for name in names}
            hits[place].append(Hit(row["id"], 1 - row["_distance"], columns))
        return [rank_hits(one, k) for one in hits]

    def _scan_nearest(self, queries: np.ndarray, k: int, where: str) -> list[list[Hit]]:
        """Search exactly in one pass over the vectors; LanceDB makes a pass per query."""
        best, ids, count = Best(queries, k), [], 0
        with self._errors(where):
            query = self._table.search().select(["id", "vector"])
            for part in _where(query, where).to_batches(batch_size=SCANNED):
                if part.num_rows:
                    vectors = part.column("vector").flatten().to_numpy(zero_copy_only=False)
                    slots = np.arange(count, count + part.num_rows)
                    best.add(vectors.reshape(-1, self.spec.dim), slots)
                    ids.append(part.column("id"))
                    count += part.num_rows
        if not count:
            return [[] for _ in queries]
        found, names = best.result(), pa.chunked_array(ids)
        chosen = np.unique(found.slots)
        name_of = dict(zip(chosen.tolist(), names.take(pa.array(chosen)).to_pylist(), strict=True))
        rows = self._columns(list(name_of.values()))
        hits = [
            [
                Hit(name_of[slot], score, rows[name_of[slot]])
                for slot, score in zip(*one, strict=True)
                if name_of[slot] in rows
            ]
            for one in zip(found.slots.tolist(), found.scores.tolist(), strict=True)
        ]
        return [rank_hits(one, k) for one in hits]

    def _columns(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the columns of rows by id; rows deleted meanwhile are absent."""
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(ids), 1000):
            quoted = ", ".join("'" + name.replace("'", "''") + "'" for name in ids[start : start + 1000])
            for rows in self.scan(tuple(self.spec.columns), f"id IN ({quoted})"):
                for place, name in enumerate(rows.ids):
                    found[name] = {column: values[place] for column, values in rows.columns.items()}
        return found

    def _sample(self, rows: int) -> np.ndarray:
        """Return stored vectors [n, E] at random positions."""
        chosen = np.random.default_rng(0).choice(rows, size=min(rows, self.recall_queries), replace=False)
        found = self._table.take_offsets(sorted(chosen.tolist())).select(["vector"]).to_arrow()
        return _vectors(found.column("vector").combine_chunks(), self.spec.dim)

    def _stats(self) -> Any:
        return self._table.index_stats(VECTOR_INDEX)

    def _bytes(self) -> int | None:
        if "://" in self._location:
            return int(self._table.stats()["total_bytes"])
        folder = Path(self._location) / f"{TABLE}.lance"
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())

    @contextmanager
    def _errors(self, where: str = "") -> Iterator[None]:
        """Raise DataError for errors of LanceDB, which raises ValueError for what it is given."""
        try:
            yield
        except ValueError as error:
            if not where:
                raise DataError(f"{self._location}: {_first_line(error)}") from error
            raise DataError(f"invalid condition {where!r}: {_first_line(error)}") from error
        except (RuntimeError, OSError) as error:
            raise DataError(f"{self._location}: {_first_line(error)}") from error


def _connect(location: str) -> Any:
    """Connect so that every call sees what other processes wrote; object stores take settings from the environment."""
    try:
        return lancedb.connect(location, read_consistency_interval=timedelta(0))
    except (ValueError, RuntimeError, OSError) as error:
        raise DataError(f"{location}: {_first_line(error)}") from error


def _schema(spec: IndexSpec) -> pa.Schema:
    number = pa.float16() if spec.dtype == "float16" else pa.float32()
    columns = [pa.field(name, _TYPES[kind]) for name, kind in spec.columns.items()]
    fields = [
        pa.field("id", pa.string(), nullable=False),
        pa.field("vector", pa.list_(number, spec.dim)),
        *columns,
    ]
    return pa.schema(fields, metadata={SPEC: json.dumps(spec.to_dict()).encode()})


def _whole(where: str) -> str | None:
    """Return a condition, None for an empty one. Raises ValueError for what LanceDB would ignore after its end."""
    open_brackets = 0
    for sign in QUOTED.sub("", where):
        open_brackets += {"(": 1, ")": -1}.get(sign, 0)
        if open_brackets < 0 or sign == ";":
            raise ValueError(f"unexpected {sign}")
    return where if where.strip() else None


def _where(query: Any, where: str) -> Any:
    condition = _whole(where)
    return query if condition is None else query.where(condition)


def _vectors(column: Any, dim: int) -> np.ndarray:
    """Return a column of fixed-size lists as float32 [n, dim]."""
    found: np.ndarray = column.flatten().to_numpy(zero_copy_only=False)
    return found.reshape(-1, dim).astype(np.float32)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]

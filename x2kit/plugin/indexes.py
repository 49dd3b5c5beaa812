"""Contract of vector indexes: a table of rows with a vector each, searched by cosine similarity. Imports no torch.

A row has an id, a vector of unit length and values of the table's columns, any of which may be null. Conditions
(`where`) are SQL over the columns and `id`, at least with = <> < <= > >= IN LIKE, IS NULL, AND, OR, NOT and TRUE; LIKE
distinguishes upper and lower case. A comparison with null is not true.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np

from x2kit.errors import DataError, ShapeError

ColumnType: TypeAlias = Literal["text", "integer", "number", "boolean"]
"""Type of a column: str, int of 64 bits, finite float of 64 bits, or bool."""

_PYTHON: dict[ColumnType, tuple[type, ...]] = {
    "text": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_RESERVED = ("id", "vector")
_DECIMALS = 6
"""Scores are rounded, so that equal vectors have equal scores whatever the order of sums."""


@dataclass(frozen=True)
class IndexSpec:
    """Description of a table, stored with it.

    Attributes:
        dim: width E of the vectors.
        dtype: stored type of the vectors.
        columns: types by name; a name has lower-case letters, digits and _, and is neither `id` nor `vector`.
        facts: what the vectors are, such as name and fingerprint of the model; not interpreted by an index.

    Raises: DataError for an invalid width, name or type.
    """

    dim: int
    dtype: Literal["float16", "float32"] = "float16"
    columns: Mapping[str, ColumnType] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dim < 1 or self.dtype not in ("float16", "float32"):
            raise DataError(f"vectors of width {self.dim} and type {self.dtype}: use float16 or float32")
        for name, kind in self.columns.items():
            if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name) or name in _RESERVED:
                raise DataError(
                    f"column {name!r}: use up to 63 lower-case letters, digits and _; "
                    f"{' and '.join(_RESERVED)} are reserved"
                )
            if kind not in _PYTHON:
                raise DataError(f"column {name!r} has the type {kind!r}, allowed are {', '.join(_PYTHON)}")

    def require_columns(self, names: Iterable[str]) -> None:
        """Raise DataError if the table lacks one of these columns."""
        for name in names:
            if name not in self.columns:
                raise DataError(f"no column {name!r}; the columns are {', '.join(self.columns) or 'none'}")

    def check_queries(self, vectors: np.ndarray) -> np.ndarray:
        """Return queries as float32. Raises ShapeError unless they are [q, E], DataError if one is not finite."""
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise ShapeError(f"queries are {list(vectors.shape)}, expected [q, {self.dim}]")
        if not np.isfinite(vectors).all():
            raise DataError("a query vector contains NaN or Inf")
        return np.ascontiguousarray(vectors, dtype=np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "dim": self.dim,
            "dtype": self.dtype,
            "columns": dict(self.columns),
            "facts": dict(self.facts),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the result of `to_dict`. Raises DataError if a value is missing or invalid."""
        try:
            return cls(
                int(values["dim"]), values["dtype"], dict(values["columns"]), dict(values.get("facts", {}))
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"invalid description of an index: {error!r} in {dict(values)!r}") from error


@dataclass(frozen=True)
class Rows:
    """Rows of a table, column by column.

    Attributes:
        ids: n distinct texts, not empty.
        vectors: [n, E] float32, unit length; None where only columns are read.
        columns: n values by column, None for null. A column that is absent is null.
    """

    ids: Sequence[str]
    vectors: np.ndarray | None = None
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def check(self, spec: IndexSpec, vectors: bool = True) -> None:
        """Check rows to be written. Raises DataError, or ShapeError for vectors of another shape.

        Args:
            vectors: whether the rows need vectors; False for `Index.update`.
        """
        _check_ids(self.ids)
        spec.require_columns(self.columns)
        for name, values in self.columns.items():
            if len(values) != len(self):
                raise DataError(f"column {name!r} has {len(values)} values for {len(self)} rows")
            for value in values:
                _check_value(name, spec.columns[name], value)
        if vectors:
            self._check_vectors(spec)

    def _check_vectors(self, spec: IndexSpec) -> None:
        if self.vectors is None or self.vectors.shape != (len(self), spec.dim):
            found = None if self.vectors is None else list(self.vectors.shape)
            raise ShapeError(f"vectors of {len(self)} rows are {found}, expected {[len(self), spec.dim]}")
        broken = ~(np.abs(np.linalg.norm(self.vectors, axis=1) - 1) < 1e-2)  # also True for NaN
        if broken.any():
            name = self.ids[int(np.flatnonzero(broken)[0])]
            raise DataError(f"the vector of {name!r} is not of unit length; {int(broken.sum())} are not")


@dataclass(frozen=True)
class Hit:
    """A row that a search found.

    Attributes:
        id: id of the row.
        score: cosine similarity to the query, rounded to six decimals.
        columns: values of all columns.
    """

    id: str
    score: float
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildReport:
    """Result of `Index.build`.

    Attributes:
        kind: method of the search afterwards, such as "exact" or "IVF4096,SQ8".
        rows: number of indexed rows.
        seconds: duration of the build, without measuring recall.
        recall: mean recall@10 against exact search for `queries` stored vectors; None for exact search.
        queries: number of queries of `recall`.
    """

    kind: str
    rows: int
    seconds: float
    recall: float | None = None
    queries: int = 0


@dataclass(frozen=True)
class IndexStats:
    """State of a table.

    Attributes:
        rows: number of rows.
        bytes: size on disk, in bytes; None if unknown, as on a server.
        kind: method of the search, as in `BuildReport`.
        unindexed: rows that the approximate index does not have yet, which are searched exactly; 0 for exact search.
        version: counts changes of the table; None if the database does not count them.
    """

    rows: int
    bytes: int | None
    kind: str
    unindexed: int
    version: int | None


Progress: TypeAlias = Callable[[str], None]
"""Called with a short text at each stage of a build."""


class Index(ABC):
    """A table of rows in a database, opened or created by an `IndexConfig`.

    Every write is atomic: after `kill -9` at any moment a table has all of its rows or none of them. Several processes
    may write to one table, and threads may search one `Index` at a time when others write. A write is visible to
    later calls of this object at once, and to other open objects at their next call.

    Methods raise DataError for an invalid condition, a missing column, or a table that cannot be read.
    """

    recall_queries: ClassVar[int] = 200
    spec: IndexSpec

    @abstractmethod
    def upsert(self, rows: Rows) -> None:
        """Insert rows, and replace those with the same id wholly. Raises as `Rows.check` before anything is written."""

    @abstractmethod
    def update(self, ids: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> int:
        """Set columns of existing rows; other columns and vectors stay.

        Args:
            ids: distinct ids; those that are not in the table are ignored.
            columns: a value per id, by column.
        Returns: number of changed rows.
        """

    @abstractmethod
    def delete(self, where: str) -> int:
        """Delete the rows that a condition selects, all for "TRUE". Returns: their number."""

    @abstractmethod
    def count(self, where: str = "") -> int:
        """Count rows; without a condition all."""

    @abstractmethod
    def scan(
        self, columns: Sequence[str] = (), where: str = "", vectors: bool = False, batch: int = 10_000
    ) -> Iterator[Rows]:
        """Iterate over ids and the named columns, at most `batch` rows at a time, in no particular order."""

    @abstractmethod
    def search(self, vectors: np.ndarray, k: int, where: str = "", exact: bool = False) -> list[list[Hit]]:
        """Find the k rows with the highest cosine similarity to each query.

        Args:
            vectors: [q, E] float32, unit length.
            k: number of hits per query; fewer only if fewer rows match `where`.
            where: condition on the rows, applied before ranking.
            exact: compare with every row, even if there is an approximate index.
        Returns: a list per query, best first; hits with the same score are ordered by id.
        """

    @abstractmethod
    def build(self, progress: Progress | None = None) -> BuildReport:
        """Build or rebuild the approximate index, if the table is large enough to need one.

        Rows may be searched and written meanwhile, by this and other processes.
        """

    @abstractmethod
    def stats(self) -> IndexStats:
        """Return number of rows, size and state of the approximate index."""

    @abstractmethod
    def compact(self) -> None:
        """Free the space of deleted and replaced rows and of older versions."""

    @abstractmethod
    def close(self) -> None:
        """Close files and connections; may be called twice."""

    def recall(self, queries: np.ndarray, k: int = 10) -> float:
        """Return the mean share of the k exact hits that the approximate search finds, for queries [q, E]."""
        found = self.search(queries, k)
        expected = self.search(queries, k, exact=True)
        shares = [
            len({hit.id for hit in one} & {hit.id for hit in other}) / max(len(other), 1)
            for one, other in zip(found, expected, strict=True)
        ]
        return float(np.mean(shares)) if shares else 1.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def rank_hits(hits: Sequence[Hit], k: int) -> list[Hit]:
    """Return the k best hits, ordered by score rounded to six decimals and then by id."""
    rounded = [replace(hit, score=round(hit.score, _DECIMALS) + 0.0) for hit in hits]  # -0.0 becomes 0.0
    return sorted(rounded, key=lambda hit: (-hit.score, hit.id))[:k]


def _check_ids(ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in ids:
        if not isinstance(name, str) or not name:
            raise DataError(f"invalid id {name!r}: expected a text that is not empty")
        if name in seen:
            raise DataError(f"the id {name!r} occurs twice in one call")
        _check_text("id", name)
        seen.add(name)


def _check_value(name: str, kind: ColumnType, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, _PYTHON[kind]) or isinstance(value, bool) != (kind == "boolean"):
        raise DataError(f"column {name!r} is of type {kind}, found {value!r}")
    if isinstance(value, str):
        _check_text(f"column {name!r}", value)
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"column {name!r}: {value} is not finite; use null")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise DataError(f"column {name!r}: {value} does not fit 64 bits")


def _check_text(what: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{what}: {value!r} is not valid Unicode, as names of files may be") from error
    if "\0" in value:
        raise DataError(f"{what}: {value!r} contains a null character")

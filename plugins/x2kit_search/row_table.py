"""Keep ids and columns of a table in SQLite, and a vector file by slot. Imports sqlite3 and numpy."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from x2kit.plugin import DataError, IndexSpec, Rows

DATABASE = "table.sqlite"
WAIT_SECONDS = 120.0
"""How long a writer waits for another one."""
MAX_CONDITION = 100_000
"""Characters of a condition."""

QUOTED = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`""")
"""Quoted texts and names of a condition."""
_SUBQUERY = re.compile(r"\b(select|with|values)\b", re.IGNORECASE)
_TYPES = {"text": "TEXT", "integer": "INTEGER", "number": "REAL", "boolean": "INTEGER"}
_FUNCTIONS = {
    "count",
    "like",
    "lower",
    "upper",
    "length",
    "abs",
    "coalesce",
    "ifnull",
    "substr",
    "instr",
    "round",
}


class State(NamedTuple):
    """Counters of a table.

    Attributes:
        generation: number of the vector file; grows when the table is compacted.
        next_slot: position of the next vector in the file.
        version: number of writes.
    """

    generation: int
    next_slot: int
    version: int


class Snapshot:
    """A consistent view of the rows: a read transaction, or the writer's own."""

    def __init__(self, connection: sqlite3.Connection, spec: IndexSpec) -> None:
        self._connection = connection
        self._spec = spec

    def fact(self, name: str) -> Any:
        """Return a value of the table `facts`; None if absent."""
        return _fact(self._connection, name)

    def state(self) -> State:
        """Return the counters."""
        return State(*self.fact("state"))

    def slots(self, where: str) -> np.ndarray:
        """Return the slots of the rows that a condition selects, int64, ascending."""
        cursor = self.select("slot", where, order="ORDER BY slot")
        return np.fromiter((slot for (slot,) in cursor), dtype=np.int64)

    def select(self, what: str, where: str, order: str = "") -> sqlite3.Cursor:
        """Select from the rows that a condition selects. Raises DataError for an invalid condition."""
        if len(where) > MAX_CONDITION:
            raise DataError(f"a condition of {len(where)} characters; at most {MAX_CONDITION} are allowed")
        if _SUBQUERY.search(QUOTED.sub("", where)):
            raise DataError(f"invalid condition {where!r}: it has a query of its own")
        condition = f" WHERE ({where}\n)" if where.strip() else ""  # a comment ends with the line
        self._connection.set_authorizer(_read_only)
        try:
            return self._connection.execute(f"SELECT {what} FROM rows{condition} {order}")
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise DataError(
                f"invalid condition {where!r}: {error}; the columns are {', '.join(['id', *self._spec.columns])}"
            ) from error
        finally:
            self._connection.set_authorizer(None)

    def by_slot(self, slots: Sequence[int]) -> dict[int, tuple[str, dict[str, Any]]]:
        """Return id and columns of these slots."""
        what = ", ".join(["slot", "id", *(f'"{name}"' for name in self._spec.columns)])
        found = self._connection.execute(
            f"SELECT {what} FROM rows WHERE slot IN (SELECT value FROM json_each(?))",
            (json.dumps([int(slot) for slot in slots]),),
        )
        return {slot: (name, self.row(self._spec.columns, values)) for slot, name, *values in found}

    def row(self, names: Sequence[str] | Mapping[str, Any], values: Sequence[Any]) -> dict[str, Any]:
        """Return values by column, with booleans as such."""
        return {
            name: bool(value) if value is not None and self._spec.columns[name] == "boolean" else value
            for name, value in zip(names, values, strict=True)
        }


class RowTable:
    """SQLite database of ids, columns and slots.

    A transaction of the database decides what exists: vectors that a killed writer left in the file belong to no row
    and are overwritten.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / DATABASE
        if not self._path.is_file():
            raise DataError(f"{folder}: no table ({DATABASE} not found)")
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        with _transaction(self._connection(), "BEGIN"):
            self.spec = IndexSpec.from_dict(_fact(self._connection(), "spec"))

    @classmethod
    def create(cls, folder: Path, spec: IndexSpec) -> RowTable:
        """Create an empty table. Raises DataError if there is one."""
        folder.mkdir(parents=True, exist_ok=True)
        columns = "".join(f', "{name}" {_TYPES[kind]}' for name, kind in spec.columns.items())
        connection = _connect(folder / DATABASE)
        try:
            with _transaction(connection):
                if connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                    raise DataError(f"{folder}: there is a table already")
                connection.execute("CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
                connection.execute(
                    f"CREATE TABLE rows (slot INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE{columns})"
                )
                _set_fact(connection, "spec", spec.to_dict())
                _set_fact(connection, "state", State(0, 0, 0))
        finally:
            connection.close()
        return cls(folder)

    @contextmanager
    def read(self) -> Iterator[Snapshot]:
        """Read in one transaction."""
        connection = self._connection()
        with _transaction(connection, "BEGIN"):
            yield Snapshot(connection, self.spec)

    @contextmanager
    def write(self) -> Iterator[Writer]:
        """Write in one transaction, alone; it is rolled back if the block raises."""
        connection = self._connection()
        with _transaction(connection):
            yield Writer(connection, self.spec)

    def scan(
        self, columns: Sequence[str], where: str, batch: int
    ) -> Iterator[tuple[Snapshot, np.ndarray, Rows]]:
        """Iterate over slots, ids and columns, in a transaction and connection of its own."""
        connection = _connect(self._path)
        try:
            connection.execute("BEGIN")
            snapshot = Snapshot(connection, self.spec)
            what = ", ".join(["slot", "id", *(f'"{name}"' for name in columns)])
            cursor = snapshot.select(what, where, order="ORDER BY slot")
            while found := cursor.fetchmany(batch):
                slots, ids, *_ = zip(*found, strict=True)
                values = [snapshot.row(columns, row[2:]) for row in found]
                read = {name: [row[name] for row in values] for name in columns}
                yield snapshot, np.array(slots, dtype=np.int64), Rows(list(ids), None, read)
        finally:
            connection.close()

    def vacuum(self) -> None:
        """Free the space of deleted rows."""
        try:
            self._connection().execute("VACUUM")
            self._connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise DataError(f"{self._path}: the space of deleted rows is not free: {error}") from error

    def close(self) -> None:
        """Close the connections of all threads."""
        for connection in self._opened:
            connection.close()
        self._opened.clear()
        self._local = threading.local()

    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._local, "connection"):
            self._local.connection = _connect(self._path)
            self._opened.append(self._local.connection)
        return self._local.connection


class Writer(Snapshot):
    """The rows in a write transaction."""

    def set_fact(self, name: str, value: Any) -> None:
        """Set a value of the table `facts`."""
        _set_fact(self._connection, name, value)

    def insert(self, rows: Rows, first: int) -> None:
        """Insert rows with slots from `first` on, in place of those with the same ids."""
        self._connection.executemany("DELETE FROM rows WHERE id = ?", ((name,) for name in rows.ids))
        names = ", ".join(["slot", "id", *(f'"{name}"' for name in rows.columns)])
        marks = ", ".join("?" * (2 + len(rows.columns)))
        values = zip(range(first, first + len(rows)), rows.ids, *rows.columns.values(), strict=True)
        self._connection.executemany(f"INSERT INTO rows ({names}) VALUES ({marks})", values)

    def update(self, rows: Rows) -> int:
        """Set columns by id. Returns: number of rows that exist."""
        settings = ", ".join(f'"{name}" = ?' for name in rows.columns)
        values = zip(*rows.columns.values(), rows.ids, strict=True)
        return self._connection.executemany(f"UPDATE rows SET {settings} WHERE id = ?", values).rowcount

    def delete(self, slots: np.ndarray) -> None:
        """Delete the rows of these slots."""
        self._connection.executemany("DELETE FROM rows WHERE slot = ?", ((int(slot),) for slot in slots))

    def renumber(self, slots: np.ndarray) -> None:
        """Give the rows of these ascending slots the slots from 0 on."""
        moved = ((new, int(old)) for new, old in enumerate(slots) if new != old)
        self._connection.executemany("UPDATE rows SET slot = ? WHERE slot = ?", moved)


def _connect(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA case_sensitive_like = ON")
    except sqlite3.Error as error:
        raise DataError(f"{path}: cannot be opened: {error}") from error
    return connection


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Run a block in a transaction. Raises DataError for an error of SQLite, such as a full disk."""
    try:
        connection.execute(begin)
        with connection:  # commits, or rolls back
            yield
    except sqlite3.Error as error:
        raise DataError(f"the table cannot be read or written: {error}") from error


def _fact(connection: sqlite3.Connection, name: str) -> Any:
    found = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return None if found is None else json.loads(found[0])


def _set_fact(connection: sqlite3.Connection, name: str, value: Any) -> None:
    connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))


def _read_only(action: int, name: str | None, column: str | None, *_: Any) -> int:
    """Authorize a condition to read columns and to call harmless functions (`sqlite3_set_authorizer`)."""
    allowed = (
        action == sqlite3.SQLITE_SELECT
        or (action == sqlite3.SQLITE_READ and name == "rows")
        or (action == sqlite3.SQLITE_FUNCTION and column in _FUNCTIONS)
    )
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

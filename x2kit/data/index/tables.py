"""Index the rows of tables of comma- or tab-separated values (.csv, .tsv). Imports no torch."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from x2kit.data.storage import files
from x2kit.data.storage.index_cache import cached_if_slow
from x2kit.data.storage.limits import check_size
from x2kit.data.storage.locations import name_of
from x2kit.errors import DataError, Reason

_DELIMITERS = {".csv": ",", ".tsv": "\t"}


def is_table(location: str) -> bool:
    """Return whether a file is a table, by its ending."""
    return name_of(location).lower().endswith(tuple(_DELIMITERS))


class TableIndex:
    """The rows of a table below its header; a quoted value may span lines.

    Attributes:
        location: local path or URL.
        header: names of the fields.
        numbers: [K] int64, the number of the first line of each row, from 1.
    """

    def __init__(self, location: str) -> None:
        """Index the rows. Raises DataError if the file cannot be read, is no table, or two fields have one name."""
        self.location = location
        rows = cached_if_slow(location, _rows, "rows of a table")
        if rows.shape[1] == 0:
            raise DataError(
                f"{location}: no header line with the names of the fields", reason=Reason.FIELD_MISSING
            )
        self._starts, self._ends, self.numbers = rows[:, 1:]
        self.header = self._values(int(rows[0, 0]), int(rows[1, 0]))
        if len(set(self.header)) < len(self.header):
            raise DataError(
                f"{location}: two fields have one name in the header {', '.join(self.header)}",
                reason=Reason.FIELD_TYPE,
            )

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, row: int) -> dict[str, str]:
        """Read a row by position. Raises DataError if it has more or fewer values than the header."""
        values = self._values(int(self._starts[row]), int(self._ends[row]))
        if len(values) != len(self.header):
            raise DataError(
                f"{len(values)} values, but the header has {len(self.header)} fields: {', '.join(self.header)}",
                reason=Reason.FIELD_MISSING,
            )
        return dict(zip(self.header, values, strict=True))

    def _values(self, start: int, end: int) -> list[str]:
        values: list[str]
        check_size(end - start, "the row")
        data = files.read(self.location, start, end)
        if len(data) < end - start:
            raise DataError("the file has been truncated since it was opened", reason=Reason.FILE_UNREADABLE)
        try:
            (values,) = _reader(self.location, data.split(b"\n"))
        except (csv.Error, ValueError) as error:
            raise DataError(f"not a row of a table: {error}", reason=Reason.FIELD_TYPE) from error
        return values


def _rows(location: str) -> NDArray[np.int64]:
    """Return [3, 1 + K]: start, end and number of the first line of the header and of each row."""
    lines = files.read_limited(location).split(b"\n")
    edges = np.concatenate([[0], np.cumsum([len(line) + 1 for line in lines])])
    found: list[tuple[int, int, int]] = []
    reader, first = _reader(location, lines), 0
    try:
        for values in reader:
            if values:
                found.append((int(edges[first]), int(edges[reader.line_num]) - 1, first + 1))
            first = reader.line_num
    except csv.Error as error:
        raise DataError(f"{location}:{first + 1}: not a table: {error}", reason=Reason.FIELD_TYPE) from error
    return np.asarray(found, np.int64).reshape(-1, 3).T


def _decoded(lines: Sequence[bytes]) -> Iterator[str]:
    """Decode lines with their ends; bytes that are not UTF-8 are kept apart, so that one row alone is broken."""
    for number, line in enumerate(lines):
        text = line.decode("utf-8-sig" if number == 0 else "utf-8", errors="surrogateescape")
        yield text if number == len(lines) - 1 else text + "\n"


def _reader(location: str, lines: Sequence[bytes]) -> Any:
    delimiter = _DELIMITERS[name_of(location).lower()[-4:]]
    return csv.reader(_decoded(lines), delimiter=delimiter, strict=True)

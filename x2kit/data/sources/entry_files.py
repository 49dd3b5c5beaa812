"""Read the entries of annotation files by position, each on access. Imports no torch.

A file that ends in .csv or .tsv is a table, whose first line names the fields. Of other files the content decides: a
JSON list of objects, a JSON object of objects (whose keys become the field `id` of objects without one), or JSON Lines.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from x2kit.data.index.json_spans import Spans, find_marks, spans_at
from x2kit.data.index.lines import LineIndex
from x2kit.data.index.tables import TableIndex, is_table
from x2kit.data.sources.fields import as_object, errors_at, parse_json, parse_object
from x2kit.data.storage import files
from x2kit.data.storage.index_cache import cached_if_slow
from x2kit.data.storage.limits import check_size
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Place


class EntryFile(ABC):
    """The entries of one annotation file.

    Attributes:
        location: local path or URL.
    """

    def __init__(self, location: str) -> None:
        self.location = location

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def place(self, entry: int) -> Place:
        """Return file and line or offset of an entry."""

    @abstractmethod
    def label(self, entry: int) -> str:
        """Return line or number of an entry from 1, as the text that follows the file in messages."""

    @abstractmethod
    def _fields(self, entry: int, file: BinaryIO | None) -> dict[str, Any]:
        """Read an entry, from `file` if it is open already. Raises DataError without its place."""

    def read(self, entry: int, file: BinaryIO | None = None) -> dict[str, Any]:
        """Read an entry. Raises DataError, with file and entry, if it is no JSON object."""
        with errors_at(f"{self.location}{self.label(entry)}"):
            return self._fields(entry, file)

    def scan(self) -> Iterator[dict[str, Any] | None]:
        """Yield all entries in order; None for a broken one."""
        with files.open_file(self.location) as file:
            for entry in range(len(self)):
                try:
                    yield self.read(entry, file)
                except DataError:
                    yield None


class DocumentEntries(EntryFile):
    """The elements of a JSON list, or the members of a JSON object."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self._keyed = first_character(location) == b"{"
        self._spans = element_spans(location)

    def __len__(self) -> int:
        return len(self._spans)

    def place(self, entry: int) -> Place:
        return Place(self.location, offset=int(self._spans[entry, 0]))

    def label(self, entry: int) -> str:
        return f" entry {entry + 1}"

    def _fields(self, entry: int, file: BinaryIO | None) -> dict[str, Any]:
        data = read_span(file or self.location, self._spans[entry])
        if not self._keyed:
            return parse_object(data)
        member = parse_object(b"{" + data + b"}")
        if len(member) != 1:
            raise DataError("not JSON: no member between two commas", reason=Reason.NOT_JSON)
        ((key, value),) = member.items()
        return {"id": key, **as_object(value)}


class LineEntries(EntryFile):
    """The lines of a JSON Lines file."""

    def __init__(self, lines: LineIndex) -> None:
        super().__init__(lines.location)
        self._lines = lines

    def __len__(self) -> int:
        return len(self._lines)

    def place(self, entry: int) -> Place:
        return Place(self.location, line=self._lines.number(entry))

    def label(self, entry: int) -> str:
        return f":{self._lines.number(entry)}"

    def _fields(self, entry: int, file: BinaryIO | None) -> dict[str, Any]:
        return parse_object(self._lines.read(entry))


class TableEntries(EntryFile):
    """The rows of a table of comma- or tab-separated values; every value is a text."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self._rows = TableIndex(location)

    def __len__(self) -> int:
        return len(self._rows)

    def place(self, entry: int) -> Place:
        return Place(self.location, line=int(self._rows.numbers[entry]))

    def label(self, entry: int) -> str:
        return f":{self._rows.numbers[entry]}"

    def _fields(self, entry: int, file: BinaryIO | None) -> dict[str, Any]:
        return dict(self._rows.read(entry))


def open_entries(location: str) -> EntryFile:
    """Open a file of any layout. Raises DataError if it cannot be read or has another layout."""
    if is_table(location):
        return TableEntries(location)
    if first_character(location) != b"{":
        return DocumentEntries(location)
    lines = LineIndex(location)
    try:
        first = parse_json(lines.read(0))
        is_document = len(lines) == 1 and all(isinstance(value, dict) for value in first.values())
    except DataError:  # an object over several lines, or a broken first line before others
        try:
            is_document = len(lines) < 2 or not isinstance(parse_json(lines.read(1)), dict)
        except DataError:
            is_document = True
    return DocumentEntries(location) if is_document else LineEntries(lines)


def first_character(location: str) -> bytes:
    """Return the first non-space character; empty for an empty file. Raises DataError if it cannot be read."""
    for chunk in files.chunks(location, 4096):
        if stripped := chunk.removeprefix(b"\xef\xbb\xbf").lstrip():
            return stripped[:1]
    return b""


def element_spans(location: str) -> Spans:
    """Return [K, 2]: the elements of the outermost list, or the members of the outermost object."""
    return cached_if_slow(location, _find_spans, "outer parts")


def _find_spans(location: str) -> Spans:
    with errors_at(location):
        return drop_blank(location, spans_at(find_marks(files.chunks(location), 1), 1))


def drop_blank(location: str, spans: Spans) -> Spans:
    """Drop the single blank span of an empty list."""
    return spans[:0] if len(spans) == 1 and not read_span(location, spans[0]).strip() else spans


def read_span(file: str | BinaryIO, span: NDArray[np.int64]) -> bytes:
    """Read the bytes of a span from a location or an open file.

    Raises: DataError if the file has been truncated, or cannot be read.
    """
    start, end = int(span[0]), int(span[1])
    check_size(end - start, "the entry")
    if isinstance(file, str):
        data = files.read(file, start, end)
    else:
        file.seek(start)
        data = file.read(end - start)
    if len(data) < end - start:
        raise DataError("the file has been truncated since it was opened", reason=Reason.FILE_UNREADABLE)
    return data

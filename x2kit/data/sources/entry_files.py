"""The entries of annotation files by position, each read when it is asked for. Imports no torch.

Three layouts, told apart by their content: a JSON list of objects, a JSON object of objects (whose keys become the
field `id` where an object has none), and JSON Lines.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from x2kit.data.index.json_spans import Spans, find_marks, parts
from x2kit.data.index.lines import LineIndex
from x2kit.data.sources.fields import as_object, parse_json
from x2kit.data.storage import files
from x2kit.data.storage.index_cache import remembered_if_slow
from x2kit.data.storage.limits import require_few_bytes
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
        """Where an entry stands."""

    @abstractmethod
    def label(self, entry: int) -> str:
        """Line or number of an entry, counted from 1, to stand behind the name of the file."""

    @abstractmethod
    def _fields(self, entry: int, file: BinaryIO | None) -> dict[str, Any]:
        """The fields of an entry; DataError without its place. A file that is open already need not be opened."""

    def read(self, entry: int, file: BinaryIO | None = None) -> dict[str, Any]:
        """The fields of an entry. Raises DataError with file and entry if it is no object."""
        try:
            return self._fields(entry, file)
        except DataError as error:
            raise DataError(f"{self.location}{self.label(entry)}: {error}", reason=error.reason) from error

    def scan(self) -> Iterator[dict[str, Any] | None]:
        """All entries in order; None stands for one that `read` refuses."""
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
        self._spans = outer_parts(location)

    def __len__(self) -> int:
        return len(self._spans)

    def place(self, entry: int) -> Place:
        return Place(self.location, offset=int(self._spans[entry, 0]))

    def label(self, entry: int) -> str:
        return f" entry {entry + 1}"

    def _fields(self, entry: int, file: BinaryIO | None) -> dict[str, Any]:
        data = read_span(file or self.location, self._spans[entry])
        if not self._keyed:
            return as_object(parse_json(data))
        member = as_object(parse_json(b"{" + data + b"}"))
        if len(member) != 1:
            raise DataError("not JSON: nothing stands between two commas", reason=Reason.NOT_JSON)
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
        return Place(self.location, line=int(self._lines.numbers[entry]))

    def label(self, entry: int) -> str:
        return f":{self._lines.numbers[entry]}"

    def _fields(self, entry: int, file: BinaryIO | None) -> dict[str, Any]:
        return as_object(parse_json(self._lines.read(entry)))


def open_entries(location: str) -> EntryFile:
    """The entries of a file of any layout. Raises DataError if it is unreadable or in none of them."""
    if first_character(location) != b"{":
        return DocumentEntries(location)
    lines = LineIndex(location)
    try:
        first = parse_json(lines.read(0))
    except DataError:  # an object over several lines, or a broken first line before others
        return LineEntries(lines) if _is_object(lines, 1) else DocumentEntries(location)
    keyed = len(lines) == 1 and all(isinstance(value, dict) for value in first.values())
    return DocumentEntries(location) if keyed else LineEntries(lines)


def _is_object(lines: LineIndex, line: int) -> bool:
    try:
        return line < len(lines) and isinstance(parse_json(lines.read(line)), dict)
    except DataError:
        return False


def first_character(location: str) -> bytes:
    """The first one that is not white space; nothing of an empty file. Raises DataError if it cannot be read."""
    for chunk in files.chunks(location, 4096):
        if stripped := chunk.removeprefix(b"\xef\xbb\xbf").lstrip():
            return stripped[:1]
    return b""


def outer_parts(location: str) -> Spans:
    """[K, 2]: the elements of the outermost list, or the members of the outermost object."""
    return remembered_if_slow(location, _outer_parts, "outer parts")


def _outer_parts(location: str) -> Spans:
    try:
        return filled(location, parts(find_marks(files.chunks(location), 1), 1))
    except DataError as error:
        raise DataError(f"{location}: {error}", reason=error.reason) from error


def filled(location: str, spans: Spans) -> Spans:
    """The spans themselves, but none instead of the one part that an empty list has."""
    return spans[:0] if len(spans) == 1 and not read_span(location, spans[0]).strip() else spans


def read_span(file: str | BinaryIO, span: NDArray[np.int64]) -> bytes:
    """The bytes between two offsets of a file, or of one that is open already.

    Raises: DataError if it has become shorter, or cannot be read.
    """
    start, end = int(span[0]), int(span[1])
    require_few_bytes(end - start, "the entry")
    if isinstance(file, str):
        data = files.read(file, start, end)
    else:
        file.seek(start)
        data = file.read(end - start)
    if len(data) < end - start:
        raise DataError("has become shorter since it was opened", reason=Reason.FILE_UNREADABLE)
    return data

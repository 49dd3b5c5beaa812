"""Index the elements of lists in large JSON documents by their integer fields. Imports no torch.

An index is a single array, which forked processes share.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from x2kit.data.index.json_spans import Spans, find_marks, spans_at
from x2kit.data.sources.entry_files import drop_blank, read_span
from x2kit.data.sources.fields import errors_at, int_field, parse_object
from x2kit.data.storage import files
from x2kit.data.storage.index_cache import cached_if_slow
from x2kit.errors import DataError, Reason

ABSENT = -(2**63)
"""Value of a missing integer field."""

_MEMBER = re.compile(rb'\s*"((?:[^"\\]|\\.)*)"\s*:')
_LONGEST_NAME = 1024


class ElementIndex:
    """The elements of the lists in a file.

    Attributes:
        location: local path or URL.

    Args:
        location: local path or URL.
        lists: names of the lists in the outermost object; empty if the document is a list.
        keys: names of the integer fields to index.
    Raises: DataError if the document has another structure, or an element is no object.
    """

    def __init__(self, location: str, lists: Sequence[str], keys: Sequence[str]) -> None:
        self.location = location
        self._lists, self._keys = tuple(lists), tuple(keys)
        find = partial(_find, lists=self._lists, keys=self._keys)
        self._table = cached_if_slow(location, find, f"elements {self._lists} {self._keys}")

    def __len__(self) -> int:
        return int(self._table.shape[1])

    def of(self, name: str) -> NDArray[np.int64]:
        """Return the elements of one list; empty if the document has no such list."""
        return np.flatnonzero(self._table[0] == self._lists.index(name))

    def column(self, key: str) -> NDArray[np.int64]:
        """Return [K]: the field of each element, `ABSENT` if it is missing."""
        return np.asarray(self._table[3 + self._keys.index(key)])

    def read(self, element: int) -> dict[str, Any]:
        """Read an element. Raises DataError if the file cannot be read."""
        try:
            return parse_object(read_span(self.location, self._table[1:3, element]))
        except DataError as error:
            raise self.error(element, error) from error

    def error(self, element: int, error: DataError, record: str | None = None) -> DataError:
        """Add file, list and number of the element, from 1, and the id of the record to an error."""
        return DataError(
            f"{self.location} {self.label(element)}: {error}", reason=error.reason, record=record
        )

    def label(self, element: int) -> str:
        """Return list and number of an element, from 1."""
        member = int(self._table[0, element])
        number = int((self._table[0, :element] == member).sum()) + 1
        return f"{self._lists[member] if self._lists else 'entry'} {number}"

    def offset(self, element: int) -> int:
        """Return the offset of an element in bytes."""
        return int(self._table[1, element])


def _find(location: str, lists: Sequence[str], keys: Sequence[str]) -> NDArray[np.int64]:
    """Return [3 + keys, K]: list, start, end, and the integer fields of each element."""
    with errors_at(location):
        spans = _spans(location, lists)
    table = np.full((3 + len(keys), sum(map(len, spans))), ABSENT, np.int64)
    column = 0
    with files.open_file(location) as file:
        for member, found in enumerate(spans):
            for number, span in enumerate(found, 1):
                with errors_at(f"{location} {lists[member] if lists else 'entry'} {number}"):
                    fields = parse_object(read_span(file, span))
                    values = [int_field(fields, key) if key in fields else ABSENT for key in keys]
                table[:, column] = [member, *span, *values]
                column += 1
    return table


def _spans(location: str, lists: Sequence[str]) -> list[Spans]:
    """Return the spans of the elements of each list, in the order of `lists`."""
    depth = 2 if lists else 1
    marks = find_marks(files.chunks(location), depth)
    if bool(lists) != (marks.characters[0] == ord("{")):
        expected = f"an object with the lists {', '.join(lists)}" if lists else "a list"
        raise DataError(f"expected {expected}", reason=Reason.FIELD_TYPE)
    if not lists:
        return [drop_blank(location, spans_at(marks, 1))]
    found = {name: np.zeros((0, 2), np.int64) for name in lists}
    for start, end in spans_at(marks, 1).tolist():
        name = _MEMBER.match(files.read(location, start, min(end, start + _LONGEST_NAME)))
        if name is not None and (member := name[1].decode(errors="replace")) in found:
            found[member] = drop_blank(location, spans_at(marks, 2, start, end))
    return list(found.values())

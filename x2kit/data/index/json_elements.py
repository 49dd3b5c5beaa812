"""The elements of lists in large annotation documents, found by the whole numbers they hold. Imports no torch.

An index is one array: what it takes of memory is known, and forked processes share it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from x2kit.data.index.json_spans import Spans, find_marks, parts
from x2kit.data.sources.entry_files import filled, read_span
from x2kit.data.sources.fields import as_object, number_of, parse_json
from x2kit.data.storage import files
from x2kit.data.storage.index_cache import remembered_if_slow
from x2kit.errors import DataError, Reason

ABSENT = -(2**63)
"""Stands for a number that an element does not hold."""

_MEMBER = re.compile(rb'\s*"((?:[^"\\]|\\.)*)"\s*:')
_LONGEST_NAME = 1024


class ElementIndex:
    """The elements of one file.

    Attributes:
        location: of the file.

    Args:
        location: of the file.
        members: names of the lists in the outermost object; none for a document that is one list.
        keys: names of fields that hold whole numbers.
    Raises: DataError if the file is no such document, or an element no object.
    """

    def __init__(self, location: str, members: Sequence[str], keys: Sequence[str]) -> None:
        self.location = location
        self._members, self._keys = tuple(members), tuple(keys)
        find = partial(_find, members=self._members, keys=self._keys)
        self._table = remembered_if_slow(location, find, f"elements {self._members} {self._keys}")

    def __len__(self) -> int:
        return int(self._table.shape[1])

    def of(self, member: str) -> NDArray[np.int64]:
        """Places of the elements of one list; none if the document has no such list."""
        return np.flatnonzero(self._table[0] == self._members.index(member))

    def column(self, key: str) -> NDArray[np.int64]:
        """[K]: the number that each element holds; `ABSENT` where there is none."""
        return np.asarray(self._table[3 + self._keys.index(key)])

    def read(self, place: int) -> dict[str, Any]:
        """The fields of an element. Raises DataError if the file can no longer be read."""
        try:
            return as_object(parse_json(read_span(self.location, self._table[1:3, place])))
        except DataError as error:
            raise self.error(place, error) from error

    def error(self, place: int, error: DataError) -> DataError:
        """The same error with file, list and number of the element, counted from 1."""
        return DataError(
            f"{self.location} {self.label(place)}: {error}", reason=error.reason, record=error.record
        )

    def label(self, place: int) -> str:
        """List and number of an element."""
        member = int(self._table[0, place])
        number = int((self._table[0, :place] == member).sum()) + 1
        return f"{self._members[member] if self._members else 'entry'} {number}"

    def offset(self, place: int) -> int:
        """Where an element begins."""
        return int(self._table[1, place])


def _find(location: str, members: Sequence[str], keys: Sequence[str]) -> NDArray[np.int64]:
    """[3 + keys, K]: number of the list, first byte, byte after the last, and the number at each key."""
    try:
        spans = _spans(location, members)
    except DataError as error:
        raise DataError(f"{location}: {error}", reason=error.reason) from error
    table = np.full((3 + len(keys), sum(map(len, spans))), ABSENT, np.int64)
    column = 0
    with files.open_file(location) as file:
        for member, found in enumerate(spans):
            for number, span in enumerate(found, 1):
                try:
                    fields = as_object(parse_json(read_span(file, span)))
                    values = [number_of(fields, key) if key in fields else ABSENT for key in keys]
                except DataError as error:
                    name = members[member] if members else "entry"
                    raise DataError(f"{location} {name} {number}: {error}", reason=error.reason) from error
                table[:, column] = [member, *span, *values]
                column += 1
    return table


def _spans(location: str, members: Sequence[str]) -> list[Spans]:
    """The elements of each list, in the order of `members`."""
    depth = 2 if members else 1
    marks = find_marks(files.chunks(location), depth)
    if bool(members) != (marks.characters[0] == ord("{")):
        wanted = f"an object with the lists {', '.join(members)}" if members else "a list"
        raise DataError(f"expected {wanted}", reason=Reason.FIELD_TYPE)
    if not members:
        return [filled(location, parts(marks, 1))]
    found = {name: np.zeros((0, 2), np.int64) for name in members}
    for start, end in parts(marks, 1).tolist():
        name = _MEMBER.match(files.read(location, start, min(end, start + _LONGEST_NAME)))
        if name is not None and (member := name[1].decode(errors="replace")) in found:
            found[member] = filled(location, parts(marks, 2, start, end))
    return list(found.values())

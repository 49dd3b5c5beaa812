"""Concatenate the records of several files or sources. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from x2kit.errors import DataError
from x2kit.plugin.sources import Composed, Located, Place, Record, Source


class Chain:
    """Map positions in a concatenation to a part and the position in it.

    Args:
        lengths: lengths of the parts in order.
    """

    def __init__(self, lengths: Iterable[int]) -> None:
        self.first = np.cumsum([0, *lengths])
        """[parts + 1]: start of each part, and the total length."""

    def __len__(self) -> int:
        return int(self.first[-1])

    def locate(self, index: int) -> tuple[int, int]:
        """Return the part and the position in it. Raises IndexError."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        part = int(np.searchsorted(self.first, index, side="right")) - 1
        return part, index - int(self.first[part])


class FlatSources:
    """The parts of a composed source concatenated, each record once, whatever their shares.

    Ids are those of the composed source, `part/id`.
    """

    def __init__(self, parts: Mapping[str, Source]) -> None:
        self._parts = [(name, flat_sources(source)) for name, source in parts.items()]
        self._chain = Chain(len(source) for _, source in self._parts)

    def __len__(self) -> int:
        return len(self._chain)

    def __getitem__(self, index: int) -> Record:
        """Read the record at `index`. Raises the DataError of its source, with the part in the record id."""
        return record_of_part(*self._locate(index))

    def place(self, index: int) -> Place:
        """Return the place of a record, or the name of a part without places."""
        return place_in_part(*self._locate(index))

    def _locate(self, index: int) -> tuple[str, Readable, int]:
        part, place = self._chain.locate(index)
        return *self._parts[part], place


Readable = Source | FlatSources
"""Records by position."""


def flat_sources(source: Source) -> Readable:
    """Return the source, or the concatenation of its parts if it is composed."""
    return FlatSources(source.parts()) if isinstance(source, Composed) else source


def record_of_part(name: str, source: Readable, index: int) -> Record:
    """Read a record and put the name of its source before its id, also in a DataError."""
    try:
        record = source[index]
    except DataError as error:
        record_id = None if error.record is None else f"{name}/{error.record}"
        raise DataError(str(error), reason=error.reason, record=record_id) from error
    return {**record, "id": f"{name}/{record.get('id', index)}"}


def place_in_part(name: str, source: Readable, index: int) -> Place:
    """Return file and line or offset of a record, or the name of a source without places."""
    return source.place(index) if isinstance(source, Located) else Place(name)

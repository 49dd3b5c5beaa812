"""Records of several files, or of several sources, counted as one list. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from x2kit.errors import DataError
from x2kit.plugin.sources import Composed, Located, Place, Record, Source


class Chain:
    """Which part a position lies in, and where.

    Args:
        lengths: of the parts, in order.
    """

    def __init__(self, lengths: Iterable[int]) -> None:
        self.first = np.cumsum([0, *lengths])
        """[parts + 1]: the position at which each part begins, and the end of all."""

    def __len__(self) -> int:
        return int(self.first[-1])

    def locate(self, index: int) -> tuple[int, int]:
        """The part, and the position in it. Raises IndexError."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        part = int(np.searchsorted(self.first, index, side="right")) - 1
        return part, index - int(self.first[part])


class FlatSources:
    """The parts of a composed source one after the other, whatever the shares in which it draws from them.

    Ids are those that records have in the composed source, `part/id`.
    """

    def __init__(self, parts: Mapping[str, Source]) -> None:
        self._parts = [(name, flat_sources(source)) for name, source in parts.items()]
        self._chain = Chain(len(source) for _, source in self._parts)

    def __len__(self) -> int:
        return len(self._chain)

    def __getitem__(self, index: int) -> Record:
        """The record at `index`. Raises DataError as its source does, with the part's name in the record's."""
        return record_of_part(*self._locate(index))

    def place(self, index: int) -> Place:
        """As `Located.place`; the name of the part where it cannot say."""
        return place_in_part(*self._locate(index))

    def _locate(self, index: int) -> tuple[str, Readable, int]:
        part, place = self._chain.locate(index)
        return *self._parts[part], place


Readable = Source | FlatSources
"""What gives records by position."""


def flat_sources(source: Source) -> Readable:
    """The source itself, or its parts one after the other if it is composed of others."""
    return FlatSources(source.parts()) if isinstance(source, Composed) else source


def record_of_part(name: str, source: Readable, index: int) -> Record:
    """A record with the name of its source before its id; a DataError names it so too."""
    try:
        record = source[index]
    except DataError as error:
        known = None if error.record is None else f"{name}/{error.record}"
        raise DataError(str(error), reason=error.reason, record=known) from error
    return {**record, "id": f"{name}/{record.get('id', index)}"}


def place_in_part(name: str, source: Readable, index: int) -> Place:
    """File and line or offset of a record; the name of its source where that does not know."""
    return source.place(index) if isinstance(source, Located) else Place(name)

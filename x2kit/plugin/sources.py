"""The contract of data: records by position. Imports no torch.

A record is a dict with these fields; which of them a stream needs depends on the kind of the stream.

    id       str, unique within the source
    image    PIL image, or array of numbers, or bytes of an encoded image, or a path
    video    path or bytes of a video file, or a list of frames, each as an image, or a list of clips, which are such
             lists and have a caption each
    is_continuous  bool, whether the clips of a video follow each other
    caption  text of the whole image or video; of clips the list of their texts
    regions  list of {"bbox": [x, y, width, height] in pixels of this image, "caption": text}
    texts    the same content in several languages, {code: sentence}: parallel text

A text is a str, or {code: str} for several languages, or a list of either: one is drawn per visit, seeded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, TypedDict, runtime_checkable

Text: TypeAlias = str | dict[str, str] | list[str] | list[dict[str, str]]


class Region(TypedDict):
    """A part of an image with its text."""

    bbox: list[float]
    caption: Text


class Record(TypedDict, total=False):
    """One entry of a source; see the module's text for the fields."""

    id: str
    image: Any
    video: Any
    is_continuous: bool
    caption: Text
    regions: list[Region]
    texts: dict[str, str]


class Place(NamedTuple):
    """Where a record stands, for a person who wants to mend it.

    Attributes:
        file: path or address.
        line: of a text file, from 1.
        offset: first byte of the record in the file.
    """

    file: str
    line: int | None = None
    offset: int | None = None


@runtime_checkable
class Source(Protocol):
    """Records by position. Reading the same position twice gives the same record."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record:
        """The record at `index`. Raises DataError that names file, record and reason if it is broken."""
        ...

    def texts(self) -> Iterator[str]:
        """Every text that the records can hold, in a fixed order, without opening an image; may repeat."""
        ...

    def fingerprint(self) -> str:
        """A short hash that changes when the data changes."""
        ...


@runtime_checkable
class Located(Protocol):
    """A source that can say where its records stand; then the account of broken records does."""

    def place(self, index: int) -> Place:
        """File and line or offset of the record at `index`, broken or not, without reading it."""
        ...


@runtime_checkable
class Renewing(Protocol):
    """A source that may have other records in every epoch: there the record of `position` in `epoch` is the one at
    `position + epoch * len(source)`.
    """

    renews_each_epoch: bool
    """Whether it has."""


def index_in(source: Source, position: int, epoch: int) -> int:
    """Where a source has the record of a position in an epoch."""
    renews = isinstance(source, Renewing) and source.renews_each_epoch
    return position + epoch * len(source) if renews else position


@runtime_checkable
class Composed(Protocol):
    """A source whose records are those of others; then a check goes through those, each record once."""

    def parts(self) -> Mapping[str, Source]:
        """The sources by the names that ids begin with."""
        ...


def existing(path: Path, what: str) -> Path:
    """The path itself. Raises DataError that says `what` is missing and where it was looked for."""
    from x2kit.errors import DataError

    if not path.exists():
        raise DataError(f"{what} not found: {path}")
    return path

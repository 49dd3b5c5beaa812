"""Contract of data sources: records by position. Imports no torch.

A record is a dict with these fields; the kind of a stream decides which are required.

    id       str, unique within the source
    image    PIL image, or array of numbers, or bytes of an encoded image, or a path
    video    path or bytes of a video file, or a list of frames, each an image, or a list of clips, each such a list
             with its own caption
    is_continuous  bool, whether the clips of a video are consecutive
    caption  text of the whole image or video; for clips a list of texts
    regions  list of {"bbox": [x, y, width, height] in pixels of this image, "caption": text}
    detections  list of {"bbox": [x, y, width, height] in pixels}, what a detector found in the image
    texts    the same content in several languages, {code: sentence}: parallel text

Fields of tasks:

    images   list of two images that a text compares (NLVR2, MaRVL)
    question text that asks about the image or video
    answers  the correct answers: a list of str, repeated as often as annotators gave them (VQA v2: ten), or
             {answer: weight}; not translated; absent where a split has none
    options  list of texts, the answer options of this question (NExT-QA)
    label    class of the record: str, int or bool (NLVR2: bool; XVNLI: "entailment", "neutral" or "contradiction";
             NExT-QA: position of the correct option, from 0)
    premise  text that the caption is compared with, besides the image (XVNLI)
    detections  list of {"bbox": [x, y, width, height] in pixels of this image}, candidate boxes of a detector

The id of a record with a question is the question's.

A text is a str, or {code: str} for several languages, or a list of either, of which one is drawn per visit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, TypedDict, runtime_checkable

Text: TypeAlias = str | dict[str, str] | list[str] | list[dict[str, str]]
Answers: TypeAlias = list[str] | dict[str, float]
Label: TypeAlias = str | int | bool


class Region(TypedDict):
    """A region of an image with its text."""

    bbox: list[float]
    caption: Text


class Detection(TypedDict):
    """A box that a detector found in an image."""

    bbox: list[float]


class Record(TypedDict, total=False):
    """One entry of a source; see the module's docstring for the fields."""

    id: str
    image: Any
    video: Any
    is_continuous: bool
    caption: Text
    regions: list[Region]
    texts: dict[str, str]
    images: list[Any]
    question: Text
    answers: Answers
    options: list[Text]
    label: Label
    premise: Text
    detections: list[Detection]


class Place(NamedTuple):
    """Location of a record, for people who fix it.

    Attributes:
        file: path or URL.
        line: line of a text file, from 1.
        offset: first byte of the record in the file.
    """

    file: str
    line: int | None = None
    offset: int | None = None


@runtime_checkable
class Source(Protocol):
    """Records by position; a position always gives the same record."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record:
        """Return the record at `index`. Raises DataError with file, record and reason if it is broken."""
        ...

    def texts(self) -> Iterator[str]:
        """Iterate over all texts of the records, in a fixed order, without opening images; may repeat."""
        ...

    def fingerprint(self) -> str:
        """Return a short hash that changes with the data."""
        ...


@runtime_checkable
class Located(Protocol):
    """A source that locates its records, for the report of broken records."""

    def place(self, index: int) -> Place:
        """Return file and line or offset of the record at `index`, broken or not, without reading it."""
        ...


@runtime_checkable
class Renewing(Protocol):
    """A source with new records in every epoch: `position` in `epoch` is at `position + epoch * len(source)`."""

    renews_each_epoch: bool
    """Whether records differ between epochs."""


def index_in(source: Source, position: int, epoch: int) -> int:
    """Return the index of the record of a position in an epoch."""
    renews = isinstance(source, Renewing) and source.renews_each_epoch
    return position + epoch * len(source) if renews else position


@runtime_checkable
class Composed(Protocol):
    """A source composed of others; `x2kit data check` reads each record of those once."""

    def parts(self) -> Mapping[str, Source]:
        """Return the sources by the prefix of their ids."""
        ...


def existing(path: Path, what: str) -> Path:
    """Return the path. Raises DataError with `what` and the path if it does not exist."""
    from x2kit.errors import DataError

    if not path.exists():
        raise DataError(f"{what} not found: {path}")
    return path

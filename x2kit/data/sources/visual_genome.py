"""Records of annotations in the layout of Visual Genome: an image with its regions and objects. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from x2kit.data.index.json_elements import ABSENT, ElementIndex
from x2kit.data.sources.annotation_config import VisualGenomeAnnotations
from x2kit.data.sources.fields import (
    box_of,
    every_text,
    name_of,
    number_of,
    required,
    sentences_of,
    shown,
    text_of,
)
from x2kit.data.sources.splits import fingerprint_of
from x2kit.data.storage.url_policy import locate
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Place, Record, Region, Text

_LISTS = ("regions", "objects", "attributes")
"""Fields of which an element has one; its name says what the file holds."""


class _Found(NamedTuple):
    """A region of an entry; `key` is equal where two files have the same object."""

    key: str
    described: bool
    region: Region


class VisualGenomeSource:
    """The images that one of the files has an entry for, in the order of image_data.json.

    An entry holds all that a file says of an image and is read when it is asked for.
    """

    def __init__(self, config: VisualGenomeAnnotations) -> None:
        self.config = config
        self._images = _opened(config.images)
        self._files = [_opened(location) for location in config.paths()]
        ids = _ids(self._images)
        rows = [_rows(_ids(file), ids, file) for file in self._files]
        self._rows = np.stack(rows, 1)  # [images, files], -1 where a file has no entry
        self._order = np.flatnonzero((self._rows >= 0).any(1))
        if not len(self):
            raise DataError(f"no entry for an image of {config.images} in {', '.join(config.paths())}")

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Record:
        """The record at `index`. Raises DataError with file, entry and reason."""
        place = self._image_at(index)
        record: Record = {"id": str(_ids(self._images)[place])}
        fields = self._images.read(place)
        try:
            record["image"] = self._located(self._image(fields))
            size = (number_of(fields, "width"), number_of(fields, "height")) if "width" in fields else None
        except DataError as error:
            error.record = record["id"]
            raise self._images.error(place, error) from error
        regions: dict[str, Region] = {}
        for file, row in zip(self._files, self._rows[place].tolist(), strict=True):
            if row < 0:
                continue
            try:
                for found in self._regions(file.read(row), size):
                    if found.key not in regions or found.described:
                        regions[found.key] = found.region
            except DataError as error:
                error.record = record["id"]
                raise file.error(row, error) from error
        if not regions:
            raise DataError(f"image {record['id']}: no region or object", reason=Reason.FIELD_MISSING)
        record["regions"] = list(regions.values())
        return record

    def place(self, index: int) -> Place:
        """Where the image of a record stands."""
        return Place(self._images.location, offset=self._images.offset(self._image_at(index)))

    def texts(self) -> Iterator[str]:
        """Every text, file by file."""
        for file in self._files:
            for row in range(len(file)):
                try:
                    for found in self._regions(file.read(row), None):
                        yield from every_text(found.region["caption"])
                except DataError:
                    continue  # the stream that draws it counts it as broken

    def fingerprint(self) -> str:
        """A hash of the settings that shape records and of all that the files hold; no image is read."""
        shaping = self.config.model_dump_json(exclude={"files", "images", "image_root", "root"})
        return fingerprint_of(shaping, [file.location for file in (self._images, *self._files)])

    def _image_at(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return int(self._order[index])

    def _located(self, name: str) -> str:
        config = self.config
        return locate(name, config.image_root, (), config.root, config.images)

    def _image(self, fields: dict[str, Any]) -> str:
        if self.config.image_at == "id":
            return f"{number_of(fields, 'image_id' if 'image_id' in fields else 'id')}.jpg"
        return "/".join(PurePosixPath(name_of(fields, "url")).parts[-2:])

    def _regions(self, fields: dict[str, Any], size: tuple[int, int] | None) -> Iterator[_Found]:
        name = next((each for each in _LISTS if each in fields), None)
        if name is None:
            raise DataError(
                f"none of the fields {', '.join(_LISTS)}; its fields are {', '.join(fields) or 'none'}",
                reason=Reason.FIELD_MISSING,
            )
        if not isinstance(fields[name], list):
            raise DataError(f"{name}: expected a list, found {shown(fields[name])}", reason=Reason.FIELD_TYPE)
        for number, entry in enumerate(fields[name], 1):
            try:
                if not isinstance(entry, dict):
                    raise DataError(f"expected an object, found {shown(entry)}", reason=Reason.FIELD_TYPE)
                box = self._box(entry, size)
                text = self._phrase(entry) if name == "regions" else self._named(entry)
            except DataError as error:
                raise DataError(f"{name} {number}: {error}", reason=error.reason) from error
            if box is not None:
                key = f"object {entry['object_id']}" if "object_id" in entry else f"{name} {number}"
                yield _Found(key, bool(entry.get("attributes")), {"bbox": box, "caption": text})

    def _box(self, entry: dict[str, Any], size: tuple[int, int] | None) -> list[float] | None:
        names = ("x", "y", "width" if "width" in entry else "w", "height" if "height" in entry else "h")
        box = [required(entry, name) for name in names]
        return box_of(box, "box", size, self.config.outside == "clip")

    def _phrase(self, entry: dict[str, Any]) -> Text:
        return text_of(required(entry, "phrase"), "phrase", self.config.language)

    def _named(self, entry: dict[str, Any]) -> Text:
        """Each attribute before each name, as in the official data; the names alone where there is no attribute."""
        names, attributes = required(entry, "names"), entry.get("attributes") or []
        if not isinstance(names, list) or not isinstance(attributes, list):
            raise DataError(
                f"expected lists, found names {shown(names)} and attributes {shown(attributes)}",
                reason=Reason.FIELD_TYPE,
            )
        if attributes:
            told = sentences_of(attributes, "attributes")
            names = [f"{one.strip()} {name}" for one in told for name in sentences_of(names, "names")]
        return text_of(names[0] if len(names) == 1 else names, "names", self.config.language)


def _opened(location: str) -> ElementIndex:
    index = ElementIndex(location, (), ("image_id", "id"))
    missing = np.flatnonzero(_ids(index) == ABSENT)
    if len(missing):
        place = int(missing[0])
        raise index.error(place, DataError("neither image_id nor id", reason=Reason.FIELD_MISSING))
    return index


def _ids(index: ElementIndex) -> NDArray[np.int64]:
    """[K]: the image of each element, in image_id or, in region_descriptions.json, id."""
    own = index.column("image_id")
    return np.where(own == ABSENT, index.column("id"), own)


def _rows(own: NDArray[np.int64], images: NDArray[np.int64], file: ElementIndex) -> NDArray[np.int64]:
    """[images]: the element of a file for each image, -1 for none. Raises DataError for an unknown image."""
    unknown = np.flatnonzero(~np.isin(own, images))
    if len(unknown):
        place = int(unknown[0])
        raise DataError(
            f"{file.location} {file.label(place)}: no image has the id {own[place]}",
            reason=Reason.FIELD_MISSING,
        )
    order = np.argsort(own, kind="stable")
    found = np.searchsorted(own, images, sorter=order) if len(own) else np.zeros(len(images), np.int64)
    there = np.isin(images, own)
    rows = np.full(len(images), -1, np.int64)
    rows[there] = order[found[there]]
    return rows

"""Read images with regions and objects from files in the layout of Visual Genome. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from x2kit.data.index.json_elements import ABSENT, ElementIndex
from x2kit.data.sources.fields import (
    check_box,
    check_sentence,
    check_text,
    errors_at,
    int_field,
    iter_texts,
    required,
    short_repr,
    size_of,
    str_field,
)
from x2kit.data.storage.index_cache import file_fingerprint
from x2kit.data.storage.url_policy import locate
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Place, Record, Region, Text

if TYPE_CHECKING:
    from x2kit.data.sources.annotation_config import VisualGenomeAnnotations

_LISTS = ("regions", "objects", "attributes")
"""Names of the list in an element; each file has one of them."""


class _Found(NamedTuple):
    """A region of an entry.

    Attributes:
        key: equal for the same object in two files.
        has_attributes: whether its text includes attributes.
        region: box and text.
    """

    key: str
    has_attributes: bool
    region: Region


class VisualGenomeSource:
    """The images with an entry in a file, in the order of image_data.json.

    An entry holds all regions or objects of an image in one file; it is read on access.
    """

    def __init__(self, config: VisualGenomeAnnotations) -> None:
        self.config = config
        self._images = _open(config.images)
        self._files = [_open(location) for location in config.paths()]
        ids = _ids(self._images)
        rows = [_rows(_ids(file), ids, file) for file in self._files]
        self._rows = np.stack(rows, 1)  # [images, files]; -1 without an entry
        self._order = np.flatnonzero((self._rows >= 0).any(1))
        if not len(self):
            raise DataError(f"no entry for an image of {config.images} in {', '.join(config.paths())}")

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Record:
        """Read the record at `index`. Raises DataError with file, entry and reason."""
        place = self._image_at(index)
        record: Record = {"id": str(_ids(self._images)[place])}
        fields = self._images.read(place)
        try:
            record["image"] = self._locate(self._image(fields))
            size = size_of(fields)
        except DataError as error:
            raise self._images.error(place, error, record["id"]) from error
        regions: dict[str, Region] = {}
        for file, row in zip(self._files, self._rows[place].tolist(), strict=True):
            if row < 0:
                continue
            try:
                for found in self._regions(file.read(row), size):
                    if found.key not in regions or found.has_attributes:
                        regions[found.key] = found.region
            except DataError as error:
                raise file.error(row, error, record["id"]) from error
        if not regions:
            raise DataError(f"image {record['id']}: no region or object", reason=Reason.FIELD_MISSING)
        record["regions"] = list(regions.values())
        return record

    def place(self, index: int) -> Place:
        """Return file and offset of the image of a record."""
        return Place(self._images.location, offset=self._images.offset(self._image_at(index)))

    def texts(self) -> Iterator[str]:
        """Yield every text, file by file."""
        for file in self._files:
            for row in range(len(file)):
                try:
                    for found in self._regions(file.read(row), None):
                        yield from iter_texts(found.region["caption"])
                except DataError:
                    continue  # counted when the record is drawn

    def fingerprint(self) -> str:
        """Hash the contents of the files and the settings that change records; images are not read."""
        settings = self.config.model_dump_json(exclude={"files", "images", "image_root", "root"})
        return file_fingerprint(settings, [file.location for file in (self._images, *self._files)])

    def _image_at(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return int(self._order[index])

    def _locate(self, name: str) -> str:
        config = self.config
        return locate(name, config.image_root, (), config.root, config.images)

    def _image(self, fields: dict[str, Any]) -> str:
        if self.config.image_at == "id":
            return f"{int_field(fields, 'image_id' if 'image_id' in fields else 'id')}.jpg"
        return "/".join(PurePosixPath(str_field(fields, "url")).parts[-2:])

    def _regions(self, fields: dict[str, Any], size: tuple[int, int] | None) -> Iterator[_Found]:
        name = next((key for key in _LISTS if key in fields), None)
        if name is None:
            raise DataError(
                f"none of the fields {', '.join(_LISTS)}; its fields are {', '.join(fields) or 'none'}",
                reason=Reason.FIELD_MISSING,
            )
        if not isinstance(fields[name], list):
            raise DataError(
                f"{name}: expected a list, found {short_repr(fields[name])}", reason=Reason.FIELD_TYPE
            )
        for number, entry in enumerate(fields[name], 1):
            with errors_at(f"{name} {number}"):
                if not isinstance(entry, dict):
                    raise DataError(
                        f"expected an object, found {short_repr(entry)}", reason=Reason.FIELD_TYPE
                    )
                box = self._box(entry, size)
                text = self._phrase(entry) if name == "regions" else self._named(entry)
            if box is not None:
                key = f"object {entry['object_id']}" if "object_id" in entry else f"{name} {number}"
                yield _Found(key, bool(entry.get("attributes")), {"bbox": box, "caption": text})

    def _box(self, entry: dict[str, Any], size: tuple[int, int] | None) -> list[float] | None:
        names = ("x", "y", "width" if "width" in entry else "w", "height" if "height" in entry else "h")
        box = [required(entry, name) for name in names]
        return check_box(box, "box", size, self.config.outside == "clip")

    def _phrase(self, entry: dict[str, Any]) -> Text:
        return check_text(required(entry, "phrase"), "phrase", self.config.language)

    def _named(self, entry: dict[str, Any]) -> Text:
        """Put each attribute before each name, as the official data does; without attributes, return the names."""
        names, attributes = required(entry, "names"), entry.get("attributes") or []
        if not isinstance(names, list) or not isinstance(attributes, list):
            raise DataError(
                f"expected lists, found names {short_repr(names)} and attributes {short_repr(attributes)}",
                reason=Reason.FIELD_TYPE,
            )
        if attributes:
            attributes = [
                check_sentence(text, f"attributes[{n}]").strip() for n, text in enumerate(attributes)
            ]
            names = [check_sentence(name, f"names[{n}]") for n, name in enumerate(names)]
            names = [f"{attribute} {name}" for attribute in attributes for name in names]
        return check_text(names[0] if len(names) == 1 else names, "names", self.config.language)


def _open(location: str) -> ElementIndex:
    index = ElementIndex(location, (), ("image_id", "id"))
    missing = np.flatnonzero(_ids(index) == ABSENT)
    if len(missing):
        place = int(missing[0])
        raise index.error(place, DataError("neither image_id nor id", reason=Reason.FIELD_MISSING))
    return index


def _ids(index: ElementIndex) -> NDArray[np.int64]:
    """Return [K]: the image of each element, from `image_id`, else `id` (region_descriptions.json)."""
    image_ids = index.column("image_id")
    return np.where(image_ids == ABSENT, index.column("id"), image_ids)


def _rows(ids: NDArray[np.int64], images: NDArray[np.int64], file: ElementIndex) -> NDArray[np.int64]:
    """Return [images]: the element of a file for each image, -1 for none.

    Args:
        ids: [K], the image of each element.
        images: ids of all images.
        file: file of the elements.
    Raises: DataError for an unknown image.
    """
    unknown = np.flatnonzero(~np.isin(ids, images))
    if len(unknown):
        place = int(unknown[0])
        raise DataError(
            f"{file.location} {file.label(place)}: no image has the id {ids[place]}",
            reason=Reason.FIELD_MISSING,
        )
    order = np.argsort(ids, kind="stable")
    found = np.searchsorted(ids, images, sorter=order) if len(ids) else np.zeros(len(images), np.int64)
    there = np.isin(images, ids)
    rows = np.full(len(images), -1, np.int64)
    rows[there] = order[found[there]]
    return rows

"""Read images with captions and named boxes from files in the layout of COCO. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from x2kit.data.index.chain import Chain
from x2kit.data.index.groups import Groups
from x2kit.data.index.json_elements import ABSENT, ElementIndex
from x2kit.data.sources.fields import (
    check_box,
    check_text,
    int_field,
    iter_texts,
    required,
    short_repr,
    size_of,
    str_field,
)
from x2kit.data.sources.splits import in_split, root_in_split
from x2kit.data.storage.index_cache import file_fingerprint
from x2kit.data.storage.locations import folder_of
from x2kit.data.storage.url_policy import locate
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Place, Record, Region, Text

if TYPE_CHECKING:
    from x2kit.data.sources.annotation_config import CocoAnnotations

_LISTS = ("images", "annotations", "categories")
_KEYS = ("id", "image_id", "category_id", "iscrowd")


class _File(NamedTuple):
    elements: ElementIndex
    categories: dict[int, str]


class CocoSource:
    """The images with a caption or a box, in the order of the files.

    Annotations are read on access; seven numbers of each are kept in memory.
    """

    def __init__(self, config: CocoAnnotations) -> None:
        self.config = config
        self._files = [_open(location) for location in config.paths()]
        self._chain = Chain(len(file.elements) for file in self._files)
        images, ids = self._elements("images"), self._column("id")
        _, first = np.unique(ids[images], return_index=True)
        images = images[np.sort(first)]  # the first entry of an image that several files contain
        annotations = self._selected_annotations()
        owners = self._column("image_id")[annotations]
        self._require_images(annotations[~np.isin(owners, ids[images])])
        images = images[np.isin(ids[images], owners)]
        self._members = np.concatenate([images, annotations])  # a group has its image before its annotations
        self._records = Groups(np.concatenate([ids[images], owners]))
        if not len(self):
            raise DataError(f"no image with a caption or a box in {', '.join(config.paths())}")

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """Read the record at `index`. Raises DataError with file, annotation and reason."""
        image, *annotations = self._members[self._records[index]].tolist()
        file, element = self._at(image)
        fields = file.elements.read(element)
        record: Record = {"id": str(fields["id"])}
        try:
            record["image"] = self._image(str_field(fields, "file_name"))
            size = size_of(fields)
        except DataError as error:
            raise file.elements.error(element, error, record["id"]) from error
        captions: list[Any] = []
        regions: list[Region] = []
        for annotation in annotations:
            file, element = self._at(annotation)
            fields = file.elements.read(element)
            try:
                if "caption" in fields:
                    captions.append(check_text(fields["caption"], "caption", self.config.language))
                elif (box := self._box(fields, size)) is not None:
                    regions.append({"bbox": box, "caption": self._name(file, fields)})
            except DataError as error:
                raise file.elements.error(element, error, record["id"]) from error
        if captions:
            record["caption"] = captions[0] if len(captions) == 1 else captions
        if regions:
            record["regions"] = regions
        if not captions and not regions:
            raise DataError(f"image {record['id']}: no box has an area in it", reason=Reason.BOX_EMPTY)
        return record

    def place(self, index: int) -> Place:
        """Return file and offset of the image of a record."""
        file, element = self._at(int(self._members[self._records[index][0]]))
        return Place(file.elements.location, offset=file.elements.offset(element))

    def texts(self) -> Iterator[str]:
        """Yield the names of the selected categories, then all captions, file by file."""
        for file in self._files:
            for name in file.categories.values():
                if self.config.categories is None or name in self.config.categories:
                    yield name
            captions = file.elements.column("category_id") == ABSENT
            for element in file.elements.of("annotations"):
                if captions[element]:
                    try:
                        caption = file.elements.read(int(element)).get("caption")
                        yield from iter_texts(check_text(caption, "caption", None))
                    except DataError:
                        continue  # counted when the record is drawn

    def fingerprint(self) -> str:
        """Hash the contents of the files and the settings that change records; images are not read."""
        settings = self.config.model_dump_json(exclude={"files", "image_root", "image_hosts", "root"})
        return file_fingerprint(settings, [file.elements.location for file in self._files])

    def _image(self, name: str) -> str:
        config, file = self.config, self._files[0].elements.location
        start = folder_of(file) if config.image_root is None else in_split(config.image_root, config.split)
        return locate(name, start, config.image_hosts, root_in_split(config.root, config.split), file)

    def _selected_annotations(self) -> NDArray[np.int64]:
        """Return the annotations that the settings `crowd` and `categories` select."""
        annotations = self._elements("annotations")
        category = self._column("category_id")[annotations]
        selected = np.ones(len(annotations), np.bool_)
        if self.config.crowd == "drop":
            selected &= self._column("iscrowd")[annotations] != 1
        if self.config.categories is not None:
            wanted = set(self.config.categories)
            if unknown := wanted - {name for file in self._files for name in file.categories.values()}:
                raise DataError(f"categories: no file has {', '.join(sorted(unknown))}")
            in_wanted = [
                np.isin(category, [key for key, name in file.categories.items() if name in wanted])
                & (annotations >= start)
                & (annotations < end)
                for file, start, end in zip(
                    self._files, self._chain.first, self._chain.first[1:], strict=False
                )
            ]
            selected &= (category == ABSENT) | np.logical_or.reduce(in_wanted)
        return annotations[selected]

    def _require_images(self, orphans: NDArray[np.int64]) -> None:
        """Raise DataError for the first annotation without an image."""
        if len(orphans):
            file, element = self._at(int(orphans[0]))
            found = short_repr(file.elements.read(element).get("image_id"))
            raise DataError(
                f"{file.elements.location} {file.elements.label(element)}: image_id: no image has the id {found}",
                reason=Reason.FIELD_MISSING,
            )

    def _elements(self, name: str) -> NDArray[np.int64]:
        """Return the elements of one list, numbered over all files."""
        files = zip(self._files, self._chain.first, strict=False)
        return np.concatenate([file.elements.of(name) + first for file, first in files])

    def _column(self, key: str) -> NDArray[np.int64]:
        return np.concatenate([file.elements.column(key) for file in self._files])

    def _at(self, element: int) -> tuple[_File, int]:
        file, number = self._chain.locate(element)
        return self._files[file], number

    def _box(self, fields: dict[str, Any], size: tuple[int, int] | None) -> list[float] | None:
        return check_box(required(fields, "bbox"), "bbox", size, self.config.outside == "clip")

    def _name(self, file: _File, fields: dict[str, Any]) -> Text:
        category = int_field(fields, "category_id")
        if category not in file.categories:
            raise DataError(f"category_id: no category has the id {category}", reason=Reason.FIELD_MISSING)
        return check_text(file.categories[category], "name", self.config.language)


class CocoCaptions:
    """Captions of a file in the layout of COCO by image id, as caption benchmarks publish references.

    Attributes:
        location: local path or URL.
    """

    def __init__(self, location: str) -> None:
        """Index the captions. Raises DataError if the file cannot be read or has another layout."""
        self.location = location
        self._index = ElementIndex(location, ("annotations",), ("image_id",))
        images = self._index.column("image_id")
        self._order = np.argsort(images, kind="stable")
        self._images = images[self._order]

    def of(self, image: int) -> list[str]:
        """Return the captions of an image in the order of the file. Raises DataError if it has none."""
        first, last = np.searchsorted(self._images, [image, image + 1]).tolist()
        if first == last:
            raise DataError(f"{self.location} has no caption of image {image}", reason=Reason.FIELD_MISSING)
        return [
            str_field(self._index.read(element), "caption") for element in self._order[first:last].tolist()
        ]


def _open(location: str) -> _File:
    index = ElementIndex(location, _LISTS, _KEYS)
    categories = {}
    for element in index.of("categories").tolist():
        fields = index.read(element)
        try:
            categories[int_field(fields, "id")] = str_field(fields, "name")
        except DataError as error:
            raise index.error(element, error) from error
    for element in index.of("images").tolist():
        if index.column("id")[element] == ABSENT:
            raise index.error(element, DataError("no field 'id'", reason=Reason.FIELD_MISSING))
    return _File(index, categories)

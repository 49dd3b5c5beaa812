"""Records of annotations in the layout of COCO: an image with its captions and named boxes. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from x2kit.data.index.chain import Chain
from x2kit.data.index.groups import Groups
from x2kit.data.index.json_elements import ABSENT, ElementIndex
from x2kit.data.sources.annotation_config import CocoAnnotations
from x2kit.data.sources.fields import (
    box_of,
    every_text,
    name_of,
    number_of,
    required,
    shown,
    text_of,
)
from x2kit.data.sources.splits import fingerprint_of, in_split, root_in_split
from x2kit.data.storage import files
from x2kit.data.storage.url_policy import locate
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Place, Record, Region, Text

_MEMBERS = ("images", "annotations", "categories")
_KEYS = ("id", "image_id", "category_id", "iscrowd")


class _File(NamedTuple):
    elements: ElementIndex
    names: dict[int, str]


class CocoSource:
    """The images that have a caption or a box, in the order in which the files name them.

    Annotations are read when they are asked for; what is kept of each are seven numbers.
    """

    def __init__(self, config: CocoAnnotations) -> None:
        self.config = config
        self._files = [_opened(location) for location in config.paths()]
        self._chain = Chain(len(file.elements) for file in self._files)
        images = self._places("images")
        ids = self._column("id")
        _, first = np.unique(ids[images], return_index=True)
        images = images[np.sort(first)]  # of an image that several files name, the first
        annotations = self._kept()
        owners = self._column("image_id")[annotations]
        self._orphans(annotations[~np.isin(owners, ids[images])])
        images = images[np.isin(ids[images], owners)]
        # an image stands in front of its annotations
        self._members = np.concatenate([images, annotations])
        self._records = Groups(np.concatenate([ids[images], owners]))
        if not len(self):
            raise DataError(f"no image with a caption or a box in {', '.join(config.paths())}")

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """The record at `index`. Raises DataError with file, annotation and reason."""
        image, *annotations = self._members[self._records[index]].tolist()
        file, place = self._at(image)
        fields = file.elements.read(place)
        record: Record = {"id": str(fields["id"])}
        try:
            record["image"] = self._image(name_of(fields, "file_name"))
            size = (number_of(fields, "width"), number_of(fields, "height")) if "width" in fields else None
        except DataError as error:
            error.record = record["id"]
            raise file.elements.error(place, error) from error
        captions: list[Any] = []
        regions: list[Region] = []
        for annotation in annotations:
            file, place = self._at(annotation)
            fields = file.elements.read(place)
            try:
                if "caption" in fields:
                    captions.append(text_of(required(fields, "caption"), "caption", self.config.language))
                elif (box := self._box(fields, size)) is not None:
                    regions.append({"bbox": box, "caption": self._name(file, fields)})
            except DataError as error:
                error.record = record["id"]
                raise file.elements.error(place, error) from error
        if captions:
            record["caption"] = captions[0] if len(captions) == 1 else captions
        if regions:
            record["regions"] = regions
        if not captions and not regions:
            raise DataError(f"image {record['id']}: no box has an area in it", reason=Reason.BOX_EMPTY)
        return record

    def place(self, index: int) -> Place:
        """Where the image of a record stands."""
        file, place = self._at(int(self._members[self._records[index][0]]))
        return Place(file.elements.location, offset=file.elements.offset(place))

    def texts(self) -> Iterator[str]:
        """The names of all categories whose boxes are read, then all captions."""
        for file in self._files:
            for name in file.names.values():
                if self.config.categories is None or name in self.config.categories:
                    yield name
            captions = file.elements.column("category_id") == ABSENT
            for place in file.elements.of("annotations"):
                if captions[place]:
                    try:
                        yield from every_text(
                            text_of(file.elements.read(int(place)).get("caption"), "caption", None)
                        )
                    except DataError:
                        continue  # the stream that draws it counts it as broken

    def fingerprint(self) -> str:
        """A hash of the settings that shape records and of all that the files hold; no image is read."""
        return fingerprint_of(
            self.config.model_dump_json(exclude={"files", "image_root", "image_hosts", "root"}),
            [file.elements.location for file in self._files],
        )

    def _image(self, name: str) -> str:
        config, file = self.config, self._files[0].elements.location
        start = config.image_root
        start = files.folder_of(file) if start is None else in_split(start, config.split)
        return locate(name, start, config.image_hosts, root_in_split(config.root, config.split), file)

    def _kept(self) -> NDArray[np.int64]:
        """Places of the annotations that settings leave in."""
        places = self._places("annotations")
        category = self._column("category_id")[places]
        kept = np.ones(len(places), np.bool_)
        if self.config.crowd == "drop":
            kept &= self._column("iscrowd")[places] != 1
        if self.config.categories is not None:
            unknown = set(self.config.categories) - {
                name for file in self._files for name in file.names.values()
            }
            if unknown:
                raise DataError(f"categories: no file has {', '.join(sorted(unknown))}")
            wanted = [
                np.isin(category, [key for key, name in file.names.items() if name in self.config.categories])
                & (places >= start)
                & (places < end)
                for file, start, end in zip(
                    self._files, self._chain.first, self._chain.first[1:], strict=False
                )
            ]
            kept &= (category == ABSENT) | np.logical_or.reduce(wanted)
        return places[kept]

    def _orphans(self, annotations: NDArray[np.int64]) -> None:
        if len(annotations):
            file, place = self._at(int(annotations[0]))
            found = shown(file.elements.read(place).get("image_id"))
            raise DataError(
                f"{file.elements.location} {file.elements.label(place)}: image_id: no image has the id {found}",
                reason=Reason.FIELD_MISSING,
            )

    def _places(self, member: str) -> NDArray[np.int64]:
        return np.concatenate(
            [
                file.elements.of(member) + first
                for file, first in zip(self._files, self._chain.first, strict=False)
            ]
        )

    def _column(self, key: str) -> NDArray[np.int64]:
        return np.concatenate([file.elements.column(key) for file in self._files])

    def _at(self, place: int) -> tuple[_File, int]:
        file, own = self._chain.locate(place)
        return self._files[file], own

    def _box(self, fields: dict[str, Any], size: tuple[int, int] | None) -> list[float] | None:
        return box_of(required(fields, "bbox"), "bbox", size, self.config.outside == "clip")

    def _name(self, file: _File, fields: dict[str, Any]) -> Text:
        category = number_of(fields, "category_id")
        if category not in file.names:
            raise DataError(f"category_id: no category has the id {category}", reason=Reason.FIELD_MISSING)
        return text_of(file.names[category], "name", self.config.language)


def _opened(location: str) -> _File:
    index = ElementIndex(location, _MEMBERS, _KEYS)
    names = {}
    for place in index.of("categories").tolist():
        fields = index.read(place)
        try:
            names[number_of(fields, "id")] = name_of(fields, "name")
        except DataError as error:
            raise index.error(place, error) from error
    for place in index.of("images").tolist():
        if index.column("id")[place] == ABSENT:
            raise index.error(place, DataError("no field 'id'", reason=Reason.FIELD_MISSING))
    return _File(index, names)

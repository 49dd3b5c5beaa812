"""Read referring expressions from annotation files or the REFER release. Imports no torch.

The references of the release are a pickle; it is read by an unpickler that builds plain values alone.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from x2kit.data.index.groups import hash_key
from x2kit.data.index.json_elements import ElementIndex
from x2kit.data.sources.annotation_files import EntriesSource, Entry, image_at, number_of
from x2kit.data.sources.entry_files import element_spans, read_span
from x2kit.data.sources.fields import (
    check_box,
    check_detections,
    check_text,
    errors_at,
    int_field,
    iter_texts,
    parse_object,
    required,
    short_repr,
    size_of,
    str_field,
)
from x2kit.data.sources.splits import in_split
from x2kit.data.storage import files
from x2kit.data.storage.index_cache import cached_if_slow
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Record

if TYPE_CHECKING:
    from x2kit.data.sources.annotation_config import ReferringExpressions

_MAX_BYTES = 2**30
"""Largest pickle that is read; that of RefCOCO+ has 30 MB."""
_OPERATIONS = b"".join(
    (
        *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK, pickle.DUP),
        *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE),
        *(pickle.GET, pickle.BINGET, pickle.LONG_BINGET),
        *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.FLOAT, pickle.BINFLOAT),
        *(pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG, pickle.LONG1, pickle.LONG4),
        *(pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING),
        *(pickle.UNICODE, pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8),
        *(pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND, pickle.APPENDS),
        *(pickle.EMPTY_DICT, pickle.DICT, pickle.SETITEM, pickle.SETITEMS),
        # refused by find_class and persistent_load, which name the object
        *(pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.INST, pickle.PERSID, pickle.BINPERSID),
    )
)
"""Allowed operations. Tuples are not: a deeply nested one as a dictionary key crashes Python."""


class _AllowedOperations(dict[int, Any]):
    def __missing__(self, code: int) -> NoReturn:
        raise pickle.UnpicklingError(
            f"operation {bytes([code])!r} is not allowed; only plain values are read"
        )


class _PlainUnpickler(pickle._Unpickler):
    """Unpickler of lists, dictionaries, texts and numbers; it cannot import or call anything.

    It extends the unpickler written in Python: the C version allocates as much memory as a damaged file requests.
    """

    dispatch = _AllowedOperations((code, pickle._Unpickler.dispatch[code]) for code in _OPERATIONS)

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"object {module}.{name} is not allowed; only plain values are read")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("objects outside the file are not allowed; only plain values are read")


def read_plain_pickle(location: str) -> Any:
    """Read a pickle of lists, dictionaries, texts, numbers, booleans and None.

    Raises: DataError if it contains anything else, is damaged, larger than 1 GiB or cannot be read.
    """
    size = files.stat(location).size
    if size > _MAX_BYTES:
        raise DataError(f"{location}: a pickle of {size} bytes; the limit is {_MAX_BYTES}")
    try:
        # the official file is of Python 2, whose texts have no encoding; latin-1 decodes any bytes
        return _PlainUnpickler(io.BytesIO(files.read(location)), encoding="latin-1").load()
    except DataError:
        raise
    except Exception as error:  # the unpickler raises nearly any error on damaged bytes
        raise DataError(
            f"{location}: not a pickle of plain values: {error or type(error).__name__}",
            reason=Reason.FIELD_TYPE,
        ) from error


class ReferringSource(EntriesSource):
    """Records of referring expressions: images with named boxes."""

    key_settings = frozenset(
        {"split", "image_root", "image_root_key", "image_key", "image_suffix", "image_path", "one_record"}
    )

    def __init__(self, config: ReferringExpressions) -> None:
        self._config = config
        self._release = None
        self._split = None if config.refs_split is None else in_split(config.refs_split, config.split)
        if config.refs is not None and config.instances is not None:
            self._release = _Release(
                in_split(config.refs, config.split), in_split(config.instances, config.split)
            )
            if self._split is not None:
                self._release.require_split(self._split)
        self._detections = None
        if config.detections is not None:
            self._detections = _Detections(in_split(config.detections, config.split))
        super().__init__(config)

    @property
    def config(self) -> ReferringExpressions:
        return self._config

    def key(self, fields: Mapping[str, Any], file: str) -> str | None:
        return None if self.config.one_record == "entry" else image_at(fields, self.config, file)

    def is_skipped(self, fields: Mapping[str, Any]) -> bool:
        if self._release is None or self._split is None:
            return False
        return not self._release.is_in(int_field(fields, "ref_id"), self._split)

    def record(self, entry: Entry) -> Record:
        fields = entry.fields
        value, size = self._box(fields)
        box = check_box(value, "bbox", size, self.config.outside == "clip")
        text = check_text(required(fields, self.config.text_key), self.config.text_key, entry.code)
        record: Record = {"image": image_at(fields, self.config, entry.file.location)}
        record["regions"] = [] if box is None else [{"bbox": box, "caption": text}]
        if self._detections is not None:
            image = number_of(fields, self.config.image_key)
            record["detections"] = check_detections(self._detections.of(image), f"image {image}", size)
        elif (key := self.config.detections_key) is not None:
            record["detections"] = check_detections(required(fields, key), key, size)
        return record

    def texts_of(self, entry: Entry) -> Iterator[str]:
        yield from iter_texts(
            check_text(required(entry.fields, self.config.text_key), self.config.text_key, None)
        )

    def further_files(self) -> list[str]:
        release = self._release
        found = [] if release is None else [release.location, release.instances.location]
        return found if self._detections is None else [*found, self._detections.location]

    def _box(self, fields: Mapping[str, Any]) -> tuple[Any, tuple[int, int] | None]:
        """Return the box and, if known, the size of its image."""
        if self._release is not None:
            return self._release.box(int_field(fields, "ref_id"))
        return required(fields, self.config.bbox_key), size_of(fields)


class _Release:
    """Boxes and splits of the references in the REFER release.

    Attributes:
        location: location of the pickle.
        instances: elements of instances.json.
    """

    def __init__(self, refs: str, instances: str) -> None:
        self.location = refs
        self.instances = ElementIndex(instances, ("images", "annotations"), ("id", "image_id"))
        table = cached_if_slow(refs, _reference_table, "references")
        self._refs = table[:, np.argsort(table[0], kind="stable")]
        self._boxes = _ById(self.instances, "annotations")
        self._images = _ById(self.instances, "images")

    def require_split(self, split: str) -> None:
        """Raise DataError, with the existing splits, if no reference is in this split."""
        if hash_key(split) not in self._refs[2]:
            known = sorted({str_field(each, "split") for each in _read_references(self.location)})
            raise DataError(
                f"{self.location}: no reference is in the split {split!r}; the splits are {', '.join(known)}"
            )

    def is_in(self, ref: int, split: str) -> bool:
        """Return whether a reference is in a split. Raises DataError for an unknown reference."""
        return int(self._refs[2, self._column(ref)]) == hash_key(split)

    def box(self, ref: int) -> tuple[Any, tuple[int, int] | None]:
        """Return the box of a reference and the size of its image. Raises DataError if they are missing."""
        annotation = self._boxes.read(int(self._refs[1, self._column(ref)]))
        image = self._images.read(int_field(annotation, "image_id"))
        return required(annotation, "bbox"), (int_field(image, "width"), int_field(image, "height"))

    def _column(self, ref: int) -> int:
        place = int(np.searchsorted(self._refs[0], ref))
        if place == self._refs.shape[1] or self._refs[0, place] != ref:
            raise DataError(f"ref_id: {self.location} has no reference {ref}", reason=Reason.FIELD_MISSING)
        return place


class _Detections:
    """Boxes of a detector by image id, each image read on access.

    Attributes:
        location: location of the JSON object {image id: list of boxes}.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        table = cached_if_slow(location, _detection_table, "detections")
        self._table = table[:, np.argsort(table[0], kind="stable")]

    def of(self, image: int) -> Any:
        """Return the boxes of an image. Raises DataError if it has none in the file."""
        place = int(np.searchsorted(self._table[0], image))
        if place == self._table.shape[1] or self._table[0, place] != image:
            raise DataError(f"{self.location} has no image {image}", reason=Reason.FIELD_MISSING)
        (boxes,) = parse_object(b"{" + read_span(self.location, self._table[1:, place]) + b"}").values()
        return boxes


class _ById:
    """Elements of one list by id."""

    def __init__(self, index: ElementIndex, member: str) -> None:
        self._index, self._member = index, member
        places = index.of(member)
        ids = index.column("id")[places]
        order = np.argsort(ids, kind="stable")
        self._places, self._ids = places[order], ids[order]

    def read(self, key: int) -> dict[str, Any]:
        """Read an element. Raises DataError for an unknown id."""
        place = int(np.searchsorted(self._ids, key))
        if place == len(self._ids) or self._ids[place] != key:
            raise DataError(
                f"{self._index.location}: no {self._member[:-1]} has the id {key}",
                reason=Reason.FIELD_MISSING,
            )
        return self._index.read(int(self._places[place]))


def _reference_table(location: str) -> NDArray[np.int64]:
    """Return [3, R]: id, annotation and hashed split of each reference."""
    rows = []
    for number, each in enumerate(_read_references(location), 1):
        with errors_at(f"{location} reference {number}"):
            split = hash_key(str_field(each, "split"))
            rows.append([int_field(each, "ref_id"), int_field(each, "ann_id"), split])
    return np.ascontiguousarray(np.asarray(rows, np.int64).reshape(-1, 3).T)


def _detection_table(location: str) -> NDArray[np.int64]:
    """Return [3, K]: image id, start and end of each member of a JSON object."""
    rows = []
    with files.open_file(location) as file:
        for number, span in enumerate(element_spans(location), 1):
            with errors_at(f"{location} entry {number}"):
                member = parse_object(b"{" + read_span(file, span) + b"}")
                if len(member) != 1:
                    raise DataError("expected boxes by image id", reason=Reason.NOT_JSON)
                rows.append([int_field({"image id": next(iter(member))}, "image id"), *span.tolist()])
    return np.ascontiguousarray(np.asarray(rows, np.int64).reshape(-1, 3).T)


def _read_references(location: str) -> list[dict[str, Any]]:
    references = read_plain_pickle(location)
    if not isinstance(references, list) or not all(isinstance(each, dict) for each in references):
        raise DataError(
            f"{location}: expected a list of references, found {short_repr(references)}",
            reason=Reason.FIELD_TYPE,
        )
    return references

"""Reading a pickle of plain values: nothing in it can name a class or call a function. Imports no torch."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from x2kit.data.index.groups import key_of
from x2kit.data.index.json_elements import ElementIndex
from x2kit.data.sources.annotation_config import ReferringExpressions
from x2kit.data.sources.annotation_files import EntriesSource, Entry, image_at
from x2kit.data.sources.fields import box_of, every_text, name_of, number_of, required, shown, text_of
from x2kit.data.sources.splits import in_split
from x2kit.data.storage import files
from x2kit.data.storage.index_cache import remembered_if_slow
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Record

LARGEST = 2**30
"""Bytes; the file of references of RefCOCO+ has 30 MB."""


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
        *(
            pickle.GLOBAL,
            pickle.STACK_GLOBAL,
            pickle.INST,
            pickle.PERSID,
            pickle.BINPERSID,
        ),  # to say what for
    )
)
"""What the unpickler can do: make plain values. A tuple is none; nested deeply, as a key, it would crash Python."""


class _Known(dict[int, Any]):
    def __missing__(self, code: int) -> NoReturn:
        raise pickle.UnpicklingError(
            f"it has the operation {bytes([code])!r}, and only plain values are read"
        )


class _PlainUnpickler(pickle._Unpickler):
    """Builds lists, dicts, texts and numbers. Every way to anything else is missing or asks one of these methods.

    Of the standard library's two unpicklers it is the one written in Python: the other takes as much memory as a
    damaged file tells it to, which can be more than there is.
    """

    dispatch = _Known((code, pickle._Unpickler.dispatch[code]) for code in _OPERATIONS)

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only plain values are read")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it asks for an object outside the file, and only plain values are read")


def read_plain_pickle(location: str) -> Any:
    """What a pickle holds if that is lists, dicts, texts, numbers, booleans and None.

    Raises: DataError if it holds anything else, is damaged, larger than 1 GiB or cannot be read.
    """
    size = files.state(location).size
    if size > LARGEST:
        raise DataError(f"{location}: a pickle of {size} bytes; at most {LARGEST} are read")
    try:
        # Python 2 wrote the official file, and does not say how its texts are encoded; latin-1 reads all of them
        return _PlainUnpickler(io.BytesIO(files.read(location)), encoding="latin-1").load()
    except DataError:
        raise
    except Exception as error:  # damaged bytes make the unpickler raise nearly anything
        raise DataError(
            f"{location}: not a pickle of plain values: {error or type(error).__name__}",
            reason=Reason.FIELD_TYPE,
        ) from error


_MEMBERS = ("images", "annotations")


class ReferringSource(EntriesSource):
    """The records of referring expressions."""

    shaping = frozenset({"split", "image_root", "image_root_key", "image_key", "image_suffix", "refs_split"})
    remembers = False  # what is left out is decided by the references too

    def __init__(self, config: ReferringExpressions) -> None:
        self._config = config
        self._release = None
        if config.refs is not None and config.instances is not None:
            self._release = _Release(
                in_split(config.refs, config.split), in_split(config.instances, config.split)
            )
            if config.refs_split is not None:
                self._release.require_split(config.refs_split)
        super().__init__(config)

    @property
    def config(self) -> ReferringExpressions:
        return self._config

    def key(self, fields: Mapping[str, Any], file: str) -> str | None:
        return image_at(fields, self.config, file)

    def left_out(self, fields: Mapping[str, Any]) -> bool:
        if self._release is None or self.config.refs_split is None:
            return False
        return not self._release.is_in(number_of(fields, "ref_id"), self.config.refs_split)

    def record(self, entry: Entry) -> Record:
        fields = entry.fields
        value, size = self._box(fields)
        box = box_of(value, "bbox", size, self.config.outside == "clip")
        text = text_of(required(fields, self.config.text_key), self.config.text_key, entry.code)
        record: Record = {"image": image_at(fields, self.config, entry.file.location)}
        record["regions"] = [] if box is None else [{"bbox": box, "caption": text}]
        return record

    def texts_of(self, entry: Entry) -> Iterator[str]:
        yield from every_text(
            text_of(required(entry.fields, self.config.text_key), self.config.text_key, None)
        )

    def further_files(self) -> list[str]:
        return [] if self._release is None else [self._release.location, self._release.instances.location]

    def _box(self, fields: Mapping[str, Any]) -> tuple[Any, tuple[int, int] | None]:
        """The box and, where it is told, the size of its image."""
        if self._release is not None:
            return self._release.box(number_of(fields, "ref_id"))
        size = None
        if "width" in fields and "height" in fields:
            size = (number_of(fields, "width"), number_of(fields, "height"))
        return required(fields, self.config.bbox_key), size


class _Release:
    """Which box a reference has, by the files of the REFER release.

    Attributes:
        location: of the pickle.
        instances: the elements of instances.json.
    """

    def __init__(self, refs: str, instances: str) -> None:
        self.location = refs
        self.instances = ElementIndex(instances, _MEMBERS, ("id", "image_id"))
        table = remembered_if_slow(refs, _references, "references")
        self._refs = table[:, np.argsort(table[0], kind="stable")]
        self._boxes = _Lookup(self.instances, "annotations")
        self._images = _Lookup(self.instances, "images")

    def require_split(self, split: str) -> None:
        """Raise DataError, which names the splits there are, if no reference is in this one."""
        if key_of(split) not in self._refs[2]:
            known = sorted({name_of(each, "split") for each in _listed(self.location)})
            raise DataError(
                f"{self.location}: no reference is in the split {split!r}; there are {', '.join(known)}"
            )

    def is_in(self, ref: int, split: str) -> bool:
        """Whether a reference is in a split. Raises DataError if there is no such reference."""
        return int(self._refs[2, self._at(ref)]) == key_of(split)

    def box(self, ref: int) -> tuple[Any, tuple[int, int] | None]:
        """Box and size of the image. Raises DataError if the files do not have them."""
        annotation = self._boxes.read(int(self._refs[1, self._at(ref)]))
        image = self._images.read(number_of(annotation, "image_id"))
        return required(annotation, "bbox"), (number_of(image, "width"), number_of(image, "height"))

    def _at(self, ref: int) -> int:
        place = int(np.searchsorted(self._refs[0], ref))
        if place == self._refs.shape[1] or self._refs[0, place] != ref:
            raise DataError(f"ref_id: {self.location} has no reference {ref}", reason=Reason.FIELD_MISSING)
        return place


class _Lookup:
    """Elements of one list by their id."""

    def __init__(self, index: ElementIndex, member: str) -> None:
        self._index, self._member = index, member
        places = index.of(member)
        ids = index.column("id")[places]
        order = np.argsort(ids, kind="stable")
        self._places, self._ids = places[order], ids[order]

    def read(self, key: int) -> dict[str, Any]:
        """Raises DataError if there is none."""
        place = int(np.searchsorted(self._ids, key))
        if place == len(self._ids) or self._ids[place] != key:
            raise DataError(
                f"{self._index.location}: no {self._member[:-1]} has the id {key}",
                reason=Reason.FIELD_MISSING,
            )
        return self._index.read(int(self._places[place]))


def _references(location: str) -> NDArray[np.int64]:
    """[3, R]: id, annotation and key of the split of each reference."""
    rows = []
    for number, each in enumerate(_listed(location), 1):
        try:
            split = key_of(name_of(each, "split"))
            rows.append([number_of(each, "ref_id"), number_of(each, "ann_id"), split])
        except DataError as error:
            raise DataError(f"{location} reference {number}: {error}", reason=error.reason) from error
    return np.ascontiguousarray(np.asarray(rows, np.int64).reshape(-1, 3).T)


def _listed(location: str) -> list[dict[str, Any]]:
    found = read_plain_pickle(location)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise DataError(
            f"{location}: expected a list of references, found {shown(found)}", reason=Reason.FIELD_TYPE
        )
    return found

"""The entries of several annotation files as one list, grouped into records. Imports no torch."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from x2kit.data.index.chain import Chain
from x2kit.data.index.groups import Groups, key_of
from x2kit.data.sources.annotation_config import AnnotationFiles, EntriesConfig
from x2kit.data.sources.entry_files import EntryFile, open_entries
from x2kit.data.sources.fields import (
    decode_base64,
    every_text,
    is_empty,
    listed,
    name_of,
    required,
    shown,
    text_of,
)
from x2kit.data.sources.splits import fingerprint_of
from x2kit.data.storage import files
from x2kit.data.storage.index_cache import remembered_if_slow
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Place, Record, Text

_log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """One entry of a file.

    Attributes:
        fields: what it holds.
        code: language of its texts, if the settings tell one.
        file: where it stands.
        number: its position there.
    """

    fields: dict[str, Any]
    code: str | None
    file: EntryFile
    number: int


class EntriesSource(ABC):
    """Records of one or many entries. What is kept in memory are numbers, 40 bytes an entry.

    A subclass says what a record of some entries is.
    """

    shaping: ClassVar[frozenset[str]] = frozenset()
    """Names of settings that decide which entries are a record."""
    remembers: ClassVar[bool] = True
    """Whether these settings and the file decide it alone; then it is found once and remembered for large files."""

    def __init__(self, config: EntriesConfig) -> None:
        """Find all entries. Raises DataError if a file cannot be read, or if there is no record."""
        named = config.paths()
        self._files = [open_entries(path) for path, _ in named]
        self._codes = [code for _, code in named]
        self._names = files.shared_names(path for path, _ in named)
        self._chain = Chain(map(len, self._files))
        keys = np.concatenate([self._keys(number) for number in range(len(named))], axis=1)
        kept = keys[1] == 0
        if dropped := len(kept) - int(kept.sum()):
            _log.info("%d of %d entries are left out", dropped, len(kept))
        self._groups = Groups(keys[0], kept)
        if not len(self):
            raise DataError(f"no record in {', '.join(path for path, _ in named)}")

    @abstractmethod
    def key(self, fields: Mapping[str, Any], file: str) -> str | None:
        """What is equal for entries of one record; None if each is one. Raises DataError if it cannot be told."""

    @abstractmethod
    def left_out(self, fields: Mapping[str, Any]) -> bool:
        """Whether the entry is in no record."""

    @abstractmethod
    def record(self, entry: Entry) -> Record:
        """What one entry says of the image. Raises DataError, without file and place, if it is broken."""

    @abstractmethod
    def texts_of(self, entry: Entry) -> Iterator[str]:
        """The texts of one entry. Raises DataError if it is broken."""

    @property
    @abstractmethod
    def config(self) -> EntriesConfig:
        """The settings."""

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: int) -> Record:
        """The record at `index`. Raises DataError with file, entry and reason."""
        return joined([self._record(place) for place in self._groups[index]])

    def place(self, index: int) -> Place:
        """Where the first entry of a record stands."""
        file, number = self._chain.locate(self._groups[index][0])
        return self._files[file].place(number)

    def texts(self) -> Iterator[str]:
        """Every text, in the order of the files; broken entries have none and are logged."""
        broken = 0
        for file, code in zip(self._files, self._codes, strict=True):
            for number, fields in enumerate(file.scan()):
                try:
                    if fields is None:
                        broken += 1
                    elif not self.left_out(fields):
                        yield from self.texts_of(Entry(fields, code, file, number))
                except DataError as error:
                    broken += 1
                    _log.debug("%s%s: %s", file.location, file.label(number), error)
        if broken:
            _log.warning("%d of %d entries gave no texts: they are broken", broken, len(self._chain))

    def fingerprint(self) -> str:
        """A hash of the settings that shape records and of all that the files hold; no image is read."""
        named = list(zip(self._names, self._codes, strict=True))
        settings = self.config.model_dump_json(exclude={"files", "image_root", "image_hosts", "root"})
        return fingerprint_of(
            f"{settings} {json.dumps(named)}", [file.location for file in self._files] + self.further_files()
        )

    def further_files(self) -> list[str]:
        """Files beside those of the entries that the records are made of."""
        return []

    def _record(self, place: int) -> Record:
        at, number = self._chain.locate(place)
        file = self._files[at]
        name = f"{self._names[at]}{file.label(number)}".replace(" entry ", ":")
        fields = file.read(number)
        try:
            if self.config.id_key is not None:
                name = name_of(fields, self.config.id_key)
            return {"id": name, **self.record(Entry(fields, self._codes[at], file, number))}
        except DataError as error:
            raise DataError(
                f"{file.location}{file.label(number)}: {error}", reason=error.reason, record=name
            ) from error

    def _keys(self, number: int) -> NDArray[np.int64]:
        file = self._files[number]
        settings = self.config.model_dump_json(include=set(self.shaping))
        return remembered_if_slow(
            file.location, partial(self._find_keys, file), f"keys {type(self).__name__} {settings}"
        )

    def _find_keys(self, file: EntryFile, location: str) -> NDArray[np.int64]:
        """[2, K]: the key of each entry, and 1 for those that are left out."""
        found = np.zeros((2, len(file)), np.int64)
        for number, fields in enumerate(file.scan()):
            own = f"\0{location}\0{number}"  # a broken entry is a record, refused when it is read
            try:
                key = None if fields is None else self.key(fields, location)
                found[1, number] = fields is not None and self.left_out(fields)
            except DataError:
                key = None
            found[0, number] = key_of(own if key is None else key)
        return found


def joined(parts: Sequence[Record]) -> Record:
    """One record of what several entries say of an image: all texts and regions, the rest from the first."""
    if len(parts) == 1:
        return parts[0]
    record: Record = {**parts[0]}
    if captions := [text for part in parts if "caption" in part for text in listed(part["caption"])]:
        record["caption"] = captions
    if regions := [region for part in parts for region in part.get("regions", [])]:
        record["regions"] = regions
    return record


class AnnotationSource(EntriesSource):
    """The records of annotation files."""

    shaping = frozenset(
        {
            "split",
            "image_root",
            "image_root_key",
            "image_hosts",
            "root",
            "image_key",
            "image_suffix",
            "caption_key",
            "one_record",
            "same_image_key",
            "drop_empty",
        }
    )

    def __init__(self, config: AnnotationFiles) -> None:
        self._config = config
        super().__init__(config)

    @property
    def config(self) -> AnnotationFiles:
        return self._config

    def key(self, fields: Mapping[str, Any], file: str) -> str | None:
        if self.config.one_record == "entry":
            return None
        if self.config.same_image_key is not None:
            return name_of(fields, self.config.same_image_key)
        if self.config.image_as == "base64":
            return name_of(fields, self.config.image_key)
        return image_at(fields, self.config, file)

    def left_out(self, fields: Mapping[str, Any]) -> bool:
        return self.config.drop_empty and is_empty(fields.get(self.config.caption_key))

    def record(self, entry: Entry) -> Record:
        fields, file = entry.fields, entry.file.location
        kept: dict[str, Any] = {key: fields[key] for key in self.config.keep if key in fields}
        value = required(fields, self.config.image_key)
        if self.config.image_as == "base64":
            kept["image"] = _decoded(value, self.config.image_key)
        elif isinstance(value, list):  # of tasks that compare images
            named = [{**fields, self.config.image_key: path} for path in value]
            kept["images"] = [image_at(each, self.config, file) for each in named]
        else:
            kept["image"] = image_at(fields, self.config, file)
        kept["caption"] = self._text(entry)
        return cast(Record, kept)

    def texts_of(self, entry: Entry) -> Iterator[str]:
        yield from every_text(self._text(entry))

    def _text(self, entry: Entry) -> Text:
        key = self.config.caption_key
        value = required(entry.fields, key)
        if self.config.drop_empty and isinstance(value, list):
            value = [item for item in value if not is_empty(item)]
        return text_of(value, key, entry.code)


def image_at(fields: Mapping[str, Any], config: EntriesConfig, file: str) -> str:
    """Where the image of an entry is. Raises DataError if its field is missing or holds no path.

    Args:
        fields: of the entry.
        config: says where paths start.
        file: that holds the entry.
    """
    path = told_by = name_of(fields, config.image_key) + config.image_suffix
    if config.image_root_key is not None:
        value = fields.get(config.image_root_key, "")
        told_by = value if isinstance(value, str) else ""
    return config.image_at(path, told_by, file)


def _decoded(value: Any, key: str) -> bytes:
    if not isinstance(value, str) or not value:
        raise DataError(f"{key}: expected text, found {shown(value)}", reason=Reason.FIELD_TYPE)
    return decode_base64(value, key)

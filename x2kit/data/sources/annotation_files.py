"""Read annotation files as one list of entries, grouped into records. Imports no torch."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from x2kit.data.index.chain import Chain
from x2kit.data.index.groups import Groups, hash_key
from x2kit.data.sources.entry_files import EntryFile, open_entries
from x2kit.data.sources.fields import (
    as_list,
    check_text,
    decode_base64,
    errors_at,
    is_empty,
    iter_texts,
    required,
    str_field,
)
from x2kit.data.storage.index_cache import cached_if_slow, file_fingerprint
from x2kit.data.storage.locations import relative_names
from x2kit.errors import DataError
from x2kit.plugin.sources import Place, Record, Text

if TYPE_CHECKING:
    from x2kit.data.sources.annotation_config import AnnotationFiles, EntriesConfig

_log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """One entry of a file.

    Attributes:
        fields: its JSON object.
        code: language of its texts, if the settings name one.
        file: file of the entry.
        number: position in the file.
    """

    fields: dict[str, Any]
    code: str | None
    file: EntryFile
    number: int


class EntriesSource(ABC):
    """Records of one or several entries; subclasses convert an entry to a record.

    Memory holds numbers alone, 40 bytes an entry.
    """

    key_settings: ClassVar[frozenset[str]] = frozenset()
    """Names of the settings that `key` and `is_skipped` read."""

    def __init__(self, config: EntriesConfig) -> None:
        """Index all entries. Raises DataError if a file cannot be read, or if there is no record."""
        paths = config.paths()
        self._files = [open_entries(path) for path, _ in paths]
        self._codes = [code for _, code in paths]
        self._names = relative_names(path for path, _ in paths)
        self._chain = Chain(map(len, self._files))
        keys = np.concatenate([self._keys(file) for file in self._files], axis=1)
        kept = keys[1] == 0
        if skipped := len(kept) - int(kept.sum()):
            _log.info("%d of %d entries are skipped", skipped, len(kept))
        self._groups = Groups(keys[0], kept)
        if not len(self):
            raise DataError(f"no record in {', '.join(path for path, _ in paths)}")

    @property
    @abstractmethod
    def config(self) -> EntriesConfig:
        """The settings."""

    @abstractmethod
    def key(self, fields: Mapping[str, Any], file: str) -> str | None:
        """Return a key shared by the entries of a record; None if each entry is a record."""

    @abstractmethod
    def is_skipped(self, fields: Mapping[str, Any]) -> bool:
        """Return whether the entry belongs to no record."""

    @abstractmethod
    def record(self, entry: Entry) -> Record:
        """Convert an entry to a record without an id. Raises DataError, without file and entry, if it is broken."""

    @abstractmethod
    def texts_of(self, entry: Entry) -> Iterator[str]:
        """Yield the texts of an entry. Raises DataError if it is broken."""

    def further_files(self) -> list[str]:
        """List files that the records depend on besides those of the entries."""
        return []

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: int) -> Record:
        """Read the record at `index`. Raises DataError with file, entry and reason."""
        return merged([self._record(entry) for entry in self._groups[index]])

    def place(self, index: int) -> Place:
        """Return the place of the first entry of a record."""
        file, number = self._chain.locate(self._groups[index][0])
        return self._files[file].place(number)

    def texts(self) -> Iterator[str]:
        """Yield every text in the order of the files; broken entries are logged and skipped."""
        broken = 0
        for file, code in zip(self._files, self._codes, strict=True):
            for number, fields in enumerate(file.scan()):
                try:
                    if fields is None:
                        broken += 1
                    elif not self.is_skipped(fields):
                        yield from self.texts_of(Entry(fields, code, file, number))
                except DataError as error:
                    broken += 1
                    _log.debug("%s%s: %s", file.location, file.label(number), error)
        if broken:
            _log.warning("no texts from %d of %d entries: they are broken", broken, len(self._chain))

    def fingerprint(self) -> str:
        """Hash the contents of the files and the settings that change records; images are not read."""
        named = list(zip(self._names, self._codes, strict=True))
        settings = self.config.model_dump_json(exclude={"files", "image_root", "image_hosts", "root"})
        locations = [file.location for file in self._files] + self.further_files()
        return file_fingerprint(f"{settings} {json.dumps(named)}", locations)

    def _record(self, entry: int) -> Record:
        at, number = self._chain.locate(entry)
        file = self._files[at]
        name = f"{self._names[at]}{file.label(number)}".replace(" entry ", ":")
        fields = file.read(number)
        place = f"{file.location}{file.label(number)}"
        if self.config.id_key is not None:
            with errors_at(place, name):
                name = str_field(fields, self.config.id_key)
        with errors_at(place, name):
            return {"id": name, **self.record(Entry(fields, self._codes[at], file, number))}

    def _keys(self, file: EntryFile) -> NDArray[np.int64]:
        """Return [2, K]: the hashed key of each entry, and 1 for those that are skipped."""
        if self.further_files():  # the cache knows the version of one file
            return self._find_keys(file, file.location)
        settings = self.config.model_dump_json(include=set(self.key_settings))
        return cached_if_slow(
            file.location, partial(self._find_keys, file), f"keys {type(self).__name__} {settings}"
        )

    def _find_keys(self, file: EntryFile, location: str) -> NDArray[np.int64]:
        keys = np.zeros((2, len(file)), np.int64)
        for number, fields in enumerate(file.scan()):
            try:
                key = None if fields is None else self.key(fields, location)
                keys[1, number] = fields is not None and self.is_skipped(fields)
            except DataError:  # a broken entry is a record that cannot be read
                key = None
            keys[0, number] = hash_key(f"\0{location}\0{number}" if key is None else key)
        return keys


def merged(records: Sequence[Record]) -> Record:
    """Merge the records of an image: all captions and regions, other fields from the first."""
    if len(records) == 1:
        return records[0]
    record: Record = {**records[0]}
    if captions := [text for each in records if "caption" in each for text in as_list(each["caption"])]:
        record["caption"] = captions
    if regions := [region for each in records for region in each.get("regions", [])]:
        record["regions"] = regions
    return record


class AnnotationSource(EntriesSource):
    """Records of captions from annotation files."""

    key_settings = frozenset(
        (
            *("split", "image_root", "image_root_key", "image_hosts", "root", "image_key", "image_suffix"),
            *("caption_key", "one_record", "same_image_key", "drop_empty"),
        )
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
            return str_field(fields, self.config.same_image_key)
        if self.config.image_as == "base64":
            return str_field(fields, self.config.image_key)
        return image_at(fields, self.config, file)

    def is_skipped(self, fields: Mapping[str, Any]) -> bool:
        return self.config.drop_empty and is_empty(fields.get(self.config.caption_key))

    def record(self, entry: Entry) -> Record:
        fields, file, config = entry.fields, entry.file.location, self.config
        record: dict[str, Any] = {key: fields[key] for key in config.keep if key in fields}
        value = required(fields, config.image_key)
        if config.image_as == "base64":
            record["image"] = decode_base64(value, config.image_key)
        elif isinstance(value, list):  # of tasks that compare images
            record["images"] = [image_at({**fields, config.image_key: path}, config, file) for path in value]
        else:
            record["image"] = image_at(fields, config, file)
        record["caption"] = self._text(entry)
        return cast(Record, record)

    def texts_of(self, entry: Entry) -> Iterator[str]:
        yield from iter_texts(self._text(entry))

    def _text(self, entry: Entry) -> Text:
        key = self.config.caption_key
        value = required(entry.fields, key)
        if self.config.drop_empty and isinstance(value, list):
            value = [item for item in value if not is_empty(item)]
        return check_text(value, key, entry.code)


def image_at(fields: Mapping[str, Any], config: EntriesConfig, file: str) -> str:
    """Return the location of the image of an entry. Raises DataError without a valid path.

    Args:
        fields: JSON object of the entry.
        config: settings of the source.
        file: file of the entry.
    """
    path = searched = str_field(fields, config.image_key) + config.image_suffix
    if config.image_root_key is not None:
        value = fields.get(config.image_root_key, "")
        searched = value if isinstance(value, str) else ""
    return config.image_at(path, searched, file)

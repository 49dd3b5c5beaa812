"""Read annotation files as one list of entries, grouped into records. Imports no torch."""

from __future__ import annotations

import json
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from x2kit.data.index.chain import Chain
from x2kit.data.index.groups import Groups, hash_key
from x2kit.data.sources.coco import CocoCaptions
from x2kit.data.sources.entry_files import EntryFile, open_entries
from x2kit.data.sources.fields import (
    as_list,
    check_answers,
    check_label,
    check_options,
    check_pair,
    check_text,
    decode_base64,
    errors_at,
    int_field,
    is_empty,
    record_texts,
    required,
    short_repr,
    str_field,
)
from x2kit.data.sources.splits import in_split
from x2kit.data.storage.index_cache import cached_if_slow, file_fingerprint
from x2kit.data.storage.locations import relative_names
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Answers, Place, Record, Text

if TYPE_CHECKING:
    from x2kit.data.sources.annotation_config import AnnotationFiles, EntriesConfig

_log = logging.getLogger(__name__)
_LAST_NUMBER = re.compile(r"([0-9]{1,64})(?:\.\w+)?$")
_BRACES = re.compile(r"\{(\w+)\}")


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
        found = [self._keys(file) for file in self._files]
        for file, keys in zip(self._files, found, strict=True):
            if skipped := int((keys[1] != 0).sum()):
                _log.info("%s: %d of %d entries are skipped", file.location, skipped, len(file))
        all_keys = np.concatenate(found, axis=1)
        self._groups = Groups(all_keys[0], all_keys[1] == 0)
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

    def merge(self, records: Sequence[Record]) -> Record:
        """Merge the records of two or more entries. Raises DataError if they contradict each other."""
        return merged_captions(records)

    def further_files(self) -> list[str]:
        """List files that the records depend on besides those of the entries."""
        return []

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: int) -> Record:
        """Read the record at `index`. Raises DataError with file, entry and reason."""
        entries = self._groups[index]
        records = [self._record(entry) for entry in entries]
        if len(records) == 1:
            return records[0]
        file, number = self._chain.locate(entries[-1])
        with errors_at(f"{self._files[file].location}{self._files[file].label(number)}", records[0]["id"]):
            return self.merge(records)

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
                name = record_id(fields, self.config)
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


def merged_captions(records: Sequence[Record]) -> Record:
    """Merge the records of an image: all captions and regions, other fields from the first."""
    record: Record = {**records[0]}
    if captions := [text for each in records if "caption" in each for text in as_list(each["caption"])]:
        record["caption"] = captions
    if regions := [region for each in records for region in each.get("regions", [])]:
        record["regions"] = regions
    return record


def merged_languages(records: Sequence[Record]) -> Record:
    """Merge the records of one id in several languages.

    Raises: DataError for two texts in one language, texts without a language, and different answers or labels.
    """
    record: dict[str, Any] = {**records[0]}
    for field in ("caption", "question", "premise"):
        if texts := [each.get(field) for each in records if field in each]:
            record[field] = _in_all_languages(texts, field)
    if options := [each["options"] for each in records if "options" in each]:
        if len({len(each) for each in options}) > 1:
            raise DataError("options: entries of this id have different numbers of options")
        record["options"] = [_in_all_languages(texts, "options") for texts in zip(*options, strict=True)]
    for field in ("answers", "label"):
        for each in records:
            if each.get(field) != record.get(field):
                raise DataError(
                    f"{field}: {short_repr(each.get(field))}, but {short_repr(record.get(field))} in another entry of "
                    "this id"
                )
    return cast(Record, record)


def _in_all_languages(texts: Sequence[Any], field: str) -> Text:
    merged: dict[str, str] = {}
    for text in texts:
        if not isinstance(text, dict) or text.keys() & merged.keys():
            found = "without a language" if not isinstance(text, dict) else f"in {', '.join(text)}"
            raise DataError(
                f"{field}: several texts {found} for one id; give files by language, or set one_record: entry",
                reason=Reason.DUPLICATE_ID,
            )
        merged |= text
    return merged


class AnnotationSource(EntriesSource):
    """Records of captions, questions or labels from annotation files."""

    key_settings = frozenset(
        (
            *("split", "image_root", "image_root_key", "image_hosts", "root", "image_key", "image_suffix"),
            *("image_path", "video_key", "caption_key", "question_key", "one_record", "same_image_key"),
            *("drop_empty", "skip", "id_key", "id_as"),
        )
    )

    def __init__(self, config: AnnotationFiles) -> None:
        self._config = config
        self._captions = None
        if config.coco_captions is not None:
            self._captions = CocoCaptions(in_split(config.coco_captions, config.split))
        super().__init__(config)

    @property
    def config(self) -> AnnotationFiles:
        return self._config

    def key(self, fields: Mapping[str, Any], file: str) -> str | None:
        config = self.config
        if config.one_record == "entry":
            return None
        if config.one_record == "id":
            return record_id(fields, config)
        if config.same_image_key is not None:
            return str_field(fields, config.same_image_key)
        if config.image_as == "base64" and config.video_key is None:
            return str_field(fields, config.image_key)
        return image_at(fields, config, file, config.video_key)

    def is_skipped(self, fields: Mapping[str, Any]) -> bool:
        config = self.config
        if any(fields.get(key) in values for key, values in config.skip.items()):
            return True
        return config.drop_empty and is_empty(fields.get(config.question_key or config.caption_key))

    def merge(self, records: Sequence[Record]) -> Record:
        return merged_languages(records) if self.config.one_record == "id" else merged_captions(records)

    def record(self, entry: Entry) -> Record:
        kept = {key: entry.fields[key] for key in self.config.keep if key in entry.fields}
        media = self._media(entry.fields, entry.file.location)
        return cast(Record, {**kept, **media, **self._texts(entry)})

    def texts_of(self, entry: Entry) -> Iterator[str]:
        yield from record_texts(self._texts(entry))

    def further_files(self) -> list[str]:
        return [] if self._captions is None else [self._captions.location]

    def _media(self, fields: dict[str, Any], file: str) -> Record:
        """Return the image, both images or the video of an entry."""
        config = self.config
        if config.video_key is not None:
            return {"video": image_at(fields, config, file, config.video_key)}
        value = required(fields, config.image_key)
        if isinstance(value, list):
            check_pair(value, config.image_key)
            return {"images": [self._image({**fields, config.image_key: one}, file) for one in value]}
        if config.second_image_key is not None:
            second = {**fields, config.image_key: required(fields, config.second_image_key)}
            return {"images": [self._image(fields, file), self._image(second, file)]}
        return {"image": self._image(fields, file)}

    def _image(self, fields: Mapping[str, Any], file: str) -> str | bytes:
        if self.config.image_as == "base64":
            return decode_base64(fields[self.config.image_key], self.config.image_key)
        return image_at(fields, self.config, file)

    def _texts(self, entry: Entry) -> Record:
        """Return all fields of a record but images and videos."""
        fields, config = entry.fields, self.config
        record: Record = {}
        if config.question_key is not None:
            record["question"] = self._text(entry, config.question_key)
        elif self._captions is not None:
            image = number_of(fields, config.image_key)
            record["caption"] = check_text(self._captions.of(image), "caption", entry.code)
        else:
            record["caption"] = self._text(entry, config.caption_key)
        if config.options_keys:
            values = [required(fields, key) for key in config.options_keys]
            options = values[0] if len(values) == 1 else values
            record["options"] = check_options(options, ", ".join(config.options_keys), entry.code)
        given = {key: value for key, value in fields.items() if value is not None}
        if (answers := self._answers(given)) is not None:
            record["answers"] = answers
        if config.label_key in given:
            record["label"] = check_label(given[config.label_key], config.label_key, config.label_as)
        if config.premise_key in given:
            record["premise"] = check_text(given[config.premise_key], config.premise_key, entry.code)
        return record

    def _text(self, entry: Entry, key: str) -> Text:
        value = required(entry.fields, key)
        if self.config.drop_empty and isinstance(value, list):
            value = [item for item in value if not is_empty(item)]
        return check_text(value, key, entry.code)

    def _answers(self, fields: Mapping[str, Any]) -> Answers | None:
        config = self.config
        if config.answers_key is None or config.answers_key not in fields:
            return None
        value = fields[config.answers_key]
        answers = check_answers(value, config.answers_key)
        if answers is not None and config.equal_answers:
            return list(dict.fromkeys(answers))
        if isinstance(value, str | int) and answers is not None and config.single_answer_weight != 1:
            return dict.fromkeys(answers, config.single_answer_weight)
        return answers


def image_at(fields: Mapping[str, Any], config: EntriesConfig, file: str, key: str | None = None) -> str:
    """Return the location of the image of an entry. Raises DataError without a valid path.

    Args:
        fields: JSON object of the entry.
        config: settings of the source.
        file: file of the entry.
        key: field of the image; None for that of the settings.
    """
    value = str_field(fields, key or config.image_key)
    path = searched = _composed_path(value, fields, config.image_path) + config.image_suffix
    if config.image_root_key is not None:
        found = fields.get(config.image_root_key, "")
        searched = found if isinstance(found, str) else ""
    return config.image_at(path, searched, file)


def record_id(fields: Mapping[str, Any], config: EntriesConfig) -> str:
    """Return the id of an entry from the field in the settings. Raises DataError if it is missing or invalid."""
    assert config.id_key is not None
    return (
        str_field(fields, config.id_key) if config.id_as == "text" else str(number_of(fields, config.id_key))
    )


def number_of(fields: Mapping[str, Any], key: str) -> int:
    """Return the number at the end of a file name in a field. Raises DataError if there is none."""
    return int_field({key: last_number(str_field(fields, key), key)}, key)


def last_number(name: str, key: str) -> str:
    """Return the last digits of a name, before its ending. Raises DataError, with `key`, if there are none."""
    found = _LAST_NUMBER.search(name)
    if found is None:
        raise DataError(
            f"{key}: expected a number at the end of {short_repr(name)}", reason=Reason.FIELD_TYPE
        )
    return found[1]


def _composed_path(value: str, fields: Mapping[str, Any], template: str | None) -> str:
    """Insert a value and fields of its entry in a template of a path."""
    if template is None:
        return value

    def insert(braces: re.Match[str]) -> str:
        if braces[1] == "value":
            return value
        if braces[1] == "number":
            return last_number(value, "image_path")
        return value.partition("-")[0] if braces[1] == "prefix" else str_field(fields, braces[1])

    return _BRACES.sub(insert, template)

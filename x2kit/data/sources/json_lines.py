"""Read records from JSON Lines, in x2kit's own fields and the official ones. Imports no torch.

| record    | own field               | official field                                                  |
|-----------|-------------------------|-----------------------------------------------------------------|
| image     | image (path)            | binary (base64)                                                 |
| video     | video (path, or paths   | video_frames (base64, or clips of base64)                       |
|           | of frames)              |                                                                 |
| caption   | caption                 | caption, desc, text                                             |
| regions   | regions: bbox, caption  | elems: bb, caption, attributes (put before the caption)         |
| texts     | texts: {code: sentence} | source_text, target_text                                        |

Fields of tasks have no official names here: images, question, answers, options, label, premise, detections.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from x2kit.data.index.indexed_files import IndexedFiles
from x2kit.data.index.lines import LineIndex
from x2kit.data.sources.fields import (
    as_list,
    box_numbers,
    check_answers,
    check_detections,
    check_label,
    check_options,
    check_pair,
    check_sentence,
    check_text,
    decode_base64,
    parse_object,
    record_texts,
    required,
    short_repr,
)
from x2kit.data.sources.splits import root_in_split
from x2kit.data.storage.index_cache import file_fingerprint, uses_digests
from x2kit.data.storage.locations import folder_of, is_url
from x2kit.data.storage.url_policy import locate
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Place, Record, Region, Text

if TYPE_CHECKING:
    from x2kit.data.sources.config import JsonLines

_log = logging.getLogger(__name__)
CAPTION_KEYS = ("caption", "desc", "text")
PAIR_KEYS = ("source_text", "target_text")


class JsonLinesSource:
    """The records of JSON Lines files in order, each read from its file on access."""

    def __init__(self, config: JsonLines) -> None:
        self.config = config
        self._files = IndexedFiles(config.found(), LineIndex, "lines")

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Record:
        """Read the record at `index`; without a field `id`, its id is file and line.

        Raises: DataError with file, line and reason for an invalid line.
        """
        file, lines, line = self._files.locate(index)
        number = lines.number(line)
        name = None
        try:
            fields = parse_object(lines.read(line))
            name = str(fields["id"]) if "id" in fields else f"{file}:{number}"
            record = record_of(fields, self.config, folder_of(lines.location))
        except DataError as error:
            raise DataError(
                f"{lines.location}:{number}: {error}", reason=error.reason, record=name
            ) from error
        record["id"] = name
        return record

    def place(self, index: int) -> Place:
        """Return file and line of a record."""
        _, lines, line = self._files.locate(index)
        return Place(lines.location, line=lines.number(line))

    def texts(self) -> Iterator[str]:
        """Yield every text of every record in order; broken lines are logged and skipped."""
        config, broken = self.config, 0
        for _, lines in self._files:
            for line in range(len(lines)):
                try:
                    fields = parse_object(lines.read(line))
                    record = texts_of(fields, config.caption_key, config.language, config.pair_languages)
                except DataError as error:
                    broken += 1
                    _log.debug("%s:%d: %s", lines.location, lines.number(line), error)
                    continue
                yield from record_texts(record)
        if broken:
            _log.warning("no texts from %d of %d records: they are broken", broken, len(self))

    def fingerprint(self) -> str:
        """Hash the contents of the files and the settings that change records; images are not read.

        The contents of many gigabytes are hashed with the search for lines, not read again by one process alone.
        """
        settings = self.config.model_dump_json(exclude={"files", "image_root", "image_hosts", "root"})
        if uses_digests(self._files.unversioned):
            return self._files.fingerprint(settings)
        return file_fingerprint(settings, self._files.locations, self._files.names)


def record_of(fields: Mapping[str, Any], config: JsonLines, folder: str) -> Record:
    """Convert the fields of a line to a record without an id.

    Args:
        fields: JSON object of the line.
        config: settings of the source.
        folder: folder of the file; paths of images are relative to it unless `config` names another.
    Raises: DataError, without file and line, for a missing or invalid field.
    """
    record = texts_of(fields, config.caption_key, config.language, config.pair_languages)
    if (key := _key(fields, config.image_key, ("image", "binary"))) is not None:
        form = config.image_as or ("base64" if key == "binary" else "path")
        record["image"] = _file_or_bytes(fields[key], key, form, config, folder)
    if (key := _key(fields, config.video_key, ("video", "video_frames"))) is not None:
        form = config.video_as or ("base64" if key == "video_frames" else "path")
        record["video"] = _video(fields[key], key, form, config, folder)
        if "is_continuous" in fields:
            record["is_continuous"] = fields["is_continuous"]
    if "images" in fields:
        pair = check_pair(fields["images"], "images")
        form = config.image_as or "path"
        record["images"] = [_file_or_bytes(one, "images", form, config, folder) for one in pair]
    if not record:
        raise DataError(
            f"no image, no video and no text; its fields are {', '.join(fields) or 'none'}",
            reason=Reason.FIELD_MISSING,
        )
    return record


def texts_of(
    fields: Mapping[str, Any],
    caption_key: str | None,
    language: str | None,
    pair_languages: tuple[str, str] = ("source", "target"),
) -> Record:
    """Convert the fields of a line to a record of all fields but images and videos.

    Args:
        fields: JSON object of the line.
        caption_key: field of the caption; None for the first of `CAPTION_KEYS`.
        language: code of texts without one; None leaves them without.
        pair_languages: codes of the official fields source_text and target_text.
    Raises: DataError, without file and line, for a missing or invalid field.
    """
    record: Record = {}
    if (key := _key(fields, caption_key, CAPTION_KEYS)) is not None:
        record["caption"] = check_text(fields[key], key, language, allow_empty=True)
    if (key := _key(fields, None, ("regions", "elems"))) is not None:
        record["regions"] = _regions(fields[key], key, "bbox" if key == "regions" else "bb", language)
    if "texts" in fields:
        texts = fields["texts"]
        if not isinstance(texts, dict) or not texts:
            raise DataError(
                f"texts: expected {{code: sentence}}, found {short_repr(texts)}", reason=Reason.FIELD_TYPE
            )
        record["texts"] = {
            code: check_sentence(text, f"texts.{code}", allow_empty=True) for code, text in texts.items()
        }
    elif any(key in fields for key in PAIR_KEYS):
        record["texts"] = {
            code: check_sentence(required(fields, key), key, allow_empty=True)
            for code, key in zip(pair_languages, PAIR_KEYS, strict=True)
        }
    _add_task_fields(record, fields, language)
    return record


def _add_task_fields(record: Record, fields: Mapping[str, Any], language: str | None) -> None:
    fields = {key: value for key, value in fields.items() if value is not None}
    if "question" in fields:
        record["question"] = check_text(fields["question"], "question", language)
    if "premise" in fields:
        record["premise"] = check_text(fields["premise"], "premise", language)
    if (answers := check_answers(fields.get("answers", []), "answers")) is not None:
        record["answers"] = answers
    if "options" in fields:
        record["options"] = check_options(fields["options"], "options", language)
    if "label" in fields:
        record["label"] = check_label(fields["label"], "label")
    if "detections" in fields:
        record["detections"] = check_detections(fields["detections"], "detections", None)


def _key(fields: Mapping[str, Any], setting: str | None, defaults: Sequence[str]) -> str | None:
    """Return the field named by the setting, else the first default that exists."""
    if setting is not None:
        required(fields, setting)
        return setting
    return next((key for key in defaults if key in fields), None)


def _video(value: Any, key: str, form: str, config: JsonLines, folder: str) -> Any:
    """Convert a file, a list of frames, or a list of clips, which are lists of frames."""
    if not isinstance(value, list):
        return _file_or_bytes(value, key, form, config, folder)
    return [
        [_file_or_bytes(frame, key, form, config, folder) for frame in item]
        if isinstance(item, list)
        else _file_or_bytes(item, key, form, config, folder)
        for item in value
    ]


def _file_or_bytes(value: Any, key: str, form: str, config: JsonLines, folder: str) -> bytes | Path | str:
    if form == "base64":
        return decode_base64(value, key)
    if not isinstance(value, str) or not value:
        raise DataError(f"{key}: expected a path, found {short_repr(value)}", reason=Reason.FIELD_TYPE)
    start, root = config.paths_start() or folder, root_in_split(config.root, config.split)
    location = locate(value, start, config.image_hosts, root, folder)
    return location if is_url(location) else Path(location)


def _regions(entries: Any, key: str, box_key: str, language: str | None) -> list[Region]:
    if not isinstance(entries, list):
        raise DataError(f"{key}: expected a list, found {short_repr(entries)}", reason=Reason.FIELD_TYPE)
    regions: list[Region] = []
    for number, entry in enumerate(entries):
        place = f"{key}[{number}]"
        if not isinstance(entry, dict) or box_key not in entry or "caption" not in entry:
            raise DataError(
                f"{place}: expected {box_key} and caption, found {short_repr(entry)}",
                reason=Reason.FIELD_MISSING if isinstance(entry, dict) else Reason.FIELD_TYPE,
            )
        box = box_numbers(entry[box_key], f"{place}.{box_key}")
        caption = check_text(entry["caption"], f"{place}.caption", language, allow_empty=True)
        if key == "elems" and entry.get("attributes"):
            attributes = check_text(entry["attributes"], f"{place}.attributes", language, allow_empty=True)
            caption = _with_attributes(attributes, caption, place)
        regions.append({"bbox": box, "caption": caption})
    return regions


def _with_attributes(attributes: Text, caption: Text, place: str) -> Text:
    """Put every attribute before every caption, in the languages that both have."""
    pairs = product(as_list(attributes), as_list(caption))
    texts = [text for attribute, name in pairs if (text := _concatenated(attribute, name))]
    if not texts:
        raise DataError(
            f"{place}: attributes and caption have no language in common", reason=Reason.LANGUAGE_MISSING
        )
    return cast(Text, texts if isinstance(attributes, list) or isinstance(caption, list) else texts[0])


def _concatenated(first: str | dict[str, str], second: str | dict[str, str]) -> str | dict[str, str]:
    if isinstance(second, str):
        if isinstance(first, str):
            return f"{first} {second}"
        second = dict.fromkeys(first, second)
    elif isinstance(first, str):
        first = dict.fromkeys(second, first)
    return {code: f"{first[code]} {text}" for code, text in second.items() if code in first}

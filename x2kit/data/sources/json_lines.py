"""From the fields of a JSON object to a record, by x2kit's own names and the official ones. Imports no torch.

| record    | own field               | official field                                                  |
|-----------|-------------------------|-----------------------------------------------------------------|
| image     | image (path)            | binary (base64)                                                 |
| video     | video (path, or paths   | video_frames (base64, or clips of base64)                       |
|           | of frames)              |                                                                 |
| caption   | caption                 | caption, desc, text                                             |
| regions   | regions: bbox, caption  | elems: bb, caption, attributes (put before the caption)         |
| texts     | texts: {code: sentence} | source_text, target_text                                        |
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeGuard, cast

from x2kit.data.index.chain import Chain
from x2kit.data.index.lines import LineIndex
from x2kit.data.sources.config import JsonLines
from x2kit.data.sources.fields import as_object, decode_base64, parse_json
from x2kit.data.sources.splits import root_in_split
from x2kit.data.storage import files
from x2kit.data.storage.files import is_url
from x2kit.data.storage.index_cache import remembered_fingerprint
from x2kit.data.storage.url_policy import locate
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Place, Record, Region, Text

CAPTION_KEYS = ("caption", "desc", "text")
PAIR_KEYS = ("source_text", "target_text")
_LARGEST = 2**53
"""Whole numbers of JSON may be too large for a float; nobody's image has so many pixels."""


def record_of(fields: Mapping[str, Any], config: JsonLines, folder: str) -> Record:
    """The record without its id.

    Args:
        fields: what the line holds.
        folder: of the file that holds it; paths of images start there if `config` names no other.
    Raises: DataError that says which field is missing or of the wrong form, without file and line.
    """
    record = texts_of(fields, config)
    key = _image_key(fields, config)
    if key is not None:
        record["image"] = _image(key, fields[key], config, folder)
    key = _video_key(fields, config)
    if key is not None:
        record["video"] = _video(key, fields[key], config, folder)
        if "is_continuous" in fields:
            record["is_continuous"] = fields["is_continuous"]
    if not record:
        raise DataError(
            f"no image, no video and no text; its fields are {', '.join(fields) or 'none'}",
            reason=Reason.FIELD_MISSING,
        )
    return record


def texts_of(fields: Mapping[str, Any], config: JsonLines) -> Record:
    """The record without its id and image. Raises DataError as `record_of` does."""
    record: Record = {}
    key = _caption_key(fields, config)
    if key is not None:
        record["caption"] = _text(fields[key], key, config)
    if "regions" in fields:
        record["regions"] = _regions(fields["regions"], "regions", "bbox", config)
    elif "elems" in fields:
        record["regions"] = _regions(fields["elems"], "elems", "bb", config)
    if "texts" in fields:
        texts = fields["texts"]
        if not _is_by_language(texts):
            raise DataError(
                f"texts: expected {{code: sentence}}, found {_show(texts)}", reason=Reason.FIELD_TYPE
            )
        record["texts"] = dict(texts)
    elif any(key in fields for key in PAIR_KEYS):
        record["texts"] = _pair(fields, config)
    return record


def every_text(record: Record) -> Iterator[str]:
    """All single texts of a record."""
    if "caption" in record:
        yield from _flat(record["caption"])
    for region in record.get("regions", []):
        yield from _flat(region["caption"])
    yield from record.get("texts", {}).values()


def _caption_key(fields: Mapping[str, Any], config: JsonLines) -> str | None:
    if config.caption_key is not None:
        return _required(fields, config.caption_key)
    return next((key for key in CAPTION_KEYS if key in fields), None)


def _image_key(fields: Mapping[str, Any], config: JsonLines) -> str | None:
    if config.image_key is not None:
        return _required(fields, config.image_key)
    return next((key for key in ("image", "binary") if key in fields), None)


def _video_key(fields: Mapping[str, Any], config: JsonLines) -> str | None:
    if config.video_key is not None:
        return _required(fields, config.video_key)
    return next((key for key in ("video", "video_frames") if key in fields), None)


def _video(key: str, value: Any, config: JsonLines, folder: str) -> Any:
    """A file, or a list of frames, or a list of clips, which are such lists."""
    form = config.video_as or ("base64" if key == "video_frames" else "path")

    def encoded(value: Any) -> bytes | Path | str:
        return _encoded(key, value, form, config, folder)

    if not isinstance(value, list):
        return encoded(value)
    return [[encoded(frame) for frame in one] if isinstance(one, list) else encoded(one) for one in value]


def _required(fields: Mapping[str, Any], key: str) -> str:
    if key not in fields:
        raise DataError(
            f"no field {key!r}; its fields are {', '.join(fields) or 'none'}", reason=Reason.FIELD_MISSING
        )
    return key


def _image(key: str, value: Any, config: JsonLines, folder: str) -> bytes | Path | str:
    form = config.image_as or ("base64" if key == "binary" else "path")
    return _encoded(key, value, form, config, folder)


def _encoded(key: str, value: Any, form: str, config: JsonLines, folder: str) -> bytes | Path | str:
    if not isinstance(value, str) or not value:
        raise DataError(f"{key}: expected text, found {_show(value)}", reason=Reason.FIELD_TYPE)
    if form == "path":
        start = config.paths_start() or folder
        root = root_in_split(config.root, config.split)
        location = locate(value, start, config.image_hosts, root, folder)
        return location if is_url(location) else Path(location)
    return decode_base64(value, key)


def _regions(entries: Any, key: str, box_key: str, config: JsonLines) -> list[Region]:
    if not isinstance(entries, list):
        raise DataError(f"{key}: expected a list, found {_show(entries)}", reason=Reason.FIELD_TYPE)
    regions: list[Region] = []
    for number, entry in enumerate(entries):
        place = f"{key}[{number}]"
        if not isinstance(entry, dict) or box_key not in entry or "caption" not in entry:
            raise DataError(
                f"{place}: expected {box_key} and caption, found {_show(entry)}",
                reason=Reason.FIELD_MISSING if isinstance(entry, dict) else Reason.FIELD_TYPE,
            )
        box = entry[box_key]
        if not _is_box(box):
            raise DataError(
                f"{place}.{box_key}: expected [x, y, width, height], found {_show(box)}",
                reason=Reason.BOX_TYPE,
            )
        caption = _text(entry["caption"], f"{place}.caption", config)
        if key == "elems" and entry.get("attributes"):
            caption = _joined(_text(entry["attributes"], f"{place}.attributes", config), caption, place)
        regions.append({"bbox": [float(value) for value in box], "caption": caption})
    return regions


def _pair(fields: Mapping[str, Any], config: JsonLines) -> dict[str, str]:
    texts: dict[str, str] = {}
    for code, key in zip(config.pair_languages, PAIR_KEYS, strict=True):
        sentence = fields[_required(fields, key)]
        if not isinstance(sentence, str):
            raise DataError(f"{key}: expected text, found {_show(sentence)}", reason=Reason.FIELD_TYPE)
        texts[code] = sentence
    return texts


def _text(value: Any, place: str, config: JsonLines) -> Text:
    """A text as records hold it; one without a code gets the code of the settings, if they have one."""
    code = config.language
    if isinstance(value, str):
        return value if code is None else {code: value}
    if _is_by_language(value):
        return value
    if (
        isinstance(value, list)
        and value
        and all(isinstance(one, str) or _is_by_language(one) for one in value)
    ):
        # the official data may mix both forms in one list; the type of records names the pure lists only
        return cast(Text, [_text(one, place, config) for one in value])
    raise DataError(
        f"{place}: expected text, {{code: text}} or a list of these, found {_show(value)}",
        reason=Reason.FIELD_TYPE,
    )


def _joined(attributes: Text, caption: Text, place: str) -> Text:
    """Every attribute before every caption, in one language where both have one."""
    pairs = [(one, two) for one in _listed(attributes) for two in _listed(caption)]
    joined = [text for one, two in pairs if (text := _before(one, two))]
    if not joined:
        raise DataError(
            f"{place}: attributes and caption have no language in common",
            reason=Reason.LANGUAGE_MISSING,
        )
    return cast(Text, joined if isinstance(attributes, list) or isinstance(caption, list) else joined[0])


def _before(one: str | dict[str, str], two: str | dict[str, str]) -> str | dict[str, str]:
    if isinstance(one, str):
        return (
            f"{one} {two}" if isinstance(two, str) else {code: f"{one} {text}" for code, text in two.items()}
        )
    if isinstance(two, str):
        return {code: f"{text} {two}" for code, text in one.items()}
    return {code: f"{one[code]} {text}" for code, text in two.items() if code in one}


def _listed(text: Text) -> list[str] | list[dict[str, str]]:
    return text if isinstance(text, list) else cast("list[str]", [text])


def _flat(text: Text) -> Iterator[str]:
    for one in _listed(text):
        yield from [one] if isinstance(one, str) else one.values()


def _is_by_language(value: Any) -> TypeGuard[dict[str, str]]:
    return isinstance(value, dict) and bool(value) and all(isinstance(text, str) for text in value.values())


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in value)
        and not any(abs(number) > _LARGEST for number in value)
    )


def _show(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


_log = logging.getLogger(__name__)


class JsonLinesSource:
    """The records of all files, one after the other; each is read from disk when it is asked for."""

    def __init__(self, config: JsonLines) -> None:
        self.config = config
        paths = config.paths()
        self._files = [LineIndex(path) for path in paths]
        self._chain = Chain(map(len, self._files))
        if not len(self):
            raise DataError(f"no record in {', '.join(paths)}")
        self._names = files.shared_names(paths)

    def __len__(self) -> int:
        return len(self._chain)

    def __getitem__(self, index: int) -> Record:
        """The record at `index`; one without a field `id` is called by file and line.

        Raises: DataError with file, line and reason for a line that is no record.
        """
        file, line = self._chain.locate(index)
        lines = self._files[file]
        number = int(lines.numbers[line])
        name = None
        try:
            fields = as_object(parse_json(lines.read(line)))
            name = str(fields["id"]) if "id" in fields else f"{self._names[file]}:{number}"
            record = record_of(fields, self.config, files.folder_of(lines.location))
        except DataError as error:
            raise DataError(
                f"{lines.location}:{number}: {error}", reason=error.reason, record=name
            ) from error
        record["id"] = name
        return record

    def place(self, index: int) -> Place:
        """File and line of a record."""
        file, line = self._chain.locate(index)
        lines = self._files[file]
        return Place(lines.location, line=int(lines.numbers[line]))

    def texts(self) -> Iterator[str]:
        """Every text of every record, in the order of the files; broken lines have none and are logged."""
        broken = 0
        for lines in self._files:
            for line in range(len(lines)):
                try:
                    record = texts_of(as_object(parse_json(lines.read(line))), self.config)
                except DataError as error:
                    broken += 1
                    _log.debug("%s:%d: %s", lines.location, lines.numbers[line], error)
                    continue
                yield from every_text(record)
        if broken:
            _log.warning("%d of %d records gave no texts: they are broken", broken, len(self))

    def fingerprint(self) -> str:
        """A hash of the settings that shape records and of all that the files hold; no image beside them is read.

        Of a remote file its size and its version stand for its content, where the store tells one.
        """
        shaping = self.config.model_dump_json(exclude={"files", "image_root", "image_hosts", "root"})
        return remembered_fingerprint(
            [lines.location for lines in self._files],
            lambda: self._hashed(shaping),
            f"lines {shaping} {self._names}",
        )

    def _hashed(self, shaping: str) -> str:
        digest = blake2b(shaping.encode(), digest_size=8)
        for name, lines in zip(self._names, self._files, strict=True):
            digest.update(f"\0{name}\0".encode())
            _add_content(digest, lines.location)
        return digest.hexdigest()


def _add_content(digest: blake2b, location: str) -> None:
    if files.is_url(location) and (file := files.state(location)).version is not None:
        digest.update(f"{file.size} {file.version}".encode())
        return
    for chunk in files.chunks(location, 2**20):
        digest.update(chunk)

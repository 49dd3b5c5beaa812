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

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard, cast

from x2kit.data.addresses import locate
from x2kit.data.encoded import decode_base64
from x2kit.data.files import is_url
from x2kit.data.json_lines import JsonLines
from x2kit.data.sources.listing import root_in_split
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Record, Region, Text

CAPTION_KEYS = ("caption", "desc", "text")
PAIR_KEYS = ("source_text", "target_text")
_LARGEST = 2**53
"""Whole numbers of JSON may be too large for a float; nobody's picture has so many pixels."""


def record_of(fields: Mapping[str, Any], config: JsonLines, folder: str) -> Record:
    """The record without its id.

    Args:
        fields: what the line holds.
        folder: of the file that holds it; paths of pictures start there if `config` names no other.
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
            f"no picture, no video and no text; its fields are {', '.join(fields) or 'none'}",
            reason=Reason.FIELD_MISSING,
        )
    return record


def texts_of(fields: Mapping[str, Any], config: JsonLines) -> Record:
    """The record without its id and picture. Raises DataError as `record_of` does."""
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

"""Parse JSON and base64, and check the texts, numbers and boxes of records. Imports no torch."""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, cast

from x2kit.data.storage.limits import check_size
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Answers, Detection, Label, Record, Text

LabelForm = Literal["text", "bool", "int"]
_SLACK = 1.0
"""Pixels by which a box may exceed its image: many files have rounded boxes."""
_DIGITS = 64
"""Digits of a number, leading zeros included; more than any id has."""
_MESSAGE_CHARS = 60


def parse_json(data: bytes) -> Any:
    """Parse UTF-8 JSON. Raises DataError if it is invalid."""
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 at byte {error.start}", reason=Reason.NOT_UTF8) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
        raise DataError(f"not JSON: {error}", reason=Reason.NOT_JSON) from error


@contextmanager
def errors_at(place: str, record: str | None = None) -> Iterator[None]:
    """Put a place, and the id of a record, in front of the DataErrors of a block."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{place}: {error}", reason=error.reason, record=record or error.record) from error


def as_object(value: Any) -> dict[str, Any]:
    """Return the value. Raises DataError if it is no JSON object."""
    if not isinstance(value, dict):
        raise DataError(f"expected a JSON object, found {type(value).__name__}", reason=Reason.NOT_JSON)
    return value


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises DataError if it is invalid or no object."""
    return as_object(parse_json(data))


def decode_base64(value: Any, key: str) -> bytes:
    """Decode base64. Raises DataError, with `key`, if it is no base64 text, empty or above the size limit."""
    if not isinstance(value, str) or not value:
        raise DataError(f"{key}: expected base64 text, found {short_repr(value)}", reason=Reason.FIELD_TYPE)
    check_size(len(value) // 4 * 3, key)
    try:
        return base64.b64decode(value, validate=True)
    except ValueError as error:
        raise DataError(f"{key}: not base64: {error}", reason=Reason.BASE64) from error


def required(fields: Mapping[str, Any], key: str) -> Any:
    """Return the value of a field. Raises DataError, with the existing fields, if it is missing."""
    if key not in fields:
        names = [
            name if isinstance(name, str) else short_repr(name) for name in fields
        ]  # pickles have any key
        raise DataError(
            f"no field {key!r}; its fields are {', '.join(names) or 'none'}", reason=Reason.FIELD_MISSING
        )
    return fields[key]


def str_field(fields: Mapping[str, Any], key: str) -> str:
    """Return a non-empty text or a number as text. Raises DataError for any other value."""
    value = required(fields, key)
    too_long = isinstance(value, int) and abs(value) >= 10**_DIGITS
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "" or too_long:
        raise DataError(
            f"{key}: expected a text or a number, found {short_repr(value)}", reason=Reason.FIELD_TYPE
        )
    return str(value)


def int_field(fields: Mapping[str, Any], key: str) -> int:
    """Return a whole number of 64 bits, also from a text of digits. Raises DataError for any other value."""
    value = required(fields, key)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _DIGITS:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        raise DataError(
            f"{key}: expected a whole number, found {short_repr(value)}", reason=Reason.FIELD_TYPE
        )
    return value


def size_of(fields: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return width and height in pixels; None without a field `width`. Raises DataError for no numbers."""
    if "width" not in fields:
        return None
    return int_field(fields, "width"), int_field(fields, "height")


def check_text(value: Any, key: str, code: str | None, *, allow_empty: bool = False) -> Text:
    """Convert a field to the text of a record.

    Args:
        value: a text, texts by language code, or a list of either.
        key: name of the field, for messages.
        code: language of texts without one; None leaves them without.
        allow_empty: accept empty texts.
    Raises: DataError for any other value, and for an empty text unless `allow_empty`.
    """
    if isinstance(value, list) and value:
        # files may mix both forms in a list; the type of records has pure lists only
        choices = [_check_choice(item, f"{key}[{n}]", code, allow_empty) for n, item in enumerate(value)]
        return cast(Text, choices)
    return _check_choice(value, key, code, allow_empty)


def check_sentence(value: Any, key: str, *, allow_empty: bool = False) -> str:
    """Return a text without a language. Raises DataError for any other value, and for an empty text."""
    if not isinstance(value, str):
        raise DataError(f"{key}: expected text, found {short_repr(value)}", reason=Reason.FIELD_TYPE)
    if not allow_empty and not value.strip():
        raise DataError(f"{key}: the text is empty", reason=Reason.TEXT_EMPTY)
    return value


def _check_choice(value: Any, key: str, code: str | None, allow_empty: bool) -> str | dict[str, str]:
    if isinstance(value, dict) and value:
        return {
            str(name): check_sentence(text, f"{key}.{name}", allow_empty=allow_empty)
            for name, text in value.items()
        }
    if not isinstance(value, str):
        raise DataError(
            f"{key}: expected text, {{code: text}} or a list of these, found {short_repr(value)}",
            reason=Reason.FIELD_TYPE,
        )
    sentence = check_sentence(value, key, allow_empty=allow_empty)
    return sentence if code is None else {code: sentence}


def check_answers(value: Any, key: str) -> Answers | None:
    """Convert a field to the answers of a record.

    Args:
        value: an answer, a list of answers with repetitions, or {answer: weight}; an answer may be a number.
        key: name of the field, for messages.
    Returns: a list or {answer: weight}; None if there is none, as in splits without answers.
    Raises: DataError for any other value, and for a weight that is negative or not finite.
    """
    if isinstance(value, dict):
        weights = {str(answer): _weight(weight, f"{key}.{answer}") for answer, weight in value.items()}
        return weights or None
    items = value if isinstance(value, list) else [value]
    return [item if item == "" else str_field({key: item}, key) for item in items] or None


def check_label(value: Any, key: str, form: LabelForm | None = None) -> Label:
    """Convert a field to the label of a record.

    Args:
        value: a text, a whole number or a boolean.
        key: name of the field, for messages.
        form: "bool" also accepts the texts True and False, "int" texts of digits; None keeps the value.
    Raises: DataError for any other value.
    """
    if form == "int":
        return int_field({key: value}, key)
    if form == "bool" and isinstance(value, str):
        value = {"true": True, "false": False}.get(value.strip().lower(), value)
    expected = {"bool": bool, "text": str, None: bool | str | int}[form]
    too_long = isinstance(value, int) and abs(value) >= 2**63
    if not isinstance(value, expected) or value == "" or too_long:
        wanted = {"bool": "true or false", "text": "text", None: "text, a whole number, true or false"}[form]
        raise DataError(f"{key}: expected {wanted}, found {short_repr(value)}", reason=Reason.FIELD_TYPE)
    return cast(Label, value)


def check_options(value: Any, key: str, code: str | None) -> list[Text]:
    """Convert a list of two or more texts to the options of a question. Raises DataError for any other value."""
    if not isinstance(value, list) or len(value) < 2:
        raise DataError(
            f"{key}: expected a list of two or more options, found {short_repr(value)}",
            reason=Reason.FIELD_TYPE,
        )
    return [check_text(item, f"{key}[{number}]", code) for number, item in enumerate(value)]


def check_pair(value: Any, key: str) -> list[Any]:
    """Return a list of two images. Raises DataError for any other value."""
    if not isinstance(value, list) or len(value) != 2:
        raise DataError(
            f"{key}: expected a list of two images, found {short_repr(value)}", reason=Reason.FIELD_TYPE
        )
    return value


def check_detections(value: Any, key: str, size: tuple[int, int] | None) -> list[Detection]:
    """Convert boxes of a detector, each clipped to the image.

    Args:
        value: a list of {"bbox": [x, y, width, height]}, or of lists that begin with these numbers.
        key: name of the field, for messages.
        size: width and height of the image in pixels, if known.
    Returns: the boxes that have an area inside the image.
    Raises: DataError for any other value.
    """
    if not isinstance(value, list):
        raise DataError(f"{key}: expected a list, found {short_repr(value)}", reason=Reason.FIELD_TYPE)
    found: list[Detection] = []
    for number, item in enumerate(value):
        place = f"{key}[{number}]"
        box = (
            required(item, "bbox") if isinstance(item, dict) else item[:4] if isinstance(item, list) else item
        )
        if (clipped := check_box(box, place, size, clip=True)) is not None:
            found.append({"bbox": clipped})
    return found


def _weight(value: Any, key: str) -> float:
    if not _is_number(value) or not 0 <= value <= sys.float_info.max:
        raise DataError(
            f"{key}: expected a weight of 0 or more, found {short_repr(value)}", reason=Reason.FIELD_TYPE
        )
    return float(value)


def is_empty(value: Any) -> bool:
    """Return whether a caption is missing, empty, or a list of empty texts."""
    if isinstance(value, list):
        return all(is_empty(item) for item in value)
    return value is None or (isinstance(value, str) and not value.strip())


def as_list(text: Text) -> list[Any]:
    """Return the choices of a text as a list."""
    return text if isinstance(text, list) else [text]


def iter_texts(text: Text) -> Iterator[str]:
    """Yield every single text of a text with choices and languages."""
    for choice in as_list(text):
        yield from choice.values() if isinstance(choice, dict) else [choice]


def record_texts(record: Record) -> Iterator[str]:
    """Yield every single text of a record: caption, regions, question, options, parallel texts, answers."""
    captions = (region["caption"] for region in record.get("regions", []))
    asked = (record.get("question", []), *record.get("options", []))
    for text in (record.get("caption", []), *captions, *asked):
        yield from iter_texts(text)
    yield from record.get("texts", {}).values()
    yield from record.get("answers", ())


def box_numbers(value: Any, key: str) -> list[float]:
    """Return [x, y, width, height] as floats. Raises DataError if the value is not four numbers."""
    if not isinstance(value, list) or len(value) != 4 or not all(_is_number(number) for number in value):
        raise DataError(
            f"{key}: expected [x, y, width, height], found {short_repr(value)}", reason=Reason.BOX_TYPE
        )
    try:
        return [float(number) for number in value]
    except OverflowError as error:  # JSON does not limit whole numbers
        raise DataError(
            f"{key}: {short_repr(value)} is beyond the range of floats", reason=Reason.BOX_TYPE
        ) from error


def check_box(value: Any, key: str, size: tuple[int, int] | None, clip: bool = False) -> list[float] | None:
    """Check a box [x, y, width, height] in pixels against its image.

    Args:
        value: value of the field.
        key: name of the field, for messages.
        size: width and height of the image, if known; a box that exceeds it by up to a pixel is clipped.
        clip: clip every box to the image.
    Returns: the box; None if clipping leaves no area.
    Raises: DataError if it is not four finite numbers, and without `clip` if it has no area or lies outside.
    """
    x, y, w, h = box = box_numbers(value, key)
    if not all(map(math.isfinite, box)) or ((w <= 0 or h <= 0) and not clip):
        raise DataError(f"{key}: the box {short_repr(value)} has no area", reason=Reason.BOX_EMPTY)
    if size is None:
        return box if w > 0 and h > 0 else None
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, size[0]), min(y + h, size[1])
    excess = max(left - x, top - y, x + w - right, y + h - bottom)
    if not clip and (excess > _SLACK or right <= left or bottom <= top):
        raise DataError(
            f"{key}: the box {short_repr(value)} lies outside its image, {size[0]} x {size[1]} pixels",
            reason=Reason.BOX_OUTSIDE,
        )
    if excess <= 0:
        return box
    return [left, top, right - left, bottom - top] if right > left and bottom > top else None


def short_repr(value: Any) -> str:
    """Return the start of `repr(value)`; the rest of a deep or large value is not visited."""
    text = ""
    for part in _repr_parts(value):
        text += part
        if len(text) > _MESSAGE_CHARS:
            return f"{text[: _MESSAGE_CHARS - 3]}..."
    return text


def _repr_parts(value: Any) -> Iterator[str]:
    """Yield `repr(value)` in parts: values of damaged files can be too deep, or repeat too often, for `repr`."""
    if isinstance(value, list):
        yield "["
        for number, item in enumerate(value):
            yield ", " if number else ""
            yield from _repr_parts(item)
        yield "]"
    elif isinstance(value, dict):
        yield "{"
        for number, (key, item) in enumerate(value.items()):
            yield ", " if number else ""
            yield from _repr_parts(key)
            yield ": "
            yield from _repr_parts(item)
        yield "}"
    elif isinstance(value, str | bytes):
        yield repr(value[: _MESSAGE_CHARS + 1])
    elif isinstance(value, int) and abs(value) >= 10**_DIGITS:
        yield f"a number of {value.bit_length()} bits"
    else:
        yield repr(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

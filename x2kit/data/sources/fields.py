"""Values that files hold as text: JSON and base64, checked. Imports no torch."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

from x2kit.data.storage.limits import require_few_bytes
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Text


def parse_json(data: bytes) -> Any:
    """What JSON says. Raises DataError if it is none, or not UTF-8."""
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 at byte {error.start}", reason=Reason.NOT_UTF8) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
        raise DataError(f"not JSON: {error}", reason=Reason.NOT_JSON) from error


def as_object(value: Any) -> dict[str, Any]:
    """The value itself. Raises DataError if it is no JSON object."""
    if not isinstance(value, dict):
        raise DataError(f"expected a JSON object, found {type(value).__name__}", reason=Reason.NOT_JSON)
    return value


def decode_base64(text: Any, name: str) -> bytes:
    """The bytes that a text stands for. Raises DataError, with `name`, for what is no base64 text."""
    if not isinstance(text, str):
        raise DataError(
            f"{name}: expected text in base64, found {type(text).__name__}", reason=Reason.FIELD_TYPE
        )
    require_few_bytes(len(text) // 4 * 3, name)
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise DataError(f"{name}: not base64: {error}", reason=Reason.BASE64) from error


_SLACK = 1.0
"""Pixels that a box may reach over the edge: many files were rounded on the way."""

_DIGITS = 64
"""Of a number that is written as a text: more than any can have, zeros in front included."""
_SHOWN = 60


def required(fields: Mapping[str, Any], key: str) -> Any:
    """A field. Raises DataError that lists the fields there are."""
    if key not in fields:
        names = [name if isinstance(name, str) else shown(name) for name in fields]  # of a pickle, any value
        raise DataError(
            f"no field {key!r}; its fields are {', '.join(names) or 'none'}", reason=Reason.FIELD_MISSING
        )
    return fields[key]


def name_of(fields: Mapping[str, Any], key: str) -> str:
    """A field that is a text with something in it, or a number. Raises DataError for anything else."""
    value = required(fields, key)
    endless = isinstance(value, int) and abs(value) >= 10**_DIGITS
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "" or endless:
        raise DataError(f"{key}: expected a text or a number, found {shown(value)}", reason=Reason.FIELD_TYPE)
    return str(value)


def number_of(fields: Mapping[str, Any], key: str) -> int:
    """A field that is a whole number, written as one or as a text of digits. Raises DataError for anything else."""
    value = required(fields, key)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _DIGITS:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        raise DataError(f"{key}: expected a whole number, found {shown(value)}", reason=Reason.FIELD_TYPE)
    return value


def text_of(value: Any, key: str, code: str | None) -> Text:
    """A text as records hold it.

    Args:
        value: a text, texts by language, or a list of either.
        key: of the field, for messages.
        code: language of texts that say none; None leaves them without one.
    Raises: DataError for another form, and for a text without anything in it.
    """
    if isinstance(value, list) and value:
        return cast(Text, [_one(item, f"{key}[{place}]", code) for place, item in enumerate(value)])
    return _one(value, key, code)


def sentences_of(values: list[Any], key: str) -> list[str]:
    """Texts that say no language. Raises DataError for anything else among them, and for an empty text."""
    return [_sentence(value, f"{key}[{place}]") for place, value in enumerate(values)]


def is_empty(value: Any) -> bool:
    """Whether a caption is missing or says nothing: no text, an empty one, or a list of such."""
    if isinstance(value, list):
        return all(is_empty(item) for item in value)
    return value is None or (isinstance(value, str) and not value.strip())


def listed(text: Text) -> list[Any]:
    """The choices of a text, one or many."""
    return text if isinstance(text, list) else [text]


def every_text(text: Text) -> Iterator[str]:
    """All single texts."""
    for choice in listed(text):
        yield from choice.values() if isinstance(choice, dict) else [choice]


def box_of(value: Any, key: str, size: tuple[int, int] | None, clip: bool = False) -> list[float] | None:
    """A box [x, y, width, height] in pixels.

    Args:
        value: as the file has it.
        key: of the field, for messages.
        size: width and height of the image where they are known; what reaches over it by a pixel is cut off.
        clip: cut off whatever reaches over the image.
    Returns: None where `clip` leaves nothing.
    Raises: DataError if it is not four finite numbers; and without `clip` if it has no area or lies outside.
    """
    if not isinstance(value, list) or len(value) != 4 or not all(_is_number(one) for one in value):
        raise DataError(
            f"{key}: expected [x, y, width, height], found {shown(value)}", reason=Reason.BOX_TYPE
        )
    try:
        x, y, w, h = box = [float(number) for number in value]
    except OverflowError as error:  # JSON sets no limit to whole numbers
        raise DataError(f"{key}: {shown(value)} is beyond all numbers", reason=Reason.BOX_TYPE) from error
    if not all(map(math.isfinite, box)) or ((w <= 0 or h <= 0) and not clip):
        raise DataError(f"{key}: the box {shown(value)} has no area", reason=Reason.BOX_EMPTY)
    if size is None:
        return box if w > 0 and h > 0 else None
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, size[0]), min(y + h, size[1])
    cut_off = max(left - x, top - y, x + w - right, y + h - bottom)
    if not clip and (cut_off > _SLACK or right <= left or bottom <= top):
        raise DataError(
            f"{key}: the box {shown(value)} lies outside its image, {size[0]} x {size[1]} pixels",
            reason=Reason.BOX_OUTSIDE,
        )
    if cut_off <= 0:
        return box
    return [left, top, right - left, bottom - top] if right > left and bottom > top else None


def shown(value: Any) -> str:
    """A value for a message, cut where it is long; what is cut off is not looked at."""
    text = ""
    for piece in _pieces(value):
        text += piece
        if len(text) > _SHOWN:
            return f"{text[: _SHOWN - 3]}..."
    return text


def _pieces(value: Any) -> Iterator[str]:
    """What `repr` gives, piece by piece: a damaged file can nest values deeper, or repeat them more often, than `repr`
    could write in a life."""
    if isinstance(value, list):
        yield "["
        for number, item in enumerate(value):
            yield ", " if number else ""
            yield from _pieces(item)
        yield "]"
    elif isinstance(value, dict):
        yield "{"
        for number, (key, item) in enumerate(value.items()):
            yield ", " if number else ""
            yield from _pieces(key)
            yield ": "
            yield from _pieces(item)
        yield "}"
    elif isinstance(value, str | bytes):
        yield repr(value[: _SHOWN + 1])
    elif isinstance(value, int) and abs(value) >= 10**_DIGITS:
        yield f"a number of {value.bit_length()} bits"
    else:
        yield repr(value)


def _one(value: Any, key: str, code: str | None) -> str | dict[str, str]:
    if isinstance(value, dict) and value:
        return {str(name): _sentence(text, f"{key}.{name}") for name, text in value.items()}
    sentence = _sentence(value, key)
    return sentence if code is None else {code: sentence}


def _sentence(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise DataError(
            f"{key}: expected text, {{code: text}} or a list of these, found {shown(value)}",
            reason=Reason.FIELD_TYPE,
        )
    if not value.strip():
        raise DataError(f"{key}: the text is empty", reason=Reason.TEXT_EMPTY)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

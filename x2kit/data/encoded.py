"""Values that files hold as text: JSON and base64, checked. Imports no torch."""

from __future__ import annotations

import base64
import json
from typing import Any

from x2kit.data.limits import require_few_bytes
from x2kit.errors import DataError, Reason


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

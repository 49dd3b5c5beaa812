from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from x2kit.data.sources.fields import as_object, decode_base64, parse_json
from x2kit.errors import DataError, Reason


def test_json_and_base64_are_read() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": [1, "\xc3\xa4"]}') == {"a": [1, "ä"]}
    assert decode_base64("YQ==", "binary") == b"a"


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (lambda: parse_json(b"{"), Reason.NOT_JSON),
        (lambda: parse_json(b"9" * 5000), Reason.NOT_JSON),
        (lambda: parse_json(b"[" * 100_000), Reason.NOT_JSON),
        (lambda: parse_json(b'"\xff"'), Reason.NOT_UTF8),
        (lambda: as_object([]), Reason.NOT_JSON),
        (lambda: decode_base64("YQ", "binary"), Reason.BASE64),
        (lambda: decode_base64("YQ==ä", "binary"), Reason.BASE64),
        (lambda: decode_base64(7, "binary"), Reason.FIELD_TYPE),
    ],
)
def test_what_is_none_is_refused_with_its_reason(read: Callable[[], Any], reason: Reason) -> None:
    with pytest.raises(DataError) as refused:
        read()
    assert refused.value.reason == reason

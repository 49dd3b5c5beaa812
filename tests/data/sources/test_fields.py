"""JSON, texts, numbers and boxes of records are checked, and shown in messages at any size or depth."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from x2kit.data.sources.fields import (
    as_object,
    check_answers,
    check_box,
    check_detections,
    check_label,
    check_text,
    decode_base64,
    int_field,
    parse_json,
    required,
    short_repr,
    str_field,
)
from x2kit.errors import DataError, Reason

ENDLESS = 10**5000
"""`str` raises for a number of so many digits."""


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
def test_invalid_json_and_base64_are_refused_with_a_reason(read: Callable[[], Any], reason: Reason) -> None:
    with pytest.raises(DataError) as refused:
        read()
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    "value",
    [None, True, -1.5, 10**30, "a 'dog'", b"a", [], {}, [1, [2, "x"]], {"a": [1, {"b": None}], 3: ""}],
)
def test_the_short_repr_of_a_short_value_is_its_repr(value: Any) -> None:
    assert short_repr(value) == repr(value)


def test_the_short_repr_of_a_long_value_is_truncated() -> None:
    assert short_repr("x" * 1000) == "'" + "x" * 56 + "..."
    numbers = list(range(1000))
    assert short_repr(numbers) == repr(numbers)[:57] + "..."


def test_the_short_repr_works_where_repr_fails() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    assert short_repr(nested) == "[" * 57 + "..."
    repeated: list[Any] = ["a"]
    for _ in range(100):
        repeated = [repeated, repeated]
    assert short_repr(repeated) == "[" * 57 + "..."
    assert short_repr([ENDLESS, {ENDLESS: 1}]).startswith("[a number of 16610 bits, {a number of ")


@pytest.mark.parametrize("value", ["9" * 5000, 2**63, pytest.param(ENDLESS, id="endless"), "-1", "", True])
def test_integers_beyond_64_bits_and_other_values_are_refused(value: Any) -> None:
    with pytest.raises(DataError, match="id: expected a whole number, found "):
        int_field({"id": value}, "id")
    assert int_field({"id": "0000042"}, "id") == 42


def test_a_number_too_long_to_print_is_refused_as_text() -> None:
    with pytest.raises(DataError, match="id: expected a text or a number, found a number of 16610 bits"):
        str_field({"id": ENDLESS}, "id")


def test_a_box_beyond_the_range_of_floats_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"bbox: \[0, 0, a number of .* is beyond the range of floats"
    ) as found:
        check_box([0, 0, 10**400, 5], "bbox", None)
    assert found.value.reason is Reason.BOX_TYPE


def test_keys_that_are_no_text_are_listed() -> None:
    fields: Any = {1: "a", "b": 2}
    with pytest.raises(DataError, match="no field 'id'; its fields are 1, b"):
        required(fields, "id")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a dog", {"de": "a dog"}),
        ({"en": "a dog"}, {"en": "a dog"}),
        (["ein Hund", {"en": "a dog"}], [{"de": "ein Hund"}, {"en": "a dog"}]),
    ],
)
def test_texts_without_a_language_get_that_of_the_settings(value: Any, text: Any) -> None:
    assert check_text(value, "caption", "de") == text


@pytest.mark.parametrize(
    ("value", "place"),
    [(3, "caption"), ([], "caption"), (["a", 3], r"caption\[1\]"), ({"en": 3}, "caption.en")],
)
def test_an_invalid_text_is_reported_with_its_place(value: Any, place: str) -> None:
    with pytest.raises(DataError, match=f"^{place}: expected text") as found:
        check_text(value, "caption", None)
    assert found.value.reason is Reason.FIELD_TYPE


@pytest.mark.parametrize(
    ("value", "answers"),
    [
        ("dog", ["dog"]),
        (2, ["2"]),
        (["dog", "", "dog"], ["dog", "", "dog"]),
        ({"dog": 1, "2": 0.3}, {"dog": 1.0, "2": 0.3}),
        ([], None),
        ({}, None),
    ],
)
def test_answers_are_a_list_or_weights(value: Any, answers: Any) -> None:
    assert check_answers(value, "answer") == answers


@pytest.mark.parametrize(
    "value", [None, True, [["dog"]], {"dog": math.inf}, {"dog": 10**400}, {"dog": math.nan}, {"dog": True}]
)
def test_other_answers_are_refused(value: Any) -> None:
    with pytest.raises(DataError, match=r"^answer") as found:
        check_answers(value, "answer")
    assert found.value.reason is Reason.FIELD_TYPE


@pytest.mark.parametrize(
    ("value", "form", "label"),
    [
        ("True", "bool", True),
        (False, "bool", False),
        ("4", "int", 4),
        ("entailment", "text", "entailment"),
        (3, None, 3),
        (True, None, True),
    ],
)
def test_labels_are_texts_numbers_or_booleans(value: Any, form: Any, label: Any) -> None:
    found = check_label(value, "label", form)
    assert found == label
    assert type(found) is type(label)


@pytest.mark.parametrize(
    ("value", "form"), [("yes", "bool"), (1, "bool"), (1, "text"), ("", None), (1.5, None), ("a", "int")]
)
def test_labels_of_another_form_are_refused(value: Any, form: Any) -> None:
    with pytest.raises(DataError, match=r"^label: expected "):
        check_label(value, "label", form)


def test_detections_are_clipped_to_the_image() -> None:
    found = check_detections([[10.0, 20.0, 100.0, 80.0, 0.93], {"bbox": [70, 0, 5, 5]}], "dets", (64, 48))
    assert found == [{"bbox": [10.0, 20.0, 54.0, 28.0]}]


def test_empty_texts_are_refused_unless_allowed() -> None:
    with pytest.raises(DataError, match="caption: the text is empty"):
        check_text(" ", "caption", None)
    assert check_text(" ", "caption", None, allow_empty=True) == " "

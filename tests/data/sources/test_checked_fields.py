"""What annotation files hold is checked, and shown in messages, however large or deep it is."""

from __future__ import annotations

from typing import Any

import pytest

from x2kit.data.sources.fields import check_box, int_field, required, short_repr, str_field
from x2kit.errors import DataError, Reason

ENDLESS = 10**5000
"""`str` refuses to write it."""


@pytest.mark.parametrize(
    "value",
    [None, True, -1.5, 10**30, "a 'dog'", b"a", [], {}, [1, [2, "x"]], {"a": [1, {"b": None}], 3: ""}],
)
def test_a_short_value_is_shown_as_python_writes_it(value: Any) -> None:
    assert short_repr(value) == repr(value)


def test_a_long_value_is_cut() -> None:
    assert short_repr("x" * 1000) == "'" + "x" * 56 + "..."
    numbers = list(range(1000))
    assert short_repr(numbers) == repr(numbers)[:57] + "..."


def test_a_value_is_shown_that_cannot_be_written_whole() -> None:
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
def test_what_is_no_number_of_64_bits_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match="id: expected a whole number, found "):
        int_field({"id": value}, "id")
    assert int_field({"id": "0000042"}, "id") == 42


def test_a_number_that_cannot_be_written_is_no_name() -> None:
    with pytest.raises(DataError, match="id: expected a text or a number, found a number of 16610 bits"):
        str_field({"id": ENDLESS}, "id")


def test_a_box_beyond_all_numbers_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"bbox: \[0, 0, a number of .* is beyond the range of floats"
    ) as found:
        check_box([0, 0, 10**400, 5], "bbox", None)
    assert found.value.reason is Reason.BOX_TYPE


def test_fields_without_names_are_listed_too() -> None:
    fields: Any = {1: "a", "b": 2}
    with pytest.raises(DataError, match="no field 'id'; its fields are 1, b"):
        required(fields, "id")

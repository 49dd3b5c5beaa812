"""The spans of a JSON document are those of a JSON parser, at any split of its bytes."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from x2kit.data.index.json_spans import find_marks, spans_at
from x2kit.errors import DataError

texts = st.text(st.sampled_from('ab"\\[]{},: é狗\n'), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
cuts = st.lists(st.integers(0, 400), max_size=6)


def split(data: bytes, at: list[int]) -> list[bytes]:
    """Split bytes into chunks, some of them empty."""
    places = [0, *sorted(min(place, len(data)) for place in at), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def read(data: bytes, spans: Any) -> list[Any]:
    return [json.loads(data[start:end]) for start, end in spans.tolist()]


@given(st.lists(values, min_size=1, max_size=6), cuts, st.booleans(), st.sampled_from([None, 2]))
@settings(max_examples=200, deadline=None)
def test_spans_of_a_list_parse_to_its_elements(
    elements: list[Any], at: list[int], ascii_only: bool, indent: int | None
) -> None:
    data = json.dumps(elements, ensure_ascii=ascii_only, indent=indent).encode()
    assert read(data, spans_at(find_marks(split(data, at), 1), 1)) == elements


@given(st.dictionaries(texts, st.lists(values, min_size=1, max_size=4), min_size=1, max_size=4), cuts)
@settings(max_examples=200, deadline=None)
def test_spans_of_lists_in_an_object_parse_to_their_elements(
    members: dict[str, list[Any]], at: list[int]
) -> None:
    data = json.dumps(members, ensure_ascii=False).encode()
    marks = find_marks(split(data, at), 2)
    spans = spans_at(marks, 1)
    read_back = {}
    for start, end in spans.tolist():
        read_back.update(json.loads(b"{" + data[start:end] + b"}"))
    assert read_back == members
    for (start, end), elements in zip(spans.tolist(), members.values(), strict=True):
        assert read(data, spans_at(marks, 2, start, end)) == elements


def test_an_empty_list_has_one_blank_span() -> None:
    assert spans_at(find_marks([b" [ ] "], 1), 1).tolist() == [[2, 3]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a JSON list or object"),
        (b"17", "not a JSON list or object"),
        (b"[1, 2", "truncated"),
        (b'["a', "truncated"),
        (b"[1]]", "unmatched closing bracket"),
        (b"[1] [2]", "extra data"),
    ],
)
def test_invalid_documents_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_marks([data], 1)

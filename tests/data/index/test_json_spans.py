"""The parts of a JSON document are found as a JSON reader finds them, however its bytes are cut."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from x2kit.data.index.json_spans import find_marks, parts
from x2kit.errors import DataError

texts = st.text(st.sampled_from('ab"\\[]{},: é狗\n'), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
cuts = st.lists(st.integers(0, 400), max_size=6)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """The same bytes in chunks, some of them empty."""
    places = [0, *sorted(min(place, len(data)) for place in at), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def read(data: bytes, spans: Any) -> list[Any]:
    return [json.loads(data[start:end]) for start, end in spans.tolist()]


@given(st.lists(values, min_size=1, max_size=6), cuts, st.booleans(), st.sampled_from([None, 2]))
@settings(max_examples=200, deadline=None)
def test_the_elements_of_a_list_are_those_of_a_json_reader(
    elements: list[Any], at: list[int], ascii_only: bool, indent: int | None
) -> None:
    data = json.dumps(elements, ensure_ascii=ascii_only, indent=indent).encode()
    assert read(data, parts(find_marks(cut(data, at), 1), 1)) == elements


@given(st.dictionaries(texts, st.lists(values, min_size=1, max_size=4), min_size=1, max_size=4), cuts)
@settings(max_examples=200, deadline=None)
def test_the_elements_of_lists_in_an_object_are_too(members: dict[str, list[Any]], at: list[int]) -> None:
    data = json.dumps(members, ensure_ascii=False).encode()
    marks = find_marks(cut(data, at), 2)
    spans = parts(marks, 1)
    read_back = {}
    for start, end in spans.tolist():
        read_back.update(json.loads(b"{" + data[start:end] + b"}"))
    assert read_back == members
    for (start, end), elements in zip(spans.tolist(), members.values(), strict=True):
        assert read(data, parts(marks, 2, start, end)) == elements


def test_an_empty_list_has_one_part_of_nothing() -> None:
    assert parts(find_marks([b" [ ] "], 1), 1).tolist() == [[2, 3]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a JSON list or object"),
        (b"17", "not a JSON list or object"),
        (b"[1, 2", "ends in the middle"),
        (b'["a', "ends in the middle"),
        (b"[1]]", "closes that none has opened"),
        (b"[1] [2]", "something follows its end"),
    ],
)
def test_what_is_no_document_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        find_marks([data], 1)

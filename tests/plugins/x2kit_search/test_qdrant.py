"""Collections of Qdrant, in the memory of this process: a server is not at hand."""

from __future__ import annotations

from typing import Any

import pytest
from x2kit_search import Qdrant

from x2kit.plugin import DataError, IndexSpec
from x2kit.testing.indexes.rows import SPEC


@pytest.mark.conformance(Qdrant(url=":memory:"))
def test_it_keeps_the_contract(conformance: Any) -> None:
    conformance()


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("path LIKE 'a%'", "Qdrant cannot filter by path LIKE 'a%'"),
        ("path NOT LIKE 'a%'", "Qdrant cannot filter by path"),
        ("path < 'a'", "Qdrant orders numbers only, and path is of type text"),
        ("year = quality", "year is of type integer, compared with quality"),
        ("year = '2004'", "year is of type integer, compared with '2004'"),
        ("lower(path) = 'a'", "Qdrant compares columns with values"),
        ("year IN (SELECT 1)", "Qdrant cannot filter by year IN"),
        ("colour = 'red'", "no column 'colour'; the columns are id, path, year"),
        ("year IS TRUE", "Qdrant cannot filter by year IS TRUE"),
    ],
)
def test_what_it_cannot_filter_by_is_said(where: str, said: str) -> None:
    from x2kit_search.qdrant_filter import translate

    with pytest.raises(DataError, match=said):
        translate(where, SPEC)


@pytest.mark.parametrize(
    ("where", "other"),
    [
        ("NOT (year < 2004)", "year >= 2004"),
        ("2004 <= year", "year >= 2004"),
        ("NOT (year = 1 AND public)", "year <> 1 OR NOT public"),
        ("NOT year IS NULL", "year IS NOT NULL"),
        ("year BETWEEN 1 AND 2", "year >= 1 AND year <= 2"),
    ],
)
def test_equal_conditions_have_equal_filters(where: str, other: str) -> None:
    from x2kit_search.qdrant_filter import translate

    assert translate(where, SPEC) == translate(other, SPEC)


def test_a_server_that_does_not_answer_is_named() -> None:
    component = Qdrant(url="http://127.0.0.1:9", collection="none")
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9: "):
        component.open("none")
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9: "):
        component.create("none", IndexSpec(4))

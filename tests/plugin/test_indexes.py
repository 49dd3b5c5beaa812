"""Checks of rows before they are written."""

from __future__ import annotations

import numpy as np
import pytest

from x2kit.errors import DataError, ShapeError
from x2kit.plugin import Hit, IndexSpec, Rows, rank_hits

SPEC = IndexSpec(2, "float32", {"path": "text", "year": "integer", "quality": "number", "public": "boolean"})
UNIT = np.array([[1, 0], [0.6, 0.8]], dtype=np.float32)


def test_a_description_survives_json() -> None:
    assert IndexSpec.from_dict(SPEC.to_dict()) == SPEC
    with pytest.raises(DataError, match="invalid description of an index: KeyError\\('dim'\\)"):
        IndexSpec.from_dict({"dtype": "float32"})


@pytest.mark.parametrize("name", ["id", "vector", "Path", "a b", "1st", 'x"; DROP', "", "x" * 64])
def test_a_column_needs_a_name_that_every_database_takes(name: str) -> None:
    with pytest.raises(DataError, match="lower-case letters"):
        IndexSpec(2, "float32", {name: "text"})


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (Rows(["a", "a"], UNIT), "the id 'a' occurs twice"),
        (Rows(["a", ""], UNIT), "invalid id ''"),
        (Rows(["a", "b\udcff"], UNIT), "is not valid Unicode"),
        (Rows(["a", "b\0"], UNIT), "null character"),
        (Rows(["a", "b"], UNIT * 2), "the vector of 'a' is not of unit length; 2 are not"),
        (Rows(["a", "b"], UNIT * np.nan), "not of unit length"),
        (Rows(["a", "b"], UNIT, {"colour": ["", ""]}), "no column 'colour'; the columns are path, year"),
        (Rows(["a", "b"], UNIT, {"year": [1]}), "column 'year' has 1 values for 2 rows"),
        (Rows(["a", "b"], UNIT, {"year": [1, True]}), "column 'year' is of type integer, found True"),
        (Rows(["a", "b"], UNIT, {"year": [1, 2**63]}), "does not fit 64 bits"),
        (Rows(["a", "b"], UNIT, {"quality": [0.5, float("nan")]}), "nan is not finite; use null"),
        (Rows(["a", "b"], UNIT, {"public": [None, 1]}), "column 'public' is of type boolean, found 1"),
    ],
)
def test_wrong_rows_are_named(rows: Rows, said: str) -> None:
    with pytest.raises(DataError, match=said):
        rows.check(SPEC)


def test_vectors_have_the_width_of_the_table() -> None:
    with pytest.raises(ShapeError, match=r"vectors of 2 rows are \[2, 1\], expected \[2, 2\]"):
        Rows(["a", "b"], UNIT[:, :1]).check(SPEC)
    with pytest.raises(ShapeError, match="are None"):
        Rows(["a", "b"]).check(SPEC)
    Rows(["a", "b"], None, {"quality": [1, None]}).check(SPEC, vectors=False)


def test_queries_are_finite_and_of_the_width() -> None:
    assert SPEC.check_queries(UNIT.astype(np.float64)).dtype == np.float32
    with pytest.raises(ShapeError, match=r"queries are \[2\], expected \[q, 2\]"):
        SPEC.check_queries(UNIT[0])
    with pytest.raises(DataError, match="NaN or Inf"):
        SPEC.check_queries(UNIT * np.inf)


def test_hits_that_differ_by_rounding_only_are_ordered_by_id() -> None:
    hits = [Hit("b", 0.5), Hit("c", 0.9), Hit("a", 0.5 - 1e-8), Hit("d", -1e-9)]
    assert [hit.id for hit in rank_hits(hits, 3)] == ["c", "a", "b"]
    assert str(rank_hits(hits, 4)[3].score) == "0.0"

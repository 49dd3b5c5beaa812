"""Distinct rows in tables of fixed size equal torch.unique."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from x2kit.training.step.distinct_rows import distinct, distinct_rows, marked

NEEDED = st.lists(st.integers(0, 8), max_size=12)


@given(NEEDED)
def test_rows_are_those_of_unique_and_places_find_them(needed: list[int]) -> None:
    rows = torch.tensor(needed, dtype=torch.int64)
    found = distinct(rows, 9)
    assert len(found.rows) == min(len(needed), 9)
    unique = rows.unique()
    assert torch.equal(found.rows[: len(unique)], unique)
    assert not found.rows[len(unique) :].any()
    assert torch.equal(found.rows[found.places[rows]], rows)


@given(NEEDED, st.integers(0, 4))
def test_rows_above_the_capacity_are_left_out(needed: list[int], capacity: int) -> None:
    rows = torch.tensor(needed, dtype=torch.int64)
    found = distinct_rows(marked(rows, 9)[None], capacity)
    assert found.rows.shape == (1, capacity)
    kept = rows.unique()[:capacity]
    assert torch.equal(found.rows[0, : len(kept)], kept)
    assert torch.equal(found.places[0, rows] < capacity, torch.isin(rows, kept))


def test_each_table_has_its_own_rows() -> None:
    wanted = torch.tensor([[True, False, True], [False, False, False], [False, True, True]])
    assert distinct_rows(wanted, 2).rows.tolist() == [[0, 2], [0, 0], [1, 2]]


def test_rows_can_be_ignored() -> None:
    rows = torch.tensor([2, 0, 1])
    assert marked(rows, 3, torch.tensor([True, False, True])).tolist() == [False, True, True]

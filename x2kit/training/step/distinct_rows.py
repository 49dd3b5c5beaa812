"""List distinct rows in tables of fixed size, without waiting for the device. Imports torch.

`torch.unique` returns as many rows as it finds, so the host waits for their number. Here the host gives a capacity, and
the table is filled up with row 0.

G tables, U rows to choose from, C capacity, n rows that are needed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class DistinctRows(NamedTuple):
    """Rows without repetition, in ascending order.

    Attributes:
        rows: [G, C] int64, the distinct rows of each table, then 0.
        places: [G, U] int64, the place of each wanted row among them; C or more if it did not fit, and without
            meaning for rows that are not wanted.
    """

    rows: Tensor
    places: Tensor


def marked(rows: Tensor, size: int, where: Tensor | None = None) -> Tensor:
    """Mark rows [n] int64 of `size`; those with False in `where` [n] are ignored. Returns: [size] bool."""
    if where is not None:
        rows = torch.where(where, rows, size)
    marks = torch.zeros(size + 1, dtype=torch.bool, device=rows.device)
    return marks.index_fill_(0, rows, True)[:size]


def distinct_rows(wanted: Tensor, capacity: int) -> DistinctRows:
    """List the wanted rows of each table.

    Args:
        wanted: [G, U] bool.
        capacity: C; further rows are left out.
    """
    places = wanted.cumsum(1) - 1
    table = torch.zeros(len(wanted), capacity + 1, dtype=torch.int64, device=wanted.device)
    numbers = torch.arange(wanted.shape[1], device=wanted.device).expand_as(places)
    # Rows that are not wanted or do not fit go to a last column that is cut off.
    table.scatter_(1, torch.where(wanted, places, capacity).clamp_max(capacity), numbers)
    return DistinctRows(table[:, :capacity], places)


def distinct(needed: Tensor, size: int) -> DistinctRows:
    """List the distinct ones among needed rows [n] int64 of `size`: rows [min(n, size)] and places [size]."""
    found = distinct_rows(marked(needed, size)[None], min(len(needed), size))
    return DistinctRows(found.rows[0], found.places[0])

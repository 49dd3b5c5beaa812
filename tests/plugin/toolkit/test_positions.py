"""Positions of patches: sinusoids, and learned absolute and relative ones at another grid.

tests/parity compares relative ones with recorded values.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from x2kit.plugin.toolkit.positions import (
    progression_ratio,
    resize_positions,
    resize_relative_positions,
    sinusoid_2d,
    source_coordinates,
    window_side,
)

SIDES = st.integers(1, 12)


def learned(side: int, width: int = 3) -> Tensor:
    return torch.randn(1 + side**2, width, generator=torch.Generator().manual_seed(side))


@given(SIDES)
def test_at_the_same_grid_nothing_changes(side: int) -> None:
    positions = learned(side)
    assert torch.equal(resize_positions(positions, (side, side)), positions)


@given(SIDES, SIDES, SIDES)
def test_the_class_is_copied_and_every_patch_has_a_position(side: int, rows: int, columns: int) -> None:
    positions = learned(side)
    resized = resize_positions(positions, (rows, columns))
    assert resized.shape == (1 + rows * columns, 3)
    assert torch.equal(resized[0], positions[0])


@given(SIDES, SIDES, SIDES)
def test_constant_positions_stay_constant(side: int, rows: int, columns: int) -> None:
    resized = resize_positions(torch.full((1 + side**2, 2), 0.3), (rows, columns))
    assert_close(resized, torch.full_like(resized, 0.3), rtol=0, atol=1e-6)


@given(SIDES, SIDES)
def test_rows_are_not_taken_for_columns(side: int, wanted: int) -> None:
    positions = learned(side)
    turned = positions.clone()
    turned[1:] = positions[1:].unflatten(0, (side, side)).transpose(0, 1).flatten(0, 1)
    plain = resize_positions(positions, (wanted, wanted))[1:].unflatten(0, (wanted, wanted))
    found = resize_positions(turned, (wanted, wanted))[1:].unflatten(0, (wanted, wanted))
    assert_close(found, plain.transpose(0, 1), rtol=0, atol=1e-5)


def test_centres_of_patches_are_aligned_and_not_the_corners_of_the_grid() -> None:
    """A slope stays one, away from the border; aligned corners would move it by 0.015 here."""
    side, wanted = 8, 16
    slope = (torch.arange(side) + 0.5) / side
    patches = slope[:, None].expand(side, side).reshape(-1, 1)
    resized = resize_positions(torch.cat([torch.zeros(1, 1), patches]), (wanted, wanted))
    found = resized[1:].view(wanted, wanted)[4:-4, 0]
    # torch's cubic (a = -0.75) is off a straight line by up to 3/64 of a step; only a = -0.5 would not be
    assert_close(found, (torch.arange(wanted)[4:-4] + 0.5) / wanted, rtol=0, atol=3 / 64 / side + 1e-6)


def test_fixed_positions_are_waves_of_the_row_and_then_of_the_column() -> None:
    found = sinusoid_2d((2, 3), 8)
    assert found.shape == (6, 8)
    slow = 1 / 100  # the second of two frequencies, which fall from 1 to 1/10000 as in a transformer
    assert found[5].tolist() == pytest.approx(
        [
            *(math.sin(1 * f) for f in (1, slow)),
            *(math.cos(1 * f) for f in (1, slow)),
            *(math.sin(2 * f) for f in (1, slow)),
            *(math.cos(2 * f) for f in (1, slow)),
        ],
        abs=1e-6,
    )


WINDOWS = st.integers(1, 9)
EXTRA = st.sampled_from([0, 3])


def random_table(window: int, extra_rows: int = 3, heads: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(window)
    return torch.randn((2 * window - 1) ** 2 + extra_rows, heads, generator=generator)


@given(WINDOWS, EXTRA)
def test_the_window_of_a_table_is_found_from_its_rows(window: int, extra_rows: int) -> None:
    assert window_side(len(random_table(window, extra_rows)), extra_rows) == window


@given(WINDOWS, EXTRA)
def test_at_the_same_window_nothing_changes(window: int, extra_rows: int) -> None:
    table = random_table(window, extra_rows)
    assert torch.equal(resize_relative_positions(table, window, extra_rows), table)


@given(WINDOWS, WINDOWS, EXTRA)
def test_extra_rows_are_copied(before: int, after: int, extra_rows: int) -> None:
    table = random_table(before, extra_rows)
    resized = resize_relative_positions(table, after, extra_rows)
    assert resized.shape == ((2 * after - 1) ** 2 + extra_rows, 2)
    assert torch.equal(resized[len(resized) - extra_rows :], table[len(table) - extra_rows :])


@given(WINDOWS, WINDOWS, EXTRA)
def test_a_constant_table_stays_constant(before: int, after: int, extra_rows: int) -> None:
    resized = resize_relative_positions(
        torch.full_like(random_table(before, extra_rows), 0.7), after, extra_rows
    )
    assert_close(resized, torch.full_like(resized, 0.7), rtol=0, atol=1e-6)


@given(WINDOWS, WINDOWS)
def test_directions_stay_apart(before: int, after: int) -> None:
    """A table that is mirrored or transposed before is so afterwards: rows are not mixed up with columns."""
    table = random_table(before, 0)
    side, wanted = 2 * before - 1, 2 * after - 1
    plain = resize_relative_positions(table, after, 0).unflatten(0, (wanted, wanted))
    turned = table.unflatten(0, (side, side)).transpose(0, 1).flip(0).flatten(0, 1)
    assert_close(
        resize_relative_positions(turned, after, 0).unflatten(0, (wanted, wanted)),
        plain.transpose(0, 1).flip(0),
        rtol=0,
        atol=1e-5,
    )


@given(st.integers(2, 9), st.integers(1, 9))
def test_nearest_patches_keep_their_rows_when_a_window_grows(before: int, more: int) -> None:
    """The old rows at -1, 0 and 1 stay at these places, so the new table has their values there."""
    after = before + more
    side, wanted = 2 * before - 1, 2 * after - 1
    table = random_table(before)
    old = table[:-3].unflatten(0, (side, side))
    new = resize_relative_positions(table, after)[:-3].unflatten(0, (wanted, wanted))
    near, there = slice(before - 2, before + 1), slice(after - 2, after + 1)
    assert_close(new[there, there], old[near, near], rtol=0, atol=1e-5)


@given(st.integers(2, 12), st.integers(2, 24))
def test_old_rows_lie_apart_by_powers_of_the_growth(before: int, after: int) -> None:
    side, wanted = 2 * before - 1, 2 * after - 1
    places, ratio = source_coordinates(side, wanted), progression_ratio(side, wanted)
    assert len(places) == side
    assert places == [-place for place in reversed(places)]
    steps = [second - first for first, second in zip(places[before - 1 :], places[before:], strict=False)]
    assert steps == pytest.approx([ratio**power for power in range(before - 1)])


@pytest.mark.parametrize(("before", "after"), [(7, 9), (14, 24), (14, 48)])
def test_old_rows_reach_the_new_extent(before: int, after: int) -> None:
    places = source_coordinates(2 * before - 1, 2 * after - 1)
    assert places[-1] == pytest.approx(after - 1, abs=1e-3)


def test_the_type_of_a_table_is_kept() -> None:
    assert resize_relative_positions(random_table(4).double(), 6).dtype == torch.float64
    assert resize_relative_positions(random_table(4).bfloat16(), 6).dtype == torch.bfloat16

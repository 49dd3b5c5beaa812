"""Tables at another window: what holds whatever the numbers; tests/parity compares with recorded ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close
from x2kit_timm import BeitV2
from x2kit_timm.relative_positions import growth, resize_table, source_coordinates, window_of

WINDOWS = st.integers(1, 9)
EXTRA = st.sampled_from([0, 3])


def random_table(window: int, extra_rows: int = 3, heads: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(window)
    return torch.randn((2 * window - 1) ** 2 + extra_rows, heads, generator=generator)


@given(WINDOWS, EXTRA)
def test_the_window_of_a_table_is_found_from_its_rows(window: int, extra_rows: int) -> None:
    assert window_of(len(random_table(window, extra_rows)), extra_rows) == window


@given(WINDOWS, EXTRA)
def test_at_the_same_window_nothing_changes(window: int, extra_rows: int) -> None:
    table = random_table(window, extra_rows)
    assert torch.equal(resize_table(table, window, extra_rows), table)


@given(WINDOWS, WINDOWS, EXTRA)
def test_extra_rows_are_copied(before: int, after: int, extra_rows: int) -> None:
    table = random_table(before, extra_rows)
    resized = resize_table(table, after, extra_rows)
    assert resized.shape == ((2 * after - 1) ** 2 + extra_rows, 2)
    assert torch.equal(resized[len(resized) - extra_rows :], table[len(table) - extra_rows :])


@given(WINDOWS, WINDOWS, EXTRA)
def test_a_constant_table_stays_constant(before: int, after: int, extra_rows: int) -> None:
    resized = resize_table(torch.full_like(random_table(before, extra_rows), 0.7), after, extra_rows)
    assert_close(resized, torch.full_like(resized, 0.7), rtol=0, atol=1e-6)


@given(WINDOWS, WINDOWS)
def test_directions_stay_apart(before: int, after: int) -> None:
    """A table that is mirrored or transposed before is so afterwards: rows are not mixed up with columns."""
    table = random_table(before, 0)
    side, wanted = 2 * before - 1, 2 * after - 1
    plain = resize_table(table, after, 0).unflatten(0, (wanted, wanted))
    turned = table.unflatten(0, (side, side)).transpose(0, 1).flip(0).flatten(0, 1)
    assert_close(
        resize_table(turned, after, 0).unflatten(0, (wanted, wanted)),
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
    new = resize_table(table, after)[:-3].unflatten(0, (wanted, wanted))
    near, there = slice(before - 2, before + 1), slice(after - 2, after + 1)
    assert_close(new[there, there], old[near, near], rtol=0, atol=1e-5)


@given(st.integers(2, 12), st.integers(2, 24))
def test_old_rows_lie_apart_by_powers_of_the_growth(before: int, after: int) -> None:
    side, wanted = 2 * before - 1, 2 * after - 1
    places, ratio = source_coordinates(side, wanted), growth(side, wanted)
    assert len(places) == side
    assert places == [-place for place in reversed(places)]
    steps = [second - first for first, second in zip(places[before - 1 :], places[before:], strict=False)]
    assert steps == pytest.approx([ratio**power for power in range(before - 1)])


@pytest.mark.parametrize(("before", "after"), [(7, 9), (14, 24), (14, 48)])
def test_old_rows_reach_the_new_extent(before: int, after: int) -> None:
    places = source_coordinates(2 * before - 1, 2 * after - 1)
    assert places[-1] == pytest.approx(after - 1, abs=1e-3)


def test_the_type_of_a_table_is_kept() -> None:
    assert resize_table(random_table(4).double(), 6).dtype == torch.float64
    assert resize_table(random_table(4).bfloat16(), 6).dtype == torch.bfloat16


def test_an_encoder_fits_its_tables_and_leaves_the_rest() -> None:
    config = BeitV2(image_size=32, patch_size=8, width=16, depth=2, heads=2)
    state = config.build().state_dict()
    larger = config.at_image_size(48).build()
    fitted = larger.fit(state)
    larger.load_state_dict(fitted)
    for name, value in state.items():
        if name.endswith("relative_position_bias_table"):
            assert torch.equal(fitted[name], resize_table(value, 6))
        else:
            assert fitted[name] is value

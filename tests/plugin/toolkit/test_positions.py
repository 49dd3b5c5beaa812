"""Positions of patches: fixed ones, and learned ones at another grid."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from x2kit.plugin.toolkit.positions import resize_positions, sinusoid_2d

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

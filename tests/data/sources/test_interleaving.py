"""Sources take turns so that every stretch has their shares."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from x2kit.data.sources.mixture import turns, whole_shares
from x2kit.errors import SettingError

SHARES = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ([3, 1], [3, 1]),
        ([0.7, 0.2, 0.1], [7, 2, 1]),
        ([4.0, 2.0], [2, 1]),
        ([1e-3, 1], [1, 1000]),
        ([5], [1]),
    ],
)
def test_weights_are_the_smallest_whole_numbers_in_their_ratio(
    weights: list[float], shares: list[int]
) -> None:
    assert whole_shares(weights) == shares


def test_weights_of_too_many_digits_are_refused() -> None:
    with pytest.raises(
        SettingError, match=r"weights: as whole numbers they are 333333, 666667, .* 1000000.* at most 65536"
    ):
        whole_shares([0.333333, 0.666667])


@settings(max_examples=80, deadline=None)
@given(SHARES)
def test_after_any_number_of_turns_each_has_its_share_to_within_one(shares: list[int]) -> None:
    order, total = turns(shares), sum(shares)
    for number, share in enumerate(shares):
        had = 0
        for turn, chosen in enumerate(order, 1):
            had += int(chosen == number)
            assert abs(had - turn * share / total) < 1
        assert had == share


def test_the_turns_of_three_to_one_are_spread() -> None:
    assert sorted(turns([3, 1]).tolist()) == [0, 0, 0, 1]
    assert turns([1, 1, 1]).tolist() == [0, 1, 2]

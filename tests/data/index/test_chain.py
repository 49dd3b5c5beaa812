from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x2kit.data.index.chain import Chain


@given(st.lists(st.integers(0, 4), max_size=6))
def test_positions_map_to_the_parts_in_order(lengths: list[int]) -> None:
    chain = Chain(lengths)
    expected = [(part, place) for part, length in enumerate(lengths) for place in range(length)]
    assert [chain.locate(index) for index in range(len(chain))] == expected


@pytest.mark.parametrize("index", [-1, 3])
def test_a_position_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match="of 3"):
        Chain([1, 0, 2]).locate(index)

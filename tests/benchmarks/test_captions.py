"""Equal captions of generation and its plain formulation; no test depends on speed."""

from __future__ import annotations

import pytest

from tests.benchmarks.captions import Shape, given, ours, plain, require_equal

TINY = Shape(images=3, side=2, width=16, layers=2, length=6)


@pytest.mark.parametrize("masked", [True, False])
def test_captions_equal_those_of_the_plain_formulation(masked: bool) -> None:
    it = given(TINY, masked)
    expected = plain(it)
    require_equal(ours(it), expected)
    # Captions that were all alike would be equal whatever was computed.
    assert len({tuple(text.ids) for text in expected}) > 1


def test_a_difference_of_one_score_is_detected() -> None:
    expected = plain(given(TINY, True))
    other = [text._replace(score=text.score + 0.1) for text in expected]
    with pytest.raises(SystemExit, match="the captions differ"):
        require_equal(expected, other)

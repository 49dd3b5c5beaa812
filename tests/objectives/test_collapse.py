"""A matching head that gives every pair the same answer."""

from __future__ import annotations

import pytest

from x2kit.objectives.matching import describe_collapse


@pytest.mark.parametrize(
    ("positive", "negative", "answer"),
    [(0.0, 1.0, '"no match"'), (1.0, 0.0, '"match"'), (0.005, 0.995, '"no match"')],
)
def test_a_head_with_one_answer_has_collapsed(positive: float, negative: float, answer: str) -> None:
    assert answer in str(describe_collapse(positive, negative))


@pytest.mark.parametrize(
    ("positive", "negative"), [(1.0, 1.0), (0.0, 0.0), (0.5, 0.5), (0.1, 1.0), (1.0, 0.3)]
)
def test_a_head_with_two_answers_has_not_collapsed(positive: float, negative: float) -> None:
    assert describe_collapse(positive, negative) is None

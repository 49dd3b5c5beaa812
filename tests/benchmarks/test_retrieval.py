"""Equal scores of the ranking and its plain formulation; no test depends on speed."""

from __future__ import annotations

import pytest
import torch

from tests.benchmarks.retrieval import TOLERANCE, Shape, difference, encoded, ours, plain
from x2kit.tasks import scoring
from x2kit.tasks.retrieval.metric import REST, Scores

TINY = Shape(images=16, side=2, width=16, layers=2)


@pytest.mark.parametrize("tokens_at_once", [32, 2048])
def test_scores_equal_those_of_the_plain_formulation(
    tokens_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(scoring.TOKENS_AT_ONCE, "cpu", tokens_at_once)
    given = encoded(TINY)
    expected = plain(given, TINY.top_k)
    assert difference(ours(given, TINY.top_k), expected) < TOLERANCE
    for scores in expected:
        assert ((scores > REST).sum(1) == TINY.top_k).all()
        # Scores that lie close together would be equal whatever was computed.
        assert scores[scores > REST].std() > 100 * TOLERANCE


def test_difference_of_one_score_is_detected() -> None:
    scores = Scores(torch.zeros(2, 3), torch.zeros(3, 2))
    other = Scores(torch.zeros(2, 3), torch.zeros(3, 2).index_fill(0, torch.tensor([1]), 0.5))
    assert difference(scores, other) == 0.5

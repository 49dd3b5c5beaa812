"""Ranks equal their naive form; tests/parity compares with the official evaluation."""

from __future__ import annotations

import math

import pytest
import torch

from x2kit.errors import ShapeError
from x2kit.tasks.retrieval.ranking import candidate_mask, chance, ranks, recalls, rerank, top_candidates


def plain_rank(scores: list[float], right: list[int]) -> int:
    """The rule, word by word: wrong candidates that the best right answer does not beat."""
    best = max(scores[column] for column in right)
    return sum(not score < best for column, score in enumerate(scores) if column not in right)


@pytest.mark.parametrize("chunk", [1, 3, 1024])
@pytest.mark.parametrize("levels", [3, 1000])
def test_ranks_equal_the_plain_form_ties_included(levels: int, chunk: int) -> None:
    torch.manual_seed(levels)
    scores = torch.randint(levels, (20, 13)).float() / levels
    answers = [torch.randperm(13)[: 1 + query % 4].tolist() for query in range(20)]
    expected = [plain_rank(row, right) for row, right in zip(scores.tolist(), answers, strict=True)]
    assert ranks(scores, answers, chunk).tolist() == expected


def test_ties_count_as_misses() -> None:
    assert ranks(torch.zeros(2, 5), [[0], [4]]).tolist() == [4, 4]


def test_other_positives_are_not_counted() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.1], [0.9, 0.8, 0.7, 0.1]])
    assert ranks(scores, [[0, 1, 2], [1, 2]]).tolist() == [0, 1]


def test_nan_never_ranks_first() -> None:
    scores = torch.tensor([[math.nan, 0.2, 0.1], [0.3, math.nan, 0.1]])
    assert ranks(scores, [[0], [0]]).tolist() == [2, 1]


def test_queries_without_a_positive_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"query 1 has the positives \[\]; expected one or more of 0 to 2"):
        ranks(torch.zeros(2, 3), [[0], []], chunk=1)
    with pytest.raises(ShapeError, match=r"query 0 has the positives \[3\]"):
        ranks(torch.zeros(1, 3), [[3]])
    with pytest.raises(ShapeError, match=r"scores \[2, 3\] do not fit answers to 1 queries"):
        ranks(torch.zeros(2, 3), [[0]])


def test_recalls_are_shares_of_queries() -> None:
    assert recalls(torch.tensor([0, 0, 1, 4, 5, 9, 10, 300])) == {"r1": 0.25, "r5": 0.5, "r10": 0.75}


def test_chance_is_the_recall_of_a_random_order() -> None:
    assert chance([[0], [1, 2], [3]], 4) == pytest.approx((1 / 4 + 2 / 4 + 1 / 4) / 3)


def test_candidates_rank_above_the_rest_which_keeps_its_order() -> None:
    similarity = torch.tensor([[0.9, 0.8, 0.7, 0.7, 0.2]])
    candidates = candidate_mask(top_candidates(similarity, 2), 5)
    assert candidates.tolist() == [[True, True, False, False, False]]
    final = rerank(similarity, candidates, torch.tensor([[-50.0, -3.0, 0.0, 0.0, 0.0]]))
    assert final.argsort(descending=True, stable=True).tolist() == [[1, 0, 2, 3, 4]]
    assert final[0, 2] == final[0, 3]  # a tie stays one


def test_reranking_all_candidates_returns_their_scores() -> None:
    torch.manual_seed(0)
    similarity, scores = torch.rand(4, 6), torch.randn(4, 6)
    final = rerank(similarity, candidate_mask(top_candidates(similarity, 99), 6), scores)
    assert torch.equal(final, scores.double())


def test_reranking_by_similarity_changes_no_rank() -> None:
    torch.manual_seed(1)
    similarity = torch.randint(8, (30, 30)).float() / 8
    candidates = candidate_mask(top_candidates(similarity, 30), 30)
    answers = [[query] for query in range(30)]
    assert torch.equal(ranks(rerank(similarity, candidates, similarity), answers), ranks(similarity, answers))

"""Ranking answers, against the sums written out."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from x2kit.errors import ShapeError
from x2kit.model.generation import answer_ranking
from x2kit.model.generation.answer_ranking import rank_answers
from x2kit.plugin import TextDecoder

PAD, OPEN, CLOSE = 0, 1, 2
VOCABULARY = 9


class Bigrams(TextDecoder):
    """The next token depends on the last one, and on the question's first state."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(0))

    def forward(self, ids: Tensor, mask: Tensor, context: Tensor, context_mask: Tensor) -> Tensor:
        return self.table[ids] * context[:, :1, :1]


ANSWERS = torch.tensor(
    [
        [OPEN, 3, CLOSE, PAD],
        [OPEN, 4, 5, CLOSE],
        [OPEN, 6, CLOSE, PAD],
        [OPEN, 3, 7, CLOSE],
        [OPEN, 8, 4, CLOSE],
    ]
)
KEPT = ANSWERS != PAD
QUESTIONS = torch.tensor([1.0, -2.0, 0.5])[:, None, None].expand(-1, 2, 4)
ASKED = torch.ones(3, 2, dtype=torch.bool)


def log_probabilities(question: int) -> Tensor:
    """[last token, next token]."""
    return (Bigrams().table * QUESTIONS[question, 0, 0]).log_softmax(-1)


def plain_score(question: int, answer: Tensor) -> float:
    """The first token's log-probability, and that of every token."""
    step = log_probabilities(question)
    tokens = [int(token) for token in answer if token != PAD]
    return float(step[OPEN, tokens[1]] + sum(step[a, b] for a, b in pairwise(tokens)))


def test_all_answers_are_ranked_by_first_token_and_whole_answer() -> None:
    found = rank_answers(Bigrams(), QUESTIONS, ASKED, ANSWERS, KEPT, len(ANSWERS))
    for question in range(len(QUESTIONS)):
        scores = torch.tensor([plain_score(question, answer) for answer in ANSWERS])
        assert found.rows[question].tolist() == scores.argsort(descending=True).tolist()
        assert_close(found.probability[question], scores.softmax(-1).sort(descending=True).values)


def test_only_answers_with_the_likeliest_first_tokens_are_scored() -> None:
    found = rank_answers(Bigrams(), QUESTIONS, ASKED, ANSWERS, KEPT, 2)
    for question in range(len(QUESTIONS)):
        first = log_probabilities(question)[OPEN, ANSWERS[:, 1]]
        worst = first.sort(descending=True).values[1]
        assert (first[found.rows[question]] >= worst).all()
        scores = torch.tensor([plain_score(question, ANSWERS[row]) for row in found.rows[question]])
        assert_close(found.probability[question], scores.softmax(-1))
        assert found.probability[question, 0] >= found.probability[question, 1]


def test_longer_padding_changes_nothing() -> None:
    longer = torch.nn.functional.pad(ANSWERS, (0, 3), value=PAD)
    plain = rank_answers(Bigrams(), QUESTIONS, ASKED, ANSWERS, KEPT, 3)
    padded = rank_answers(Bigrams(), QUESTIONS, ASKED, longer, longer != PAD, 3)
    assert_close(padded, plain)


def test_a_cut_through_equal_first_tokens_takes_those_first_in_the_list() -> None:
    likely, unlikely = log_probabilities(0)[OPEN, 3:].argsort(descending=True)[[0, -1]].tolist()
    ends = [
        [3 + likely, CLOSE, PAD],
        [3 + unlikely, CLOSE, PAD],
        *([3 + likely, n, CLOSE] for n in range(4, 9)),
    ]
    answers = torch.tensor([[OPEN, *end] for end in ends])
    found = rank_answers(Bigrams(), QUESTIONS[:1], ASKED[:1], answers, answers != PAD, 3)
    assert sorted(found.rows[0].tolist()) == [0, 2, 3]


def test_blocks_of_questions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rank_answers(Bigrams(), QUESTIONS, ASKED, ANSWERS, KEPT, 3)
    monkeypatch.setattr(answer_ranking, "ANSWERS_AT_ONCE", 1)
    assert_close(rank_answers(Bigrams(), QUESTIONS, ASKED, ANSWERS, KEPT, 3), whole)


def test_answers_that_cannot_be_ranked_are_refused() -> None:
    with pytest.raises(ShapeError, match="expected 1 to 5, the number of answers, found 6"):
        rank_answers(Bigrams(), QUESTIONS, ASKED, ANSWERS, KEPT, 6)
    other = ANSWERS.clone()
    other[2, 0] = CLOSE
    with pytest.raises(ShapeError, match="answers begin with different tokens"):
        rank_answers(Bigrams(), QUESTIONS, ASKED, other, KEPT, 2)

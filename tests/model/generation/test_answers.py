"""Answers ranked, against the sums written out, and written freely, against the likeliest of all texts."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from x2kit.errors import ShapeError
from x2kit.model.generation import answers as answers_module
from x2kit.model.generation.answers import rank_answers, write_answers
from x2kit.model.generation.beam_search import Search
from x2kit.plugin import SpecialIds, TextDecoder

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
    monkeypatch.setattr(answers_module, "ANSWERS_AT_ONCE", 1)
    assert_close(rank_answers(Bigrams(), QUESTIONS, ASKED, ANSWERS, KEPT, 3), whole)


def test_answers_that_cannot_be_ranked_are_refused() -> None:
    with pytest.raises(ShapeError, match="expected 1 to 5, the number of answers, found 6"):
        rank_answers(Bigrams(), QUESTIONS, ASKED, ANSWERS, KEPT, 6)
    other = ANSWERS.clone()
    other[2, 0] = CLOSE
    with pytest.raises(ShapeError, match="answers begin with different tokens"):
        rank_answers(Bigrams(), QUESTIONS, ASKED, other, KEPT, 2)


SPECIAL = SpecialIds(pad=PAD, cls=OPEN, sep=CLOSE, unk=PAD, mask=PAD)


def likelihood(question: int, tokens: tuple[int, ...]) -> float:
    step = log_probabilities(question)
    return float(sum(step[a, b] for a, b in pairwise((OPEN, *tokens))))


def test_many_beams_find_the_likeliest_answer() -> None:
    search = Search(num_beams=VOCABULARY**2, min_length=0, max_length=3, unique_ngrams=None)
    found = write_answers(Bigrams(), QUESTIONS, ASKED, SPECIAL, search)
    tokens = [token for token in range(VOCABULARY) if token != CLOSE]
    ended = [(*text, CLOSE) for length in range(3) for text in product(tokens, repeat=length)]
    cut = list(product(tokens, repeat=3))
    for question, answers in enumerate(found):
        best = sorted([*ended, *cut], key=lambda text: -likelihood(question, text))
        assert [tuple(answer.ids) for answer in answers[:3]] == best[:3]
        assert answers[1].score == pytest.approx(likelihood(question, best[1]), abs=1e-5)


def test_one_beam_takes_the_likeliest_token_each_time() -> None:
    search = Search(num_beams=1, min_length=0, max_length=5, unique_ngrams=None)
    found = write_answers(Bigrams(), QUESTIONS, ASKED, SPECIAL, search)
    for question, ((_, answer),) in enumerate(found):
        step = log_probabilities(question)
        for before, token in pairwise([OPEN, *answer]):
            assert token == int(step[before].argmax())
        assert answer[-1] == CLOSE or len(answer) == 5


def test_the_answer_of_a_question_is_its_own() -> None:
    search = Search(num_beams=2, min_length=0, max_length=4)
    together = write_answers(Bigrams(), QUESTIONS, ASKED, SPECIAL, search)
    alone = [
        write_answers(Bigrams(), QUESTIONS[row : row + 1], ASKED[:1], SPECIAL, search)[0] for row in range(3)
    ]
    assert together == alone

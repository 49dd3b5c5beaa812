"""Answers written freely, against the likeliest of all texts."""

from __future__ import annotations

from itertools import pairwise, product

from x2kit.model.generation.answer_writing import write_answers
from x2kit.model.generation.beam_search import Search
from x2kit.plugin import SpecialIds

from .test_answer_ranking import ASKED, CLOSE, OPEN, PAD, QUESTIONS, VOCABULARY, Bigrams, log_probabilities

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
    for question, answer in enumerate(found):
        best = max([*ended, *cut], key=lambda text: likelihood(question, text))
        assert tuple(answer) == best


def test_one_beam_takes_the_likeliest_token_each_time() -> None:
    search = Search(num_beams=1, min_length=0, max_length=5, unique_ngrams=None)
    found = write_answers(Bigrams(), QUESTIONS, ASKED, SPECIAL, search)
    for question, answer in enumerate(found):
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

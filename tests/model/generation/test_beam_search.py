"""Beam search against an exhaustive search of all texts."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from x2kit.errors import ShapeError
from x2kit.model.generation.beam_search import NextToken, Search, beam_search

VOCABULARY, END, PROMPT = 4, 3, [0, 1]
TABLES = (
    torch.randn(2, VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(3)).mul(2).log_softmax(-1)
)
"""Two rows, each with its log-probability of the next token after the last one."""


def bigrams(beams: int) -> NextToken:
    """`next_token` of the two rows."""

    def next_token(ids: Tensor, _: Tensor) -> Tensor:
        rows = torch.arange(2).repeat_interleave(beams)
        return TABLES[rows, ids[:, -1]]

    return next_token


def every_text(search: Search) -> list[list[int]]:
    """All texts that end, or are as long as may be, and keep to the rules."""
    texts = []
    for length in range(1, search.max_length + 1):
        for text in product(range(VOCABULARY), repeat=length):
            ended = text[-1] == END
            if END in text[:-1] or (ended and length <= search.min_length):
                continue
            runs = [text[i : i + (search.unique_ngrams or 99)] for i in range(length)]
            runs = [run for run in runs if len(run) == search.unique_ngrams]
            if (ended or length == search.max_length) and len(set(runs)) == len(runs):
                texts.append(list(text))
    return texts


def value(row: int, text: list[int], search: Search) -> float:
    steps = zip([PROMPT[-1], *text], text, strict=False)
    before_end = len(PROMPT) + len(text) - (text[-1] == END)
    length = before_end if search.refill else (5 + len(text)) / 6
    return float(sum(TABLES[row, a, b] for a, b in steps)) / length**search.length_penalty


@pytest.mark.parametrize(
    "settings",
    [
        {"min_length": 0, "unique_ngrams": None},
        {"min_length": 2, "unique_ngrams": None},
        {"min_length": 3, "unique_ngrams": 2},
        {"min_length": 1, "unique_ngrams": 2, "length_penalty": 2.0},
        {"min_length": 0, "unique_ngrams": None, "refill": True},
        {"min_length": 1, "unique_ngrams": None, "length_penalty": 1.0, "refill": True},
    ],
)
def test_enough_beams_find_the_best_of_all_texts(settings: dict[str, float]) -> None:
    search = Search(num_beams=VOCABULARY**4, max_length=4, **settings)  # type: ignore[arg-type]
    found = beam_search(bigrams(search.num_beams), 2, PROMPT, END, search)
    for row in range(2):
        best = max(every_text(search), key=lambda text: value(row, text, search))
        assert found[row].ids == best
        assert found[row].score == pytest.approx(value(row, best, search), abs=1e-5)


@pytest.mark.parametrize("refill", [False, True])
def test_one_beam_is_greedy_search(refill: bool) -> None:
    search = Search(num_beams=1, min_length=0, max_length=5, unique_ngrams=None, refill=refill)
    for row, (_, text) in enumerate(beam_search(bigrams(1), 2, PROMPT, END, search)):
        last = PROMPT[-1]
        for token in text:
            assert token == TABLES[row, last].argmax()
            last = token
        assert len(text) == 5 or text[-1] == END


def test_impossible_search_settings_are_refused() -> None:
    with pytest.raises(ShapeError, match="min_length below max_length"):
        Search(min_length=5, max_length=5)
    with pytest.raises(ShapeError, match="at least 1 beam"):
        Search(num_beams=0)
    with pytest.raises(ShapeError, match="unique_ngrams 1: expected at least 2"):
        Search(unique_ngrams=1)


def test_a_refilled_beam_goes_on_in_the_same_step() -> None:
    """Of two beams the end and 1 come first; with refill the 2 behind them runs too, and wins by its length."""
    steps = torch.full((VOCABULARY, VOCABULARY), 1e-6)
    steps[PROMPT[-1], 1:] = torch.tensor([0.26, 0.24, 0.5])
    steps[2, 0] = steps[0, END] = 1.0

    def next_token(ids: Tensor, _: Tensor) -> Tensor:
        return steps.log()[ids[:, -1]]

    search = Search(2, min_length=0, max_length=3, length_penalty=2.0, unique_ngrams=None, refill=True)
    assert beam_search(next_token, 1, PROMPT, END, search)[0].ids == [2, 0, END]
    assert beam_search(next_token, 1, PROMPT, END, replace(search, refill=False))[0].ids != [2, 0, END]

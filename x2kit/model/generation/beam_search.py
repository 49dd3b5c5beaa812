"""Beam search for the likeliest continuation of a prompt. Imports torch and transformers.

B rows, K beams, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinLengthLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
)

from x2kit.errors import ShapeError


@dataclass(frozen=True)
class Search:
    """Settings of beam search; the defaults are the official ones for captions.

    Attributes:
        num_beams: K, texts kept for each row; 1 is greedy search.
        min_length: tokens before the end token is allowed.
        max_length: maximum number of tokens, including the end, without the prompt.
        length_penalty: exponent of ((5 + length) / 6), which divides a text's log-likelihood; values above 0 favour
            longer texts (arXiv:1609.08144, equation 14).
        unique_ngrams: n-grams of this size occur at most once; None disables the check.
    """

    num_beams: int = 3
    min_length: int = 5
    max_length: int = 20
    length_penalty: float = 0.0
    unique_ngrams: int | None = 3

    def __post_init__(self) -> None:
        if self.num_beams < 1 or not 0 <= self.min_length < self.max_length:
            raise ShapeError(
                f"num_beams {self.num_beams}, min_length {self.min_length}, max_length {self.max_length}: "
                "expected at least 1 beam, and min_length below max_length"
            )
        if self.unique_ngrams is not None and self.unique_ngrams < 2:
            raise ShapeError(f"unique_ngrams {self.unique_ngrams}: expected at least 2, or None")


def beam_search(
    next_token: Callable[[Tensor], Tensor], num_rows: int, prompt: Sequence[int], end: int, search: Search
) -> list[list[int]]:
    """Find the likeliest continuation of a prompt for each row.

    A text that ends leaves its beam to other texts in the next step.

    Args:
        next_token: maps texts [B x K, L] int64, K in a row for each of the B rows, to log-probabilities [B x K, V] of
            the next token.
        num_rows: B.
        prompt: first tokens of all texts.
        end: token that ends a text.
        search: settings.
    Returns: B texts without the prompt, ending with `end` unless cut at the maximum length.
    """
    beams, begin = search.num_beams, len(prompt)
    processors = LogitsProcessorList([MinLengthLogitsProcessor(search.min_length, end)])
    if search.unique_ngrams is not None:
        processors.append(NoRepeatNGramLogitsProcessor(search.unique_ngrams))
    ids = torch.tensor([list(prompt)]).expand(num_rows * beams, -1)  # [B x K, L]
    score = torch.full((num_rows, beams), -math.inf)  # [B, K]; initially one text a row
    score[:, 0] = 0
    best: list[tuple[float, list[int]]] = [(-math.inf, [])] * num_rows
    for length in range(1, search.max_length + 1):
        logs = processors(ids[:, begin:], next_token(ids).float().cpu())
        score, place = (score.flatten()[:, None] + logs).view(num_rows, -1).topk(beams)
        origin = place // logs.shape[1] + torch.arange(num_rows)[:, None] * beams
        ids = torch.cat([ids[origin.flatten()], (place % logs.shape[1]).view(-1, 1)], 1)  # [B x K, L + 1]
        ended = ids[:, -1].view_as(score) == end
        value = score / ((5 + length) / 6) ** search.length_penalty
        if length < search.max_length:
            value = value.masked_fill(~ended, -math.inf)
        for row, beam in enumerate(value.argmax(1).tolist()):
            if value[row, beam] > best[row][0]:
                best[row] = value[row, beam].item(), ids[row * beams + beam, begin:].tolist()
        score = score.masked_fill(ended, -math.inf)
        if not score.isfinite().any():
            break
    return [text for _, text in best]

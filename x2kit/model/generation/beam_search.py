"""The likeliest text, found step by step. Imports torch.

B rows, K beams, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from x2kit.errors import ShapeError


@dataclass(frozen=True)
class Search:
    """How texts are searched for; the defaults are the official ones for captions.

    Attributes:
        num_beams: K, texts that are followed for each row; 1 takes the likeliest token each time.
        min_length: tokens before the end may come.
        max_length: most tokens, the end included, the prompt not.
        length_penalty: a text's log-likelihood is divided by ((5 + length) / 6) to this power, so that above 0 longer
            texts stand a better chance (arXiv:1609.08144, equation 14).
        unique_ngrams: so many tokens in a row may not come twice; None lets them.
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
                "at least 1 beam, and min_length below max_length"
            )
        if self.unique_ngrams is not None and self.unique_ngrams < 2:
            raise ShapeError(f"unique_ngrams {self.unique_ngrams}: at least 2 tokens in a row, or None")


def beam_search(
    next_token: Callable[[Tensor], Tensor], num_rows: int, prompt: Sequence[int], end: int, search: Search
) -> list[list[int]]:
    """The likeliest continuation of a prompt that was found for each row.

    A text that has ended takes a beam's place no longer than the step in which it ends.

    Args:
        next_token: of texts [B x K, L] int64, K in a row for each of the B rows, the log-probabilities [B x K, V] of
            what comes next.
        num_rows: B.
        prompt: tokens that all texts begin with.
        end: token that ends a text.
        search: how far to look.
    Returns: B texts without the prompt, with their end if they have one.
    """
    beams, begin = search.num_beams, len(prompt)
    ids = torch.tensor([list(prompt)]).expand(num_rows * beams, -1)  # [B x K, L]
    score = torch.full((num_rows, beams), -math.inf)  # [B, K]; at first there is one text a row
    score[:, 0] = 0
    best: list[tuple[float, list[int]]] = [(-math.inf, [])] * num_rows
    for length in range(1, search.max_length + 1):
        logs = next_token(ids).float().cpu()
        _forbid(logs, ids[:, begin:].tolist(), end, search)
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


def _forbid(logs: Tensor, texts: list[list[int]], end: int, search: Search) -> None:
    """Rule out an early end, and tokens that would bring a run of tokens a second time."""
    for row, text in enumerate(texts):
        if len(text) < search.min_length:
            logs[row, end] = -math.inf
        if search.unique_ngrams is not None:
            logs[row, list(_repeating(text, search.unique_ngrams))] = -math.inf


def _repeating(text: Sequence[int], count: int) -> set[int]:
    """Tokens that would complete `count` in a row which the text has already."""
    tail = text[len(text) - count + 1 :]
    return {
        text[place + count - 1]
        for place in range(len(text) - count + 1)
        if text[place : place + count - 1] == tail
    }

"""Beam search for the likeliest continuation of a prompt. Imports torch and transformers.

B rows, K beams, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinLengthLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
)

from x2kit.errors import ShapeError

NextToken = Callable[[Tensor, Tensor], Tensor]
"""Maps texts [N, L] int64, and the rows [N] int64 of the previous call that each continues by one token (in the first
call 0 to N - 1), to log-probabilities [N, V] of the next token."""


@dataclass(frozen=True)
class Search:
    """Settings of beam search; the defaults are the official ones of X²-VLM for captions.

    Attributes:
        num_beams: K, texts kept for each row; 1 is greedy search.
        min_length: tokens before the end token is allowed.
        max_length: maximum number of tokens, including the end, without the prompt.
        length_penalty: exponent of ((5 + length) / 6), which divides a text's log-likelihood; values above 0 favour
            longer texts (arXiv:1609.08144, equation 14). With `refill` the exponent of the number of tokens before the
            end token, prompt included.
        unique_ngrams: n-grams of this size occur at most once; None disables the check.
        refill: the next best text takes the beam of one that ends in the same step, and a row is finished when K texts
            ended and no other can exceed the worst of them (transformers 4.12, which X-VLM uses). False: the beam
            stays empty for a step (X²-VLM).
    """

    num_beams: int = 3
    min_length: int = 5
    max_length: int = 20
    length_penalty: float = 0.0
    unique_ngrams: int | None = 3
    refill: bool = False

    def __post_init__(self) -> None:
        if self.num_beams < 1 or not 0 <= self.min_length < self.max_length:
            raise ShapeError(
                f"num_beams {self.num_beams}, min_length {self.min_length}, max_length {self.max_length}: "
                "expected at least 1 beam, and min_length below max_length"
            )
        if self.unique_ngrams is not None and self.unique_ngrams < 2:
            raise ShapeError(f"unique_ngrams {self.unique_ngrams}: expected at least 2, or None")

    def processors(self, end: int) -> LogitsProcessorList:
        """Build what forbids early ends and repeated n-grams."""
        found = LogitsProcessorList([MinLengthLogitsProcessor(self.min_length, end)])
        if self.unique_ngrams is not None:
            found.append(NoRepeatNGramLogitsProcessor(self.unique_ngrams))
        return found

    def log_likelihood(self, found: Found, prompt_length: int, end: int) -> float:
        """Return the log-likelihood of a found text in nats, without the length penalty."""
        if not self.refill:
            return found.score * float(((5 + len(found.ids)) / 6) ** self.length_penalty)
        length = prompt_length + len(found.ids) - (found.ids[-1:] == [end])
        return found.score * float(length**self.length_penalty)


class Found(NamedTuple):
    """A text of a row: `ids` without the prompt, and its log-likelihood divided by the length penalty."""

    score: float
    ids: list[int]


def beam_search(
    next_token: NextToken, num_rows: int, prompt: Sequence[int], end: int, search: Search
) -> list[Found]:
    """Find the likeliest continuation of a prompt for each row.

    Args:
        next_token: called with B x K texts, K in a row for each of the B rows.
        num_rows: B.
        prompt: first tokens of all texts.
        end: token that ends a text.
        search: settings.
    Returns: B texts, ending with `end` unless cut at the maximum length.
    """
    return [texts[0] for texts in best_texts(next_token, num_rows, prompt, end, search)]


def best_texts(
    next_token: NextToken, num_rows: int, prompt: Sequence[int], end: int, search: Search
) -> list[list[Found]]:
    """Find up to K likely continuations of a prompt for each row, best first; arguments as `beam_search`."""
    return (_refilled if search.refill else _freed)(next_token, num_rows, prompt, end, search)


def _freed(
    next_token: NextToken, num_rows: int, prompt: Sequence[int], end: int, search: Search
) -> list[list[Found]]:
    """Search as X²-VLM does: a text that ends leaves its beam to other texts in the next step."""
    beams, begin, processors = search.num_beams, len(prompt), search.processors(end)
    ids, score, origin = _start(num_rows, beams, prompt)
    best: list[list[Found]] = [[] for _ in range(num_rows)]
    for length in range(1, search.max_length + 1):
        logs = processors(ids[:, begin:], next_token(ids, origin).float().cpu())
        score, place = (score.flatten()[:, None] + logs).view(num_rows, -1).topk(beams)
        ids, origin = _extend(ids, place, logs.shape[1])
        ended = ids[:, -1].view_as(score) == end
        value = score / ((5 + length) / 6) ** search.length_penalty
        if length < search.max_length:
            value = value.masked_fill(~ended, -math.inf)
        for row, beam in value.isfinite().nonzero().tolist():
            best[row].append(Found(value[row, beam].item(), ids[row * beams + beam, begin:].tolist()))
        best = [sorted(texts, key=lambda it: -it.score)[:beams] for texts in best]
        score = score.masked_fill(ended, -math.inf)
        if not score.isfinite().any():
            break
    return [texts or [Found(-math.inf, [])] for texts in best]


def _refilled(
    next_token: NextToken, num_rows: int, prompt: Sequence[int], end: int, search: Search
) -> list[list[Found]]:
    """Search as transformers 4.12 does, with K beams of unfinished texts at any time."""
    beams, begin, processors = search.num_beams, len(prompt), search.processors(end)
    ids, score, origin = _start(num_rows, beams, prompt)
    ended: list[list[Found]] = [[] for _ in range(num_rows)]
    running = set(range(num_rows))
    for length in range(begin, begin + search.max_length):
        logs = processors(ids[:, begin:], next_token(ids, origin).float().cpu())
        found, place = (score.flatten()[:, None] + logs).view(num_rows, -1).topk(2 * beams)
        ends = place % logs.shape[1] == end
        value = found / length**search.length_penalty
        for row in list(running):
            for rank in ends[row, :beams].nonzero()[:, 0].tolist():
                text = ids[row * beams + place[row, rank] // logs.shape[1], begin:].tolist()
                ended[row].append(Found(value[row, rank].item(), [*text, end]))
            ended[row] = sorted(ended[row], key=lambda it: -it.score)[:beams]
            if len(ended[row]) == beams and ended[row][-1].score >= value[row, 0].item():
                running.remove(row)
        going = ends.long().argsort(dim=1, stable=True)[:, :beams]  # the best K that did not end
        score, place = found.gather(1, going), place.gather(1, going)
        ids, origin = _extend(ids, place, logs.shape[1])
        if not running:
            break
    value = score / (begin + search.max_length) ** search.length_penalty
    for row in running:
        cut = [
            Found(value[row, beam].item(), ids[row * beams + beam, begin:].tolist()) for beam in range(beams)
        ]
        ended[row] += cut
    return [sorted(texts, key=lambda it: -it.score)[:beams] for texts in ended]


def _start(num_rows: int, beams: int, prompt: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return texts [B x K, L], scores [B, K] with one text a row, and origins [B x K]."""
    ids = torch.tensor([list(prompt)]).expand(num_rows * beams, -1)
    score = torch.full((num_rows, beams), -math.inf)
    score[:, 0] = 0
    return ids, score, torch.arange(num_rows * beams)


def _extend(ids: Tensor, place: Tensor, vocab_size: int) -> tuple[Tensor, Tensor]:
    """Append the tokens of the chosen places [B, K] among K x V; return texts and the rows that they continue."""
    num_rows, beams = place.shape
    origin = (place // vocab_size + torch.arange(num_rows)[:, None] * beams).flatten()
    return torch.cat([ids[origin], (place % vocab_size).view(-1, 1)], 1), origin

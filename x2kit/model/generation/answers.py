"""Rank a list of answers, or write them, with a decoder (X²-VLM, section 4.3; ALBEF, arXiv:2107.07651). Imports torch.

Q questions, L question tokens, A answers, T answer tokens, K answers scored in full or beams, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from x2kit.errors import ShapeError
from x2kit.model.generation.beam_search import Found, Search, best_texts
from x2kit.objectives import answer_log_likelihood
from x2kit.plugin import SpecialIds, TextDecoder

ANSWERS_AT_ONCE = 1024
"""Answers that one decoder pass scores; each needs the states of its question."""


class RankedAnswers(NamedTuple):
    """The best K answers of each question, best first.

    Attributes:
        rows: [Q, K] int64, positions in the list of answers.
        probability: [Q, K] float32, sums to 1 over K.
        log_likelihood: [Q, K] float32, of the whole answers in nats.
    """

    rows: Tensor
    probability: Tensor
    log_likelihood: Tensor


@torch.inference_mode()
def rank_answers(
    decoder: TextDecoder,
    states: Tensor,
    states_mask: Tensor,
    answer_ids: Tensor,
    answer_mask: Tensor,
    num_close: int,
) -> RankedAnswers:
    """Rank the answers of a list for each question.

    The K answers with the likeliest first token are scored in full: the log-probability of the first token plus the
    log-likelihood of the whole answer, which counts the first token again (official code). Answers with the same first
    token are equally likely there; where K cuts through them, those that stand first in the list are scored, while the
    official choice depends on torch's sort.

    Args:
        decoder: of answers.
        states: [Q, L, D], fused questions.
        states_mask: [Q, L] bool.
        answer_ids: [A, T] int64, T at least 2; all begin with the same special first token.
        answer_mask: [A, T] bool.
        num_close: K (official `k_test`).
    Raises: ShapeError for fewer than K answers, or answers that begin with different tokens.
    """
    if not 0 < num_close <= len(answer_ids):
        raise ShapeError(
            f"num_close: expected 1 to {len(answer_ids)}, the number of answers, found {num_close}"
        )
    if (answer_ids[:, 0] != answer_ids[0, 0]).any():
        raise ShapeError("answers begin with different tokens; all must begin with the special first token")
    opening = answer_ids[:1, :1].expand(len(states), 1)
    logits = decoder(opening, torch.ones_like(opening, dtype=torch.bool), states, states_mask)
    likely = logits[:, 0].float().log_softmax(-1)[:, answer_ids[:, 1]]  # [Q, A]
    first, close = (
        each[:, :num_close] for each in likely.sort(dim=-1, descending=True, stable=True)
    )  # [Q, K] each
    questions = torch.split(
        torch.arange(len(states), device=states.device), max(1, ANSWERS_AT_ONCE // num_close)
    )
    whole = [
        _log_likelihood(decoder, states[q], states_mask[q], answer_ids, answer_mask, close[q])
        for q in questions
    ]
    log_likelihood = torch.cat(whole)
    score = first + log_likelihood
    probability, order = score.softmax(-1).sort(dim=-1, descending=True, stable=True)
    return RankedAnswers(close.gather(1, order), probability, log_likelihood.gather(1, order))


def _log_likelihood(
    decoder: TextDecoder,
    states: Tensor,
    states_mask: Tensor,
    answer_ids: Tensor,
    answer_mask: Tensor,
    close: Tensor,
) -> Tensor:
    """Compute the log-likelihood [Q, K] of the answers `close` [Q, K] of each question."""
    count = close.shape[1]
    ids, mask = answer_ids[close.flatten()], answer_mask[close.flatten()]  # [Q x K, T] each
    logits = decoder(ids, mask, states.repeat_interleave(count, 0), states_mask.repeat_interleave(count, 0))
    return answer_log_likelihood(logits, ids, mask).view_as(close)


@torch.inference_mode()
def write_answers(
    decoder: TextDecoder, states: Tensor, states_mask: Tensor, special: SpecialIds, search: Search
) -> list[list[Found]]:
    """Generate answers to each question by beam search.

    Args:
        decoder: of answers, in evaluation mode.
        states: [Q, L, D], fused questions.
        states_mask: [Q, L] bool.
        special: ids of the tokenizer; an answer begins with `cls` and ends with `sep`.
        search: settings; 1 beam is greedy search.
    Returns: up to `num_beams` answers for each of Q questions, best first, as token ids without `cls`, ending with
        `sep` unless cut at the maximum length.
    """
    context, context_mask = (each.repeat_interleave(search.num_beams, 0) for each in (states, states_mask))

    def next_token(ids: Tensor, origin: Tensor) -> Tensor:
        ids = ids.to(states.device)
        logits: Tensor = decoder(ids, torch.ones_like(ids, dtype=torch.bool), context, context_mask)
        return logits[:, -1].float().log_softmax(-1)

    return best_texts(next_token, len(states), [special.cls], special.sep, search)

"""Ranking a list of answers by a decoder (X²-VLM, section 4.3, as in ALBEF, arXiv:2107.07651). Imports torch.

Q questions, L question tokens, A answers, T answer tokens, K answers that are looked at closely, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from x2kit.errors import ShapeError
from x2kit.objectives import answer_log_likelihood
from x2kit.plugin import TextDecoder


class RankedAnswers(NamedTuple):
    """The best answers of each question, the best one first.

    Attributes:
        rows: [Q, K] int64, rows of the list of answers.
        probability: [Q, K] float32, adds up to 1 over these K.
    """

    rows: Tensor
    probability: Tensor


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

    The K answers whose first token is likeliest are scored in full. Their score is the log-probability of the first
    token plus the log-likelihood of the whole answer, in which the first token counts once more (official code).

    Args:
        decoder: of answers.
        states: [Q, L, D], fused questions.
        states_mask: [Q, L] bool.
        answer_ids: [A, T] int64, T at least 2; each begins with the special first token, which all have in common.
        answer_mask: [A, T] bool.
        num_close: K; all Q x K answers go through the decoder at once.
    Raises: ShapeError if there are fewer answers than are to be ranked, or if they begin with different tokens.
    """
    if not 0 < num_close <= len(answer_ids):
        raise ShapeError(f"{len(answer_ids)} answers, of which {num_close} are to be ranked")
    if (answer_ids[:, 0] != answer_ids[0, 0]).any():
        raise ShapeError("answers begin with different tokens; all must begin with the special first one")
    opening = answer_ids[:1, :1].expand(len(states), 1)
    logits = decoder(opening, torch.ones_like(opening, dtype=torch.bool), states, states_mask)
    first, close = logits[:, 0].float().log_softmax(-1)[:, answer_ids[:, 1]].topk(num_close)  # [Q, K] each
    ids, mask = answer_ids[close.flatten()], answer_mask[close.flatten()]  # [Q x K, T] each
    logits = decoder(
        ids, mask, states.repeat_interleave(num_close, 0), states_mask.repeat_interleave(num_close, 0)
    )
    score = first + answer_log_likelihood(logits, ids, mask).view_as(first)
    probability, order = score.softmax(-1).sort(-1, descending=True)
    return RankedAnswers(close.gather(1, order), probability)

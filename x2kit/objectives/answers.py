"""Losses of answers to questions: chosen from a list, or written by a decoder.

Q questions, R answers of all of them together, A answers to choose from, L tokens, V vocabulary. A question may have
several right answers, each with a weight (VQA: its share among the ten that people gave), so a loss is a sum over the
answers and a mean over the questions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from x2kit.errors import ShapeError


def chosen_answer_loss(
    logits: Tensor, labels: Tensor, questions: Tensor | None = None, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of right answers among a list (VQA by classification, NLVR2; X²-VLM, section 4.3).

    Args:
        logits: [Q, A].
        labels: [R] int64, the right answers.
        questions: [R] int64, the question of each right answer; None where each question has one, in order.
        weights: [R], how much each right answer counts; None for 1.
    Returns: scalar, nats a question.
    Raises: ShapeError if each question should have one answer and has not.
    """
    if questions is None:
        if len(labels) != len(logits):
            raise ShapeError(
                f"{len(logits)} questions and {len(labels)} answers: say which question each is of"
            )
        questions = torch.arange(len(logits), device=logits.device)
    likelihood = logits.float().log_softmax(-1)[questions, labels]
    return _mean_over_questions(likelihood, weights, len(logits))


def written_answer_loss(
    logits: Tensor, ids: Tensor, mask: Tensor, num_questions: int, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of right answers as a decoder writes them, token by token (VQA by generation).

    Args:
        logits: [R, L, V]; position i holds the logits of token i + 1, as `TextDecoder` gives them.
        ids: [R, L] int64, the right answers.
        mask: [R, L] bool.
        num_questions: Q.
        weights: [R], how much each right answer counts; None for 1.
    Returns: scalar, nats a question: tokens are summed, so long answers weigh more, as in the official code.
    """
    return _mean_over_questions(answer_log_likelihood(logits, ids, mask), weights, num_questions)


def answer_log_likelihood(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Log-likelihood of whole answers after their first token, which is given; arguments as in `written_answer_loss`.

    Returns: [R] float32, nats.
    """
    likelihood = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return likelihood.masked_fill(~mask[:, 1:], 0).sum(1)


def _mean_over_questions(likelihood: Tensor, weights: Tensor | None, num_questions: int) -> Tensor:
    if weights is not None:
        likelihood = likelihood * weights.float()
    return -likelihood.sum() / num_questions

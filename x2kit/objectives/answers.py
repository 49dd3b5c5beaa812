"""Losses of answers to questions, classified or generated.

Q questions, R correct answers of all questions, A answer classes, L tokens, V vocabulary. A question may have
several correct answers, each with a weight (VQA: its share among the ten annotators), so a loss is summed over the
answers and averaged over the questions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from x2kit.errors import ShapeError


def chosen_answer_loss(
    logits: Tensor, labels: Tensor, questions: Tensor | None = None, weights: Tensor | None = None
) -> Tensor:
    """Compute the cross-entropy of classified answers (VQA by classification, NLVR2; X²-VLM, section 4.3).

    Args:
        logits: [Q, A].
        labels: [R] int64, the correct answers.
        questions: [R] int64, the question of each correct answer; None if each question has one, in order.
        weights: [R]; None for 1.
    Returns: scalar, nats a question.
    Raises: ShapeError if `questions` is None and R differs from Q.
    """
    if questions is None:
        if len(labels) != len(logits):
            raise ShapeError(
                f"{len(logits)} questions and {len(labels)} answers; pass `questions`, the question of each answer"
            )
        questions = torch.arange(len(logits), device=logits.device)
    likelihood = logits.float().log_softmax(-1)[questions, labels]
    return _mean_over_questions(likelihood, weights, len(logits))


def written_answer_loss(
    logits: Tensor, ids: Tensor, mask: Tensor, num_questions: int, weights: Tensor | None = None
) -> Tensor:
    """Compute the token-by-token cross-entropy of generated answers (VQA by generation).

    Args:
        logits: [R, L, V]; position i predicts token i + 1, as `TextDecoder` returns them.
        ids: [R, L] int64, the correct answers.
        mask: [R, L] bool.
        num_questions: Q.
        weights: [R]; None for 1.
    Returns: scalar, nats a question; tokens are summed, so long answers weigh more, as in the official code.
    """
    return _mean_over_questions(answer_log_likelihood(logits, ids, mask), weights, num_questions)


def answer_log_likelihood(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Compute the log-likelihood of each answer after its first token; arguments as in `written_answer_loss`.

    Returns: [R] float32, nats.
    """
    likelihood = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return likelihood.masked_fill(~mask[:, 1:], 0).sum(1)


def _mean_over_questions(likelihood: Tensor, weights: Tensor | None, num_questions: int) -> Tensor:
    if weights is not None:
        likelihood = likelihood * weights.float()
    return -likelihood.sum() / num_questions

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from x2kit.errors import ShapeError
from x2kit.objectives import answer_log_likelihood, chosen_answer_loss, written_answer_loss


def of(*probabilities: float) -> list[float]:
    """Logits of these probabilities."""
    return [math.log(probability) for probability in probabilities]


def nats(probability: float) -> float:
    return -math.log(probability)


LIST = torch.tensor([of(1 / 2, 1 / 4, 1 / 4), of(1 / 8, 1 / 8, 3 / 4)])


def test_one_answer_a_question_is_plain_cross_entropy() -> None:
    assert_close(chosen_answer_loss(LIST, torch.tensor([1, 2])).item(), (nats(1 / 4) + nats(3 / 4)) / 2)


def test_classified_answers_are_weighted_and_summed_per_question() -> None:
    # the first question has two correct answers; the mean is over questions, whatever the weights add up to
    found = chosen_answer_loss(
        LIST, torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1]), torch.tensor([0.6, 0.3, 1.0])
    )
    assert_close(found.item(), (0.6 * nats(1 / 2) + 0.3 * nats(1 / 4) + nats(1 / 8)) / 2)


def test_more_answers_than_questions_without_their_questions_are_rejected() -> None:
    with pytest.raises(ShapeError, match=r"2 questions and 3 answers.*`questions`"):
        chosen_answer_loss(LIST, torch.tensor([0, 1, 0]))


# Four tokens, 0 is padding and 1 the first token; every position predicts the same.
PREDICTED = of(1 / 8, 1 / 8, 1 / 4, 1 / 2)
IDS = torch.tensor([[1, 2, 3], [1, 3, 0]])


def written(places: int = 3) -> Tensor:
    return torch.tensor(PREDICTED).expand(2, places, 4)


def test_the_likelihood_excludes_the_first_token_and_padding() -> None:
    found = answer_log_likelihood(written(), IDS, IDS != 0)
    assert_close(found, -torch.tensor([nats(1 / 4) + nats(1 / 2), nats(1 / 2)]))


def test_position_i_predicts_token_i_plus_1() -> None:
    logits = torch.tensor([[PREDICTED, of(0.1, 0.2, 0.3, 0.4), of(0.4, 0.3, 0.2, 0.1)]])
    found = answer_log_likelihood(logits, IDS[:1], torch.ones(1, 3, dtype=torch.bool))
    assert_close(found.item(), -(nats(1 / 4) + nats(0.4)))


def test_longer_padding_changes_nothing() -> None:
    longer = torch.nn.functional.pad(IDS, (0, 2))
    assert_close(
        answer_log_likelihood(written(5), longer, longer != 0),
        answer_log_likelihood(written(), IDS, IDS != 0),
    )


def test_generated_answers_are_weighted_and_summed_per_question() -> None:
    weights = torch.tensor([0.6, 0.3])
    loss = written_answer_loss(written(), IDS, IDS != 0, 1, weights)
    assert_close(loss.item(), 0.6 * (nats(1 / 4) + nats(1 / 2)) + 0.3 * nats(1 / 2))
    loss = written_answer_loss(written(), IDS, IDS != 0, 2)
    assert_close(loss.item(), (nats(1 / 4) + 2 * nats(1 / 2)) / 2)


def test_half_precision_logits_give_a_float32_loss() -> None:
    assert chosen_answer_loss(LIST.bfloat16(), torch.tensor([1, 2])).dtype == torch.float32
    assert written_answer_loss(written().bfloat16(), IDS, IDS != 0, 2).dtype == torch.float32

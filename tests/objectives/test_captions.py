"""Losses of captions on numbers worked out by hand."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch.nn import functional as F

from x2kit.objectives import leave_one_out, mean_log_probability, next_token_loss, self_critical_loss

LOGITS = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]).log()[None]


def test_without_smoothing_it_is_the_cross_entropy() -> None:
    labels = torch.tensor([[0, -100]])
    assert next_token_loss(LOGITS, labels, 0.0) == pytest.approx(-log(0.5))
    labels = torch.tensor([[1, 2]])
    assert next_token_loss(LOGITS, labels, 0.0) == pytest.approx(F.cross_entropy(LOGITS[0], labels[0]).item())


def test_smoothed_targets_weigh_every_other_token_by_its_share_of_the_vocabulary() -> None:
    expected = -(0.7 * log(0.5) + 0.1 * log(0.25) + 0.1 * log(0.25))
    assert next_token_loss(LOGITS, torch.tensor([[0, -100]]), 0.3) == pytest.approx(expected)


def test_a_batch_without_tokens_costs_nothing() -> None:
    assert next_token_loss(LOGITS, torch.full((1, 2), -100)) == 0


def test_log_probability_counts_tokens_up_to_the_first_end() -> None:
    logits, end = LOGITS.expand(2, -1, -1), 0
    found = mean_log_probability(logits, torch.tensor([[0, 2], [1, 2]]), end)
    assert found.tolist() == pytest.approx([log(0.5), (log(0.25) + log(0.8)) / 2])


def test_the_other_samples_are_the_baseline() -> None:
    assert leave_one_out(torch.tensor([[1.0, 2.0, 6.0]])).tolist() == [[4.0, 3.5, 1.5]]


def test_captions_above_the_baseline_become_likelier() -> None:
    log_probability = torch.tensor([-1.0, -2.0], requires_grad=True)
    rewards = torch.tensor([0.9, 0.1], requires_grad=True)
    loss = self_critical_loss(log_probability, rewards, torch.tensor([0.5, 0.5]))
    assert loss.item() == pytest.approx(-(-1 * 0.4 + -2 * -0.4) / 2)
    loss.backward()
    assert log_probability.grad is not None
    assert log_probability.grad.tolist() == pytest.approx([-0.2, 0.2])
    assert rewards.grad is None

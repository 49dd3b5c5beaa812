from __future__ import annotations

import math

import torch
from torch.testing import assert_close

from x2kit.objectives import mlm_loss


def test_the_loss_is_a_mean_over_all_masked_tokens_of_the_batch() -> None:
    logits = torch.zeros(2, 3, 4)
    logits[0, 0, 2] = math.log(5)  # p = 5/8
    labels = torch.tensor([[2, 1, -100], [0, -100, -100]])
    # not the mean of the rows' means: three tokens count alike
    assert_close(mlm_loss(logits, labels).item(), (math.log(8 / 5) + 2 * math.log(4)) / 3)


def test_tokens_that_are_not_masked_have_no_part() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, generator=generator, requires_grad=True)
    labels = torch.tensor([[1, -100, 4], [-100, 2, -100]])
    loss = mlm_loss(logits, labels)
    loss.backward()
    assert not logits.grad[labels == -100].any()
    assert logits.grad[labels != -100].any(-1).all()
    other = logits.detach().clone()
    other[labels == -100] = 100.0
    assert_close(mlm_loss(other, labels), loss.detach())


def test_nothing_masked_is_no_loss_and_no_gradient() -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    loss = mlm_loss(logits, torch.full((2, 3), -100))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_no_rows_are_no_loss() -> None:
    assert mlm_loss(torch.zeros(0, 3, 5), torch.zeros(0, 3, dtype=torch.int64)).item() == 0


def test_half_precision_logits_give_a_float32_loss() -> None:
    logits = torch.zeros(1, 1, 4, dtype=torch.bfloat16)
    assert mlm_loss(logits, torch.tensor([[1]])).dtype == torch.float32

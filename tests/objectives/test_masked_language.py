from __future__ import annotations

import math

import torch
from torch.testing import assert_close

from x2kit.objectives import caption_loss, mlm_loss


def test_the_loss_is_the_mean_over_all_masked_tokens_of_the_batch() -> None:
    logits = torch.zeros(2, 3, 4)
    logits[0, 0, 2] = math.log(5)  # p = 5/8
    labels = torch.tensor([[2, 1, -100], [0, -100, -100]])
    # not the mean of the rows' means: three tokens count alike
    assert_close(mlm_loss(logits, labels).item(), (math.log(8 / 5) + 2 * math.log(4)) / 3)


def test_tokens_that_are_not_masked_have_no_loss_and_no_gradient() -> None:
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


def test_a_batch_without_masked_tokens_has_no_loss_and_no_gradient() -> None:
    logits = torch.randn(2, 3, 5, requires_grad=True)
    loss = mlm_loss(logits, torch.full((2, 3), -100))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_a_batch_without_rows_has_no_loss() -> None:
    assert mlm_loss(torch.zeros(0, 3, 5), torch.zeros(0, 3, dtype=torch.int64)).item() == 0


def test_half_precision_logits_give_a_float32_loss() -> None:
    logits = torch.zeros(1, 1, 4, dtype=torch.bfloat16)
    assert mlm_loss(logits, torch.tensor([[1]])).dtype == torch.float32


# Five tokens, of which 0 is unused: 0.7 for the correct one, 0.1 for each of three others.
PROBABILITIES = torch.tensor([1 / 16, 1 / 2, 1 / 4, 1 / 8, 1 / 16])
LOGITS = PROBABILITIES.log().expand(1, 2, 5)


def captioning(labels: list[int], counts: list[int], smoothing: float = 0.3) -> float:
    return caption_loss(LOGITS, torch.tensor([labels]), torch.tensor([counts]), 0, smoothing).item()


def divergence(right: int) -> float:
    target = [0.7 if token == right else 0.1 for token in range(1, 5)]
    return sum(
        p * (math.log(p) - math.log(q)) for p, q in zip(target, PROBABILITIES[1:].tolist(), strict=True)
    )


def test_the_caption_loss_is_the_divergence_from_smoothed_labels() -> None:
    assert_close(captioning([1, 3], [1, 1]), (divergence(1) + divergence(3)) / 2, rtol=0, atol=2e-5)


def test_positions_without_a_masked_token_do_not_count_in_the_caption_loss() -> None:
    assert_close(captioning([1, 0], [1, 0]), divergence(1), rtol=0, atol=2e-5)
    assert captioning([0, 0], [0, 0]) == 0


def test_the_caption_loss_without_smoothing_is_cross_entropy() -> None:
    assert_close(
        captioning([1, 3], [1, 1], smoothing=0.0), (math.log(2) + math.log(8)) / 2, rtol=0, atol=2e-5
    )


def test_predicting_the_smoothed_labels_exactly_costs_nothing() -> None:
    logits = torch.tensor([[[-1e4, *(math.log(p) for p in (0.7, 0.1, 0.1, 0.1))]]])
    assert abs(caption_loss(logits, torch.tensor([[1]]), torch.ones(1, 1), 0, 0.3).item()) < 1e-6

from __future__ import annotations

import math

import torch
from torch.testing import assert_close

from x2kit.objectives import caption_loss

# Five tokens, of which 0 is unused: 0.7 for the right one, 0.1 for each of three others.
PROBABILITIES = torch.tensor([1 / 16, 1 / 2, 1 / 4, 1 / 8, 1 / 16])
LOGITS = PROBABILITIES.log().expand(1, 2, 5)


def loss(labels: list[int], counts: list[int], smoothing: float = 0.3) -> float:
    return caption_loss(LOGITS, torch.tensor([labels]), torch.tensor([counts]), 0, smoothing).item()


def divergence(right: int) -> float:
    target = [0.7 if token == right else 0.1 for token in range(1, 5)]
    return sum(
        p * (math.log(p) - math.log(q)) for p, q in zip(target, PROBABILITIES[1:].tolist(), strict=True)
    )


def test_the_divergence_from_smoothed_labels_by_hand() -> None:
    assert_close(loss([1, 3], [1, 1]), (divergence(1) + divergence(3)) / 2, rtol=0, atol=2e-5)


def test_places_without_a_masked_token_do_not_count() -> None:
    assert_close(loss([1, 0], [1, 0]), divergence(1), rtol=0, atol=2e-5)
    assert loss([0, 0], [0, 0]) == 0


def test_without_smoothing_it_is_cross_entropy() -> None:
    assert_close(loss([1, 3], [1, 1], smoothing=0.0), (math.log(2) + math.log(8)) / 2, rtol=0, atol=2e-5)


def test_smoothed_labels_told_exactly_cost_nothing() -> None:
    logits = torch.tensor([[[-1e4, *(math.log(p) for p in (0.7, 0.1, 0.1, 0.1))]]])
    assert abs(caption_loss(logits, torch.tensor([[1]]), torch.ones(1, 1), 0, 0.3).item()) < 1e-6

"""Text distillation: the contract, and the formula row by row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F
from x2kit_objectives import TextDistillation

from x2kit.plugin import StreamFeatures


@pytest.mark.conformance(TextDistillation())
def test_it_keeps_the_contract(conformance: Any) -> None:
    conformance()


def test_it_is_the_mean_distance_of_both_sides_to_the_teacher() -> None:
    draw = torch.Generator().manual_seed(0)
    first, second, teacher = (F.normalize(torch.randn(5, 4, generator=draw), dim=1) for _ in range(3))
    given = StreamFeatures(first, second, torch.arange(5), torch.tensor(0.1), [], teacher=teacher)
    expected = 0.0
    for row in range(5):
        expected += 1 - float(first[row] @ teacher[row]) + 1 - float(second[row] @ teacher[row])
    assert TextDistillation().build()(given).item() == pytest.approx(expected / 5, rel=1e-5)


def test_equal_embeddings_have_no_loss() -> None:
    same = F.normalize(torch.ones(3, 4), dim=1)
    given = StreamFeatures(same, same, torch.arange(3), torch.tensor(0.1), [], teacher=same)
    assert TextDistillation().build()(given).item() == pytest.approx(0, abs=1e-6)

"""The sigmoid loss: the contract, the formula pair by pair, and what it does with groups and the bias."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from x2kit_objectives import SigmoidContrastive

from x2kit.plugin import StreamFeatures


@pytest.mark.conformance(SigmoidContrastive())
def test_it_keeps_the_contract(conformance: Any) -> None:
    conformance()


def features(rows: int = 5, group: list[int] | None = None) -> StreamFeatures:
    draw = torch.Generator().manual_seed(0)
    first, second = (F.normalize(torch.randn(rows, 4, generator=draw), dim=1) for _ in range(2))
    return StreamFeatures(first, second, torch.tensor(group or range(rows)), torch.tensor(0.1), [])


@pytest.mark.parametrize("group", [None, [0, 1, 0, 3, 3]])
@pytest.mark.parametrize("bias", [-10.0, 0.0, None])
def test_it_is_the_sum_over_pairs_written_out(bias: float | None, group: list[int] | None) -> None:
    given = features(group=group)
    used = math.log(1 / 4) if bias is None else bias
    total = 0.0
    for image in range(5):
        for text in range(5):
            logit = float(given.first[image] @ given.second[text]) / 0.1 + used
            sign = 1 if given.group[image] == given.group[text] else -1
            total += math.log1p(math.exp(-sign * logit))
    found = SigmoidContrastive(bias=bias).build()(given)
    assert found.item() == pytest.approx(total / 5, rel=1e-5)


def test_one_pair_has_a_loss_too() -> None:
    assert math.isfinite(SigmoidContrastive().build()(features(1)).item())

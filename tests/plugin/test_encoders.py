from __future__ import annotations

import pytest
import torch
from torch import Tensor

from x2kit.plugin import Context, VisionEncoder, VisionFeatures


@pytest.fixture
def tokens() -> Tensor:
    return torch.arange(12.0).view(2, 3, 2)


def test_the_plain_form_repeats_each_context_for_its_rows(tokens: Tensor) -> None:
    plain, mask = Context(tokens, torch.tensor([1, 0, 1])).expand()
    assert torch.equal(plain, torch.stack([tokens[1], tokens[0], tokens[1]]))
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[True] * 3] * 3


def test_the_plain_form_keeps_the_mask_of_each_row(tokens: Tensor) -> None:
    wanted = torch.tensor([[True, False, False], [False, True, True]])
    plain, mask = Context(tokens, torch.tensor([1, 1]), wanted).expand()
    assert torch.equal(plain, tokens[[1, 1]])
    assert torch.equal(mask, wanted)


@pytest.mark.parametrize("masked", [True, False])
def test_the_row_s_own_summary_stands_in_front_and_is_always_visible(tokens: Tensor, masked: bool) -> None:
    lead = torch.tensor([[[-1.0, -2.0]], [[-3.0, -4.0]]])
    wanted = torch.zeros(2, 3, dtype=torch.bool) if masked else None
    plain, mask = Context(tokens, torch.tensor([0, 1]), wanted, lead).expand()
    assert torch.equal(plain, torch.cat([lead, tokens], 1))
    assert mask.tolist() == [[True, *([not masked] * 3)]] * 2


def test_gradients_of_rows_that_share_a_context_add_up(tokens: Tensor) -> None:
    tokens.requires_grad_()
    plain, _ = Context(tokens, torch.tensor([0, 0, 1])).expand()
    plain.sum().backward()
    assert tokens.grad is not None
    assert tokens.grad[:, 0, 0].tolist() == [2, 1]


def test_a_region_is_the_mean_of_its_patches() -> None:
    patches = torch.arange(16.0).view(2, 4, 2)
    features = VisionFeatures(torch.zeros(2, 2), patches, (2, 2))
    mask = torch.tensor([[True, False, False, True], [False, True, False, False]])
    pooled = VisionEncoder.pool_regions(VisionEncoder(), features, torch.tensor([1, 0]), mask)
    assert pooled.tolist() == [[11.0, 12.0], [2.0, 3.0]]

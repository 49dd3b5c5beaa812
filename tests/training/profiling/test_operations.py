"""What a step computes is counted, attention too: against counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from x2kit.training.profiling.costs import count_operations

B, H, L, N, D = 2, 3, 5, 7, 8


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_two_products_forward_and_five_backward(masked: bool) -> None:
    query = torch.randn(B, H, L, D, requires_grad=True)
    key, value = (torch.randn(B, H, N, D, requires_grad=True) for _ in range(2))
    mask = torch.ones(B, 1, L, N, dtype=torch.bool) if masked else None
    product = 2 * B * H * L * N * D
    with count_operations() as forward:
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    assert forward.get_total_flops() == 2 * product
    with count_operations() as backward:
        out.sum().backward()
    assert backward.get_total_flops() == 5 * product


def test_a_learned_bias_is_counted_too() -> None:
    """Its gradient is not known to the fused kernel, so products are apart, and scores are not made again."""
    query, key, value = (torch.randn(B, H, L, D, requires_grad=True) for _ in range(3))
    bias = torch.zeros(1, H, L, L, requires_grad=True)
    with count_operations() as counter:
        F.scaled_dot_product_attention(query, key, value, attn_mask=bias).sum().backward()
    assert counter.get_total_flops() == 6 * (2 * B * H * L * L * D)


def test_a_layer_is_one_product_forward_and_two_backward() -> None:
    layer = nn.Linear(D, 4 * D)
    inputs = torch.randn(B, L, D, requires_grad=True)
    with count_operations() as counter:
        layer(inputs).sum().backward()
    assert counter.get_total_flops() == 3 * (2 * B * L * D * 4 * D)

"""Floating point operations of what runs inside: matrix products, convolutions and attention. Imports torch."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

Shape = tuple[int, ...]


def count_operations() -> FlopCounterMode:
    """A context that counts, in `get_total_flops()`; torch's own one passes over the attention kernel of CPUs."""
    aten = torch.ops.aten
    of_cpus = {
        aten._scaled_dot_product_flash_attention_for_cpu: _forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
    }
    return FlopCounterMode(display=False, custom_mapping=of_cpus)


def _forward(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Scores, then the mean of the values; [B, H, L, D] each."""
    return _pairs(query, key) * 2 * (query[-1] + value[-1])


def _backward(gradient: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Scores once more, and the gradients of scores, values, queries and keys."""
    return _pairs(query, key) * 2 * (3 * query[-1] + 2 * value[-1])


def _pairs(query: Shape, key: Shape) -> int:
    batch, heads, length, _ = query
    return batch * heads * length * key[-2]

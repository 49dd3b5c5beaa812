"""Picking rows of shared tensors, with a backward pass that is fast on every device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shared: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.count = len(shared)
        return shared.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        if gradient.device.type != "cpu":
            out = gradient.new_zeros((ctx.count, *gradient.shape[1:]))
            return out.index_add_(0, rows, gradient), None
        # index_add_ on CPU adds row after row on one thread; a one-hot product uses all of them.
        one_hot = torch.zeros(ctx.count, len(rows), dtype=gradient.dtype)
        one_hot[rows, torch.arange(len(rows))] = 1
        flat = gradient.reshape(
            len(rows), gradient.shape[1:].numel()
        )  # not -1, which is ambiguous for no rows
        return (one_hot @ flat).view(ctx.count, *gradient.shape[1:]), None


def gather_rows(shared: Tensor, rows: Tensor) -> Tensor:
    """`shared[rows]`: [M, ...] and [B] int64 give [B, ...]."""
    return _GatherRows.apply(shared, rows)  # type: ignore[no-any-return,no-untyped-call]

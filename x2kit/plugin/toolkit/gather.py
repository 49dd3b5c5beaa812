"""Gather rows of shared tensors, with a fast backward pass on every device. Imports torch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shared: Tensor, rows: Tensor, lead: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.count, ctx.leads = shared.shape[0], 0 if lead is None else lead.shape[-2]
        return shared.index_select(0, rows) if lead is None else _with_lead(shared, rows, lead)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor | None]:
        (rows,) = ctx.saved_tensors
        of_shared = _scatter_sum(gradient, rows, ctx.count)
        if not ctx.leads:
            return of_shared, None, None
        return of_shared[..., ctx.leads :, :], None, gradient[..., : ctx.leads, :]


def _with_lead(shared: Tensor, rows: Tensor, lead: Tensor) -> Tensor:
    """Gather from one table of shared rows and leads: one copy instead of a gather and a concatenation."""
    count, *between, length, width = shared.shape
    parts = math.prod(between)  # attention heads, if they precede the tokens
    table = torch.cat([shared.reshape(-1, width), lead.reshape(-1, width)])
    part = torch.arange(parts, device=rows.device)
    tokens = (rows[:, None, None] * parts + part[:, None]) * length + torch.arange(length, device=rows.device)
    leads = torch.arange(count * parts * length, table.shape[0], device=rows.device)
    leads = leads.view(-1, parts, lead.shape[-2])
    picked = table.index_select(0, torch.cat([leads, tokens], 2).flatten())
    return picked.view(rows.shape[0], *between, lead.shape[-2] + length, width)


def _scatter_sum(gradient: Tensor, rows: Tensor, count: int) -> Tensor:
    """Sum gradients [B, ...] by row into [count, ...]."""
    if gradient.device.type != "cpu":
        # On CUDA the order of sums varies, unless torch.use_deterministic_algorithms (training.deterministic) is on.
        return gradient.new_zeros((count, *gradient.shape[1:])).index_add_(0, rows, gradient)
    # index_add_ runs on one CPU thread; a product with a one-hot matrix uses all of them.
    one_hot = torch.zeros(count, len(rows), dtype=gradient.dtype)
    one_hot[rows, torch.arange(len(rows))] = 1
    flat = gradient.reshape(len(rows), gradient.shape[1:].numel())  # -1 is ambiguous for zero rows
    return (one_hot @ flat).view(count, *gradient.shape[1:])


def gather_rows(shared: Tensor, rows: Tensor, lead: Tensor | None = None) -> Tensor:
    """Gather `shared[rows]`: [M, ...] and [B] int64 give [B, ...].

    Args:
        shared: [M, ...].
        rows: [B] int64.
        lead: [B, K, D], K tokens per row, usually one, prepended: from [M, N, D] to [B, K + N, D]. Axes in between,
            such as attention heads, are kept: [M, H, N, D] and [B, H, K, D] give [B, H, K + N, D].
    """
    return _GatherRows.apply(shared, rows, lead)  # type: ignore[no-any-return,no-untyped-call]

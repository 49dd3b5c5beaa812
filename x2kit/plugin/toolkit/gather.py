"""Picking rows of shared tensors, with a backward pass that is fast on every device."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shared: Tensor, rows: Tensor, lead: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.count, ctx.is_rank_zero = len(shared), lead is not None
        return shared.index_select(0, rows) if lead is None else _with_lead(shared, rows, lead)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, Tensor | None]:
        (rows,) = ctx.saved_tensors
        of_shared = _added_up(gradient, rows, ctx.count)
        if not ctx.is_rank_zero:
            return of_shared, None, None
        return of_shared[..., 1:, :], None, gradient[..., :1, :]


def _with_lead(shared: Tensor, rows: Tensor, lead: Tensor) -> Tensor:
    """One copy from a table of all that there is; gathering first and joining then would be two."""
    count, *between, length, width = shared.shape
    parts = math.prod(between)  # attention heads, where they stand before the tokens
    table = torch.cat([shared.reshape(-1, width), lead.reshape(-1, width)])
    part = torch.arange(parts, device=rows.device)
    tokens = (rows[:, None, None] * parts + part[:, None]) * length + torch.arange(length, device=rows.device)
    leads = torch.arange(count * parts * length, len(table), device=rows.device).view(-1, parts, 1)
    picked = table.index_select(0, torch.cat([leads, tokens], 2).flatten())
    return picked.view(len(rows), *between, 1 + length, width)


def _added_up(gradient: Tensor, rows: Tensor, count: int) -> Tensor:
    """[B, ...] to [count, ...]: the sum of what each picked row got."""
    if gradient.device.type != "cpu":
        # On CUDA rows are added in any order, unless torch.use_deterministic_algorithms (training.deterministic) is on.
        return gradient.new_zeros((count, *gradient.shape[1:])).index_add_(0, rows, gradient)
    # index_add_ on CPU adds row after row on one thread; a one-hot product uses all of them.
    one_hot = torch.zeros(count, len(rows), dtype=gradient.dtype)
    one_hot[rows, torch.arange(len(rows))] = 1
    flat = gradient.reshape(len(rows), gradient.shape[1:].numel())  # not -1, which is ambiguous for no rows
    return (one_hot @ flat).view(count, *gradient.shape[1:])


def gather_rows(shared: Tensor, rows: Tensor, lead: Tensor | None = None) -> Tensor:
    """`shared[rows]`: [M, ...] and [B] int64 give [B, ...].

    Args:
        shared: [M, ...].
        rows: [B] int64.
        lead: [B, 1, D] of the rows' own, put in front of the tokens: of [M, N, D] that gives [B, 1 + N, D]. Axes
            between, as attention heads are, stay: [M, H, N, D] and [B, H, 1, D] give [B, H, 1 + N, D].
    """
    return _GatherRows.apply(shared, rows, lead)  # type: ignore[no-any-return,no-untyped-call]

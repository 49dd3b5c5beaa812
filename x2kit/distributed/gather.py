"""Gather rows from all ranks with a gradient, for the contrastive loss. Imports torch.

The loss stays a pure function; with several ranks the caller gathers first.

    image, text, group = gather_over_processes(image, text, group)
    loss = itc_loss(contrastive_logits(image, text, temperature), group)

Every rank then has the loss of the whole batch. The gradient of its own rows is one of:

- `exact`: the sum of the gradients of all ranks' losses. With parameter gradients averaged over ranks, as in
  data-parallel training, it equals the gradient of one process with the whole batch.
- `official`: the gradient of the rank's own loss, as in AllGather of the official code (X2-VLM repository,
  models/xvlm.py). The average then divides the encoders' contrastive gradient by the number of ranks, but not the
  gradient of the temperature, which is not gathered.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from x2kit.errors import ShapeError

GatherGradient = Literal["exact", "official"]


def gather_over_processes(
    *rows: Tensor, gradient: GatherGradient = "exact", processes: distributed.ProcessGroup | None = None
) -> tuple[Tensor, ...]:
    """Concatenate the rows of all ranks in rank order; return the tensors themselves without other ranks.

    Every rank must call this, and backward through it, equally often and in the same order.

    Args:
        rows: tensors [B, ...] with matching rows, such as features and groups; B may differ between ranks, the other
            dimensions and the dtype may not. Group numbers must mean the same on all ranks. Integer and bool tensors
            get no gradient.
        gradient: `exact` or `official`, see the module.
        processes: the process group; by default the one of `torch.distributed`.
    Returns: one tensor [sum of all B, ...] for each input.
    Raises: ShapeError if the tensors differ in B.
    """
    if len({len(tensor) for tensor in rows}) > 1:
        raise ShapeError(f"tensors to gather must have equally many rows, found {[len(t) for t in rows]}")
    if not rows or not distributed.is_initialized() or distributed.get_world_size(processes) == 1:
        return rows
    gathered: tuple[Tensor, ...] = _Gather.apply(gradient, processes, *rows)  # type: ignore[no-untyped-call]
    return gathered


class _Gather(torch.autograd.Function):
    """Gather all tensors in one graph node, so that every rank communicates in the same order."""

    @staticmethod
    def forward(
        ctx: Any, gradient: GatherGradient, group: distributed.ProcessGroup | None, *rows: Tensor
    ) -> tuple[Tensor, ...]:
        counts = _row_counts(rows[0], group)
        before = sum(counts[: distributed.get_rank(group)])
        ctx.gradient, ctx.group = gradient, group
        ctx.own = slice(before, before + len(rows[0]))
        return tuple(_all_gather(tensor, counts, group) for tensor in rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *(_own_gradient(ctx, gradient) for gradient in gradients))


def _own_gradient(ctx: Any, gradient: Tensor) -> Tensor | None:
    """Return the part of the gathered gradient that belongs to this rank's rows."""
    if not gradient.is_floating_point():
        return None
    if ctx.gradient == "exact":
        gradient = gradient.contiguous().clone()  # all_reduce writes in place; autograd may share its tensors
        distributed.all_reduce(gradient, group=ctx.group)
    return gradient[ctx.own]


def _row_counts(rows: Tensor, group: distributed.ProcessGroup | None) -> list[int]:
    own = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(own) for _ in range(distributed.get_world_size(group))]
    distributed.all_gather(counts, own, group=group)
    return torch.cat(counts).tolist()


def _all_gather(rows: Tensor, counts: list[int], group: distributed.ProcessGroup | None) -> Tensor:
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))  # all_gather needs equal shapes
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded, group=group)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

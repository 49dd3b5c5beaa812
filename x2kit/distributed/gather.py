"""Rows of all processes side by side, so that the contrastive loss sees the whole batch. Imports torch.

The loss stays a pure function: who has several processes gathers first.

    image, text, group = gather_over_processes(image, text, group)
    loss = itc_loss(contrastive_logits(image, text, temperature), group)

Every process then has the loss of the whole batch. What each gets back for its own rows is a choice:

- `exact`: the sum of what all processes' losses say about these rows. With parameter gradients averaged over
  processes, as data-parallel training does, it is the gradient that one process with the whole batch has.
- `official`: what the process's own loss says, as the AllGather of the official code (X2-VLM repository,
  models/xvlm.py) has it. The average then divides the encoders' contrastive gradient by the number of processes,
  but not that of the temperature, which no gathering touches.
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
    """The rows of all processes, in the order of their ranks; the same tensors where there is one process.

    Every process has to call this, and backward through it, as often as the others and in the same order.

    Args:
        rows: tensors [B, ...] of rows that belong together, such as features and groups; B may differ between
            processes, the rest of the shape and the dtype may not. Numbers of groups have to mean the same in
            all processes. Whole numbers and bool get no gradient.
        gradient: see above.
        processes: who takes part; by default all that torch.distributed was started with.
    Returns: a tensor [sum of all B, ...] for each given one.
    Raises: ShapeError if the tensors differ in B.
    """
    if len({len(tensor) for tensor in rows}) > 1:
        raise ShapeError(f"rows to gather must be as many in each tensor, found {[len(t) for t in rows]}")
    if not rows or not distributed.is_initialized() or distributed.get_world_size(processes) == 1:
        return rows
    gathered: tuple[Tensor, ...] = _Gather.apply(gradient, processes, *rows)  # type: ignore[no-untyped-call]
    return gathered


class _Gather(torch.autograd.Function):
    """All tensors in one node of the graph: the order of messages is then the same in every process."""

    @staticmethod
    def forward(
        ctx: Any, gradient: GatherGradient, processes: distributed.ProcessGroup | None, *rows: Tensor
    ) -> tuple[Tensor, ...]:
        counts = _counts(rows[0], processes)
        before = sum(counts[: distributed.get_rank(processes)])
        ctx.gradient, ctx.processes = gradient, processes
        ctx.own = slice(before, before + len(rows[0]))
        return tuple(_gathered(tensor, counts, processes) for tensor in rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *(_own_gradient(ctx, gradient) for gradient in gradients))


def _own_gradient(ctx: Any, gradient: Tensor) -> Tensor | None:
    """The part of a gradient of all rows that is for the rows of this process."""
    if not gradient.is_floating_point():
        return None
    if ctx.gradient == "exact":
        gradient = (
            gradient.contiguous().clone()
        )  # the sum is written in place, and autograd may share what it gave
        distributed.all_reduce(gradient, group=ctx.processes)
    return gradient[ctx.own]


def _counts(rows: Tensor, processes: distributed.ProcessGroup | None) -> list[int]:
    """How many rows each process has."""
    own = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(own) for _ in range(distributed.get_world_size(processes))]
    distributed.all_gather(counts, own, group=processes)
    return torch.cat(counts).tolist()


def _gathered(rows: Tensor, counts: list[int], processes: distributed.ProcessGroup | None) -> Tensor:
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))  # messages have to be of one length
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded, group=processes)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

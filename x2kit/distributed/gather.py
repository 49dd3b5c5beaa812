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

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from x2kit.errors import ShapeError

GatherGradient = Literal["exact", "official"]

ALL_GATHER = "all_gather_single" if hasattr(distributed, "all_gather_single") else "all_gather_into_tensor"
"""Name of the function of torch.distributed; the second one is the older, which torch 2.13 warns of."""


def gather_over_processes(
    *rows: Tensor,
    gradient: GatherGradient = "exact",
    processes: distributed.ProcessGroup | None = None,
    counts: Sequence[int] | None = None,
) -> tuple[Tensor, ...]:
    """Concatenate the rows of all ranks in rank order; return the tensors themselves without other ranks.

    Every rank must call this, and backward through it, equally often and in the same order.

    Args:
        rows: tensors [B, ...] with matching rows, such as features and groups; B may differ between ranks, the other
            dimensions and the dtype may not. Group numbers must mean the same on all ranks. Integer and bool tensors
            get no gradient.
        gradient: `exact` or `official`, see the module.
        processes: the process group; by default the one of `torch.distributed`.
        counts: B of each rank; by default the ranks exchange them, which waits for the device.
    Returns: one tensor [sum of all B, ...] for each input.
    Raises: ShapeError if the tensors differ in B.
    """
    if len({len(tensor) for tensor in rows}) > 1:
        raise ShapeError(f"tensors to gather must have equally many rows, found {[len(t) for t in rows]}")
    if not rows or not distributed.is_initialized() or distributed.get_world_size(processes) == 1:
        return rows
    counts = _row_counts(rows[0], processes) if counts is None else list(counts)
    gathered: tuple[Tensor, ...] = _Gather.apply(gradient, processes, counts, *rows)  # type: ignore[no-untyped-call]
    return gathered


def as_bytes(rows: Tensor) -> Tensor:
    """View rows [B, ...] as [B, bytes] uint8: not every backend sends every dtype."""
    return rows.reshape(len(rows), rows.shape[1:].numel()).contiguous().view(torch.uint8)


def unpack(packed: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Split rows [B, bytes] uint8 into tensors [B, ...] with the dtypes and further dimensions of `like`."""
    sizes = [each.shape[1:].numel() * each.element_size() for each in like]
    parts = torch.split(packed, sizes, 1)
    return [
        part.contiguous().view(each.dtype).view(len(packed), *each.shape[1:])
        for part, each in zip(parts, like, strict=True)
    ]


class _Gather(torch.autograd.Function):
    """Gather all tensors in one message, so that every rank communicates in the same order."""

    @staticmethod
    def forward(
        ctx: Any,
        gradient: GatherGradient,
        group: distributed.ProcessGroup | None,
        counts: list[int],
        *rows: Tensor,
    ) -> tuple[Tensor, ...]:
        before = sum(counts[: distributed.get_rank(group)])
        ctx.gradient, ctx.group = gradient, group
        ctx.own = slice(before, before + len(rows[0]))
        packed = torch.cat([as_bytes(tensor) for tensor in rows], 1)
        longest = max(counts)
        padded = F.pad(packed, (0, 0, 0, longest - len(packed)))  # all_gather needs equal shapes
        received = padded.new_empty(len(counts) * longest, padded.shape[1])
        getattr(distributed, ALL_GATHER)(received, padded, group=group)
        parts = received.view(len(counts), longest, -1).unbind()
        together = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
        return tuple(unpack(together, rows))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        learned = [gradient for gradient in gradients if gradient.is_floating_point()]
        if ctx.gradient == "exact":
            learned = _summed(learned, ctx.group)
        of_rows = iter(learned)
        own = (next(of_rows)[ctx.own] if each.is_floating_point() else None for each in gradients)
        return (None, None, None, *own)


def _summed(gradients: Sequence[Tensor], group: distributed.ProcessGroup | None) -> list[Tensor]:
    """Sum tensors [B, ...] over the ranks, with one message for each dtype."""
    summed: dict[int, Tensor] = {}
    for dtype in dict.fromkeys(gradient.dtype for gradient in gradients):
        alike = {number: each for number, each in enumerate(gradients) if each.dtype == dtype}
        flat = torch.cat([each.flatten() for each in alike.values()])
        distributed.all_reduce(flat, group=group)
        parts = torch.split(flat, [each.numel() for each in alike.values()])
        summed |= {
            number: part.view_as(each) for (number, each), part in zip(alike.items(), parts, strict=True)
        }
    return [summed[number] for number in range(len(gradients))]


def _row_counts(rows: Tensor, group: distributed.ProcessGroup | None) -> list[int]:
    own = torch.tensor([len(rows)], device=rows.device)
    counts = own.new_empty(distributed.get_world_size(group))
    getattr(distributed, ALL_GATHER)(counts, own, group=group)
    found: list[int] = counts.tolist()
    return found

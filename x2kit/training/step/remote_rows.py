"""What the processes of a run do together in a step, so that its losses are those of one process. Imports torch.

Each process encodes its own rows. Between the encoders and the losses it

- gathers the projected features of all rows for the contrastive loss;
- fetches the rows that are its hard negatives from the processes that have them, gradients going back the same way;
- weighs its mean of every other loss by its share of the rows that count.

Gradients are averaged over the processes afterwards (DDP, FSDP2). With weights that add up to their number, the average
is the gradient of the whole batch, and the mean of the processes' losses its loss.

B rows of one process, W rows of all, n rows that are fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable
from torch.distributed import ProcessGroup

from x2kit.data.pipeline.batch import Whole
from x2kit.distributed.processes import Processes
from x2kit.objectives import GatherGradient, gather_over_processes
from x2kit.plugin import VisionFeatures


@dataclass(frozen=True)
class RankExchange:
    """The processes of a training, seen from one of them.

    Attributes:
        processes: rank and number.
        tensors: the group that tensors are exchanged in. None but these messages go there, so that their order is the
            same in all processes whatever the gradients on their way do.
        gather_gradient: see `x2kit.distributed.gather`.
        negatives: whether hard negatives are drawn from all rows, or from those of the process.
        generator: draws them. All processes draw from the same numbers, so that they agree where rows are global.
    """

    processes: Processes
    tensors: ProcessGroup
    gather_gradient: GatherGradient
    negatives: Literal["global", "local"]
    generator: torch.Generator

    def of_all(self, whole: Whole, *features: Tensor) -> tuple[Tensor, ...]:
        """Features [B, E] of the rows of all processes, in the order of one process: [W, E]."""
        gathered = gather_over_processes(*features, gradient=self.gather_gradient, processes=self.tensors)
        return tuple(tensor.index_select(0, whole.order) for tensor in gathered)

    def weights(self, counts: Mapping[tuple[str, str], Tensor]) -> dict[tuple[str, str], Tensor]:
        """What the process's mean over so many rows is to be multiplied by; 0 where it has none.

        Args:
            counts: scalars, by stream and loss; the same keys in all processes.
        """
        if not counts:
            return {}
        own = torch.stack([count.double() for count in counts.values()])
        of_all = own.clone()
        distributed.all_reduce(of_all, group=self.tensors)
        return dict(zip(counts, own * self.processes.count / of_all.clamp_min(1), strict=True))

    def fetch(self, rank: Tensor, row: Tensor) -> RowRequest:
        """Ask other processes for rows of theirs.

        Args:
            rank: [n] int64, who has each.
            row: [n] int64, its number there.
        """
        order = rank.argsort(stable=True)
        wanted = torch.bincount(rank, minlength=self.processes.count).cpu()
        asked = torch.empty_like(wanted)
        # Numbers go the way of messages, and lie where they are needed: in main memory.
        distributed.all_to_all_single(asked, wanted, group=self.processes.messages)
        receive, send = wanted.tolist(), asked.tolist()
        rows = torch.empty(sum(send), dtype=torch.int64)
        distributed.all_to_all_single(rows, row[order].cpu(), send, receive, group=self.processes.messages)
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        return RowRequest(rows.to(row.device), back, send, receive, self.tensors)


class RowRequest(NamedTuple):
    """Rows on their way between processes.

    Attributes:
        asked: [m] int64, own rows that others want, by rank.
        back: [n] int64, where each row that this process wants stands among those that come, by rank.
        send, receive: how many rows go to and come from each process.
        group: the way they go.
    """

    asked: Tensor
    back: Tensor
    send: list[int]
    receive: list[int]
    group: ProcessGroup

    def of(self, table: Tensor) -> Tensor:
        """The wanted rows of a table that every process has: [B, ...] gives [n, ...]."""
        if not table.is_floating_point():
            return _moved(table[self.asked], self.receive, self.send, self.group)[self.back]
        fetched: Tensor = _Fetch.apply(table, self)  # type: ignore[no-untyped-call]
        return fetched


class _Fetch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, wanted: RowRequest) -> Tensor:
        ctx.wanted, ctx.rows = wanted, len(table)
        come = _moved(table.index_select(0, wanted.asked), wanted.receive, wanted.send, wanted.group)
        return come.index_select(0, wanted.back)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        wanted = ctx.wanted
        come = torch.empty_like(gradient).index_copy_(0, wanted.back, gradient)
        returned = _moved(come, wanted.send, wanted.receive, wanted.group)
        of_table = gradient.new_zeros((ctx.rows, *gradient.shape[1:]))
        return of_table.index_add_(0, wanted.asked, returned), None


def _moved(rows: Tensor, receive: list[int], send: list[int], group: ProcessGroup) -> Tensor:
    """Rows by rank of who gets them, to rows by rank of who had them."""
    come = rows.new_empty((sum(receive), *rows.shape[1:]))
    # As bytes: not every way knows every dtype.
    distributed.all_to_all_single(_bytes(come), _bytes(rows.contiguous()), receive, send, group=group)
    return come


def _bytes(rows: Tensor) -> Tensor:
    """[B, ...] to [B, bytes], the same memory."""
    flat = rows.reshape(len(rows), rows.shape[1:].numel())
    return flat.view(torch.uint8)


class FetchedRows(NamedTuple):
    """Rows of other processes, behind the own ones, in what a stream looks at.

    Attributes:
        tables: each [B + n, ...], in the order in which they were given.
        numbers: maps numbers of the whole to numbers in the tables, [W] int64; -1 for what was not fetched.
        foreign: [n] int64, numbers in the whole of what was fetched.
    """

    tables: list[Tensor]
    numbers: Tensor
    foreign: Tensor


def fetch_rows(partners: RankExchange, whole: Whole, needed: Tensor, tables: list[Tensor]) -> FetchedRows:
    """Fetch what is needed of other processes, each row once.

    Args:
        whole: of the stream.
        needed: numbers in the whole, any number of times.
        tables: [B, ...] of the own rows.
    """
    own = partners.processes.rank
    numbers = torch.full_like(whole.rank, -1)
    numbers[whole.numbers] = torch.arange(len(whole.numbers), device=numbers.device)
    foreign = torch.unique(needed[whole.rank[needed] != own])
    numbers[foreign] = torch.arange(len(foreign), device=numbers.device) + len(whole.numbers)
    wanted = partners.fetch(whole.rank[foreign], whole.row[foreign])
    return FetchedRows([torch.cat([table, wanted.of(table)]) for table in tables], numbers, foreign)


def fetch_image_rows(
    partners: RankExchange, whole: Whole, needed: Tensor, features: VisionFeatures
) -> tuple[VisionFeatures, Tensor]:
    """Fetch the images of rows of other processes, each once, behind those that are there.

    Args:
        whole: of the stream.
        needed: [n] numbers in the whole, all of other processes.
        features: [M] of the own images, and perhaps of some that were fetched before.
    Returns: features of more images, and which of them each row's is: [n] int64.
    """
    owners = torch.stack([whole.rank[needed], whole.image[needed]], 1)
    distinct, which = torch.unique(owners, dim=0, return_inverse=True)
    wanted = partners.fetch(distinct[:, 0], distinct[:, 1])
    before = len(features.patches)
    more = VisionFeatures(
        torch.cat([features.summary, wanted.of(features.summary)]),
        torch.cat([features.patches, wanted.of(features.patches)]),
        features.grid,
    )
    return more, which + before

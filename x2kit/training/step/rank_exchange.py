"""Exchange features, rows and row counts between the ranks of a step. Imports torch.

Each rank encodes its own rows. Between the encoders and the losses, the ranks

- gather the projected features of all rows for the contrastive loss;
- fetch hard negatives that another rank encoded, whose gradients return by the same path;
- weight their mean of every other loss by their share of the rows that count.

DDP or FSDP2 then averages the gradients over the ranks. As the weights sum to the number of ranks, the average is the
gradient of the whole batch, and the mean of the ranks' losses its loss.

B rows of one rank, W rows of all ranks, n rows to fetch, m rows to send.
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
    """Collectives of a training step, seen from one rank.

    Attributes:
        processes: rank, number of ranks, and the group of index messages.
        tensors: group of tensor messages. No gradient reduction uses it, so its messages have one order on all ranks.
        gather_gradient: see `x2kit.distributed.gather`.
        negatives: draw hard negatives from all rows, or from those of the rank.
        generator: draws them; seeded alike on all ranks, so that global draws agree.
        equal_calls: every rank must call every module equally often, since their parameters are sharded.
    """

    processes: Processes
    tensors: ProcessGroup
    gather_gradient: GatherGradient
    negatives: Literal["global", "local"]
    generator: torch.Generator
    equal_calls: bool = False

    def gather_features(self, whole: Whole, *features: Tensor) -> tuple[Tensor, ...]:
        """Gather features [B, E] of all ranks in the row order of a run of one rank: [W, E]."""
        gathered = gather_over_processes(*features, gradient=self.gather_gradient, processes=self.tensors)
        return tuple(tensor.index_select(0, whole.order) for tensor in gathered)

    def loss_weights(self, counts: Mapping[tuple[str, str], Tensor]) -> dict[tuple[str, str], Tensor]:
        """Compute the factor of this rank's mean of each loss; 0 where the rank has no row.

        Args:
            counts: rows of this rank by stream and loss, scalars; the same keys on all ranks.
        """
        if not counts:
            return {}
        local = torch.stack([count.double() for count in counts.values()])
        total = local.clone()
        distributed.all_reduce(total, group=self.tensors)
        return dict(zip(counts, local * self.processes.count / total.clamp_min(1), strict=True))

    def request(self, rank: Tensor, row: Tensor) -> RowRequest:
        """Ask other ranks for rows.

        Args:
            rank: [n] int64, the owner of each row.
            row: [n] int64, the row's number on its owner.
        """
        order = rank.argsort(stable=True)
        wanted = torch.bincount(rank, minlength=self.processes.count).cpu()
        requested = torch.empty_like(wanted)
        # Row numbers go over gloo, in CPU memory, like all messages.
        distributed.all_to_all_single(requested, wanted, group=self.processes.messages)
        receive, send = wanted.tolist(), requested.tolist()
        rows = torch.empty(sum(send), dtype=torch.int64)
        distributed.all_to_all_single(rows, row[order].cpu(), send, receive, group=self.processes.messages)
        positions = torch.empty_like(order)
        positions[order] = torch.arange(len(order), device=order.device)
        return RowRequest(rows.to(row.device), positions, send, receive, self.tensors)


class RowRequest(NamedTuple):
    """Rows that each rank sends and receives.

    Attributes:
        rows: [m] int64, local rows that other ranks requested, by rank.
        positions: [n] int64, the position of each requested row among those received, which are by rank.
        send, receive: numbers of rows to and from each rank.
        group: of the tensor messages.
    """

    rows: Tensor
    positions: Tensor
    send: list[int]
    receive: list[int]
    group: ProcessGroup

    def fetch(self, table: Tensor) -> Tensor:
        """Fetch the requested rows of a table that every rank has: [B, ...] to [n, ...]."""
        if not table.is_floating_point():
            return _all_to_all(table[self.rows], self.receive, self.send, self.group)[self.positions]
        fetched: Tensor = _Fetch.apply(table, self)  # type: ignore[no-untyped-call]
        return fetched


class _Fetch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, request: RowRequest) -> Tensor:
        ctx.request, ctx.num_rows = request, len(table)
        sent = table.index_select(0, request.rows)
        received = _all_to_all(sent, request.receive, request.send, request.group)
        return received.index_select(0, request.positions)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        request = ctx.request
        sent = torch.empty_like(gradient).index_copy_(0, request.positions, gradient)
        received = _all_to_all(sent, request.send, request.receive, request.group)
        of_table = gradient.new_zeros((ctx.num_rows, *gradient.shape[1:]))
        return of_table.index_add_(0, request.rows, received), None


def _all_to_all(rows: Tensor, receive: list[int], send: list[int], group: ProcessGroup) -> Tensor:
    """Send rows ordered by receiver; return rows ordered by sender."""
    received = rows.new_empty((sum(receive), *rows.shape[1:]))
    # As bytes: not every backend supports every dtype.
    distributed.all_to_all_single(_bytes(received), _bytes(rows.contiguous()), receive, send, group=group)
    return received


def _bytes(rows: Tensor) -> Tensor:
    """View [B, ...] as [B, bytes], in the same memory."""
    return rows.reshape(len(rows), rows.shape[1:].numel()).view(torch.uint8)


class FetchedRows(NamedTuple):
    """Tables of a stream with remote rows behind local ones.

    Attributes:
        tables: [B + n, ...] each, in the order given.
        positions: [W] int64, the row in the tables of each row of the whole batch; -1 if it was not fetched.
        remote: [n] int64, numbers in the whole batch of the fetched rows.
    """

    tables: list[Tensor]
    positions: Tensor
    remote: Tensor


def fetch_rows(exchange: RankExchange, whole: Whole, needed: Tensor, tables: list[Tensor]) -> FetchedRows:
    """Append the needed rows of other ranks to tables, each row once.

    Args:
        whole: of the stream.
        needed: numbers in the whole batch; duplicates are allowed.
        tables: [B, ...] each, local rows.
    """
    positions = torch.full_like(whole.rank, -1)
    positions[whole.numbers] = torch.arange(len(whole.numbers), device=positions.device)
    remote = torch.unique(needed[whole.rank[needed] != exchange.processes.rank])
    positions[remote] = torch.arange(len(remote), device=positions.device) + len(whole.numbers)
    request = exchange.request(whole.rank[remote], whole.row[remote])
    return FetchedRows([torch.cat([table, request.fetch(table)]) for table in tables], positions, remote)


def fetch_images(
    exchange: RankExchange, whole: Whole, needed: Tensor, features: VisionFeatures
) -> tuple[VisionFeatures, Tensor]:
    """Append the images of rows of other ranks to features, each image once.

    Args:
        whole: of the stream.
        needed: [n] numbers in the whole batch, all of other ranks.
        features: [M] of local images, and of any fetched before.
    Returns: features of more images, and the image of each needed row: [n] int64.
    """
    owners = torch.stack([whole.rank[needed], whole.image[needed]], 1)
    distinct, image = torch.unique(owners, dim=0, return_inverse=True)
    request = exchange.request(distinct[:, 0], distinct[:, 1])
    summary = torch.cat([features.summary, request.fetch(features.summary)])
    patches = torch.cat([features.patches, request.fetch(features.patches)])
    return VisionFeatures(summary, patches, features.grid), image + len(features.patches)

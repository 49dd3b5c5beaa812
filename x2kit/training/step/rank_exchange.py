"""Exchange features, rows and row counts between the ranks of a step. Imports torch.

Each rank encodes its own rows. Between the encoders and the losses, the ranks

- gather the projected features of all rows for the contrastive loss;
- send hard negatives to the ranks that drew them, whose gradients return by the same path;
- weight their mean of every other loss by their share of the rows that count.

DDP or FSDP2 then averages the gradients over the ranks. As the weights sum to the number of ranks, the average is the
gradient of the whole batch, and the mean of the ranks' losses its loss.

No message has a size that depends on values, so the host never waits for the device: the loader knows the rows of all
ranks, every rank draws the negatives of all, and each pair of ranks exchanges tables of `capacity` rows.

B rows of one rank, W rows of all ranks, R ranks, C capacity, n rows that a rank needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable
from torch.distributed import ProcessGroup

from x2kit.data.pipeline.batch import Whole
from x2kit.distributed.gather import as_bytes, gather_over_processes, unpack
from x2kit.distributed.processes import Processes
from x2kit.objectives import GatherGradient
from x2kit.training.step.distinct_rows import distinct_rows, marked

HEADROOM, SPARE = 4, 8
"""Capacity is `HEADROOM` times the mean number of rows that a rank needs of another, and `SPARE` rows more."""


def capacity(num_fused: Sequence[int], num_rows: Sequence[int]) -> int:
    """Return C, the rows that a rank sends to each other rank; equal for all pairs of ranks.

    Up to four ranks every negative fits, as a rank draws no more of them than it has fused rows.

    Args:
        num_fused: draws of each rank.
        num_rows: rows of each rank that can be drawn.
    """
    most = max(num_fused)
    return min(most, max(num_rows), HEADROOM * -(-most // len(num_fused)) + SPARE)


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

    def gather_features(
        self, wholes: Sequence[Whole], features: Sequence[tuple[Tensor, Tensor]]
    ) -> list[tuple[Tensor, Tensor]]:
        """Gather the features of all ranks, in one message for all streams.

        Args:
            wholes: of each stream.
            features: two tensors [B, E] of each stream, of this rank's rows; E and the dtype are equal in all.
        Returns: two tensors [W, E] for each stream, in the row order of a run of one rank.
        """
        if not wholes:
            return []
        own = torch.cat([torch.cat(pair, 1) for pair in features])
        counts = [sum(of_rank) for of_rank in zip(*(whole.num_rows for whole in wholes), strict=True)]
        (gathered,) = gather_over_processes(
            own, gradient=self.gather_gradient, processes=self.tensors, counts=counts
        )
        sizes = [whole.num_rows[rank] for rank in range(len(counts)) for whole in wholes]
        parts = torch.split(gathered, sizes)
        return [
            self._halves(torch.cat(parts[number :: len(wholes)]).index_select(0, whole.order))
            for number, whole in enumerate(wholes)
        ]

    @staticmethod
    def _halves(rows: Tensor) -> tuple[Tensor, Tensor]:
        first, second = rows.chunk(2, 1)
        return first, second

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
        weights = (local * self.processes.count / total.clamp_min(1)).unbind()
        return dict(zip(counts, weights, strict=True))

    def row_weight(self, whole: Whole) -> float:
        """Return the factor of this rank's mean over all its rows of a stream."""
        return whole.num_rows[self.processes.rank] * self.processes.count / sum(whole.num_rows)

    def route(self, draws: Sequence[Draws], num_rows: int) -> Route:
        """Find which rows of a table to send, and where the needed rows arrive; no message is sent.

        Args:
            draws: rows of the table that each rank needs, by any number of streams.
            num_rows: B, rows of the table on this rank.
        """
        rank, others = self.processes.rank, self.processes.count - 1
        fused = [sum(counts) for counts in zip(*(each.num_fused for each in draws), strict=True)]
        rows = [max(counts) for counts in zip(*(each.num_rows for each in draws), strict=True)]
        size, width = capacity(fused, rows), max(rows)
        receiver, owner, row = (torch.cat(each) for each in zip(*(each[:3] for each in draws), strict=True))
        sends = marked(
            _pair(receiver, rank) * num_rows + row, others * num_rows, (owner == rank) & (receiver != rank)
        )
        sent = distinct_rows(sends.view(others, num_rows), size).rows
        # Both ends list the rows of a pair in ascending order, so they agree without a message.
        needed = (receiver == rank) & (owner != rank)
        numbers = _pair(owner, rank) * width + row
        wanted = marked(numbers, others * width, needed)
        places = distinct_rows(wanted.view(others, width), size).places
        arrives = wanted.view(others, width) & (places < size)
        start = torch.arange(others, device=places.device)[:, None] * size
        remote = sum(count for other, count in enumerate(rows) if other != rank)
        kept = distinct_rows(arrives.view(1, -1), min(fused[rank], remote))
        return Route(
            sent.flatten(),
            (start + places).flatten().clamp_min(0).index_select(0, kept.rows[0]),
            kept.places[0],
            arrives.flatten(),
            rank,
            num_rows,
            width,
            size == min(max(fused), width),
        )

    def send(self, tables: Sequence[tuple[Route, Tensor]]) -> list[Tensor]:
        """Send rows of tables to the ranks that need them, in one message for all tables.

        Args:
            tables: [B, ...] each, with its route; the same number on all ranks.
        Returns: the rows [n, ...] of each table that other ranks sent, see `Route`.
        """
        routes = [route for route, _ in tables]
        sent: tuple[Tensor, ...] = _Send.apply(self, routes, *(table for _, table in tables))  # type: ignore[no-untyped-call]
        return list(sent)

    def exchange(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        """Exchange blocks [(R - 1) * C, ...] by one all-to-all: C rows for each other rank, in rank order."""
        others, rank = self.processes.count - 1, self.processes.rank
        packed = torch.cat([as_bytes(block).view(others, -1) for block in blocks], 1)
        received = torch.empty_like(packed)
        splits = [int(other != rank) for other in range(others + 1)]
        distributed.all_to_all_single(received, packed, splits, splits, group=self.tensors)
        like = [block.view(others, -1, *block.shape[1:]) for block in blocks]
        return [part.view(block.shape) for part, block in zip(unpack(received, like), blocks, strict=True)]


def _pair(ranks: Tensor, rank: int) -> Tensor:
    """Number the other ranks from 0, leaving out `rank`."""
    return ranks - (ranks > rank).long()


class Draws(NamedTuple):
    """Rows that the ranks need of a table that each of them has.

    Attributes:
        receiver: [F] int64, the rank that needs a row; F rows of all ranks, in one order on all ranks.
        owner: [F] int64, the rank that has it.
        row: [F] int64, its number there.
        num_fused: rows that each rank needs, with repetitions.
        num_rows: rows of each rank's table.
    """

    receiver: Tensor
    owner: Tensor
    row: Tensor
    num_fused: Sequence[int]
    num_rows: Sequence[int]


class Route(NamedTuple):
    """Rows of a table that one rank sends and receives.

    Attributes:
        sent: [(R - 1) * C] int64, own rows for each other rank in rank order; row 0 fills up.
        kept: [n] int64, those of the (R - 1) * C received rows that are kept; n is known to the host.
        places: [(R - 1) * width] int64, the place among the kept rows of each row of the other ranks.
        arrives: [(R - 1) * width] bool, whether a row is needed here and within the capacity.
        rank: this one.
        num_rows: B, rows of the table on this rank.
        width: most rows of a rank.
        complete: whether all needed rows fit, whatever is drawn.
    """

    sent: Tensor
    kept: Tensor
    places: Tensor
    arrives: Tensor
    rank: int
    num_rows: int
    width: int
    complete: bool

    def find(self, owner: Tensor, row: Tensor) -> Found:
        """Find rows in this rank's table followed by the kept ones.

        Args:
            owner: [n] int64, the rank of each row.
            row: [n] int64, its number there.
        """
        own = owner == self.rank
        number = torch.where(own, 0, _pair(owner, self.rank) * self.width + row)
        arrives = own | self.arrives.index_select(0, number)
        remote = self.num_rows + self.places.index_select(0, number)
        return Found(torch.where(own, row, torch.where(arrives, remote, 0)), arrives)


class Found(NamedTuple):
    """Places of needed rows.

    Attributes:
        rows: [n] int64, rows of the table; 0 for those that did not arrive.
        arrives: [n] bool, False for rows above the capacity.
    """

    rows: Tensor
    arrives: Tensor


class _Send(torch.autograd.Function):
    """Send the rows of all tables in one graph node, so that every rank communicates in the same order."""

    @staticmethod
    def forward(ctx: Any, exchange: RankExchange, routes: list[Route], *tables: Tensor) -> tuple[Tensor, ...]:
        ctx.exchange, ctx.routes, ctx.counts = exchange, routes, [len(table) for table in tables]
        blocks = [_rows(table, route.sent) for table, route in zip(tables, routes, strict=True)]
        received = exchange.exchange(blocks)
        kept = tuple(rows.index_select(0, route.kept) for rows, route in zip(received, routes, strict=True))
        ctx.mark_non_differentiable(*(rows for rows in kept if not rows.is_floating_point()))
        return kept

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        learned = [number for number, each in enumerate(gradients) if each.is_floating_point()]
        blocks = [
            _scattered(gradients[number], ctx.routes[number].kept, len(ctx.routes[number].sent))
            for number in learned
        ]
        received = ctx.exchange.exchange(blocks)
        of_tables: list[Tensor | None] = [None] * len(gradients)
        for number, rows in zip(learned, received, strict=True):
            if ctx.counts[number]:
                of_tables[number] = _scattered(rows, ctx.routes[number].sent, ctx.counts[number])
            else:
                of_tables[number] = rows.new_zeros((0, *rows.shape[1:]))
        return (None, None, *of_tables)


def _rows(table: Tensor, rows: Tensor) -> Tensor:
    """Select rows; zeros from a table without rows."""
    return table.index_select(0, rows) if len(table) else table.new_zeros((len(rows), *table.shape[1:]))


def _scattered(rows: Tensor, places: Tensor, count: int) -> Tensor:
    """Sum rows [n, ...] by place into [count, ...]."""
    return rows.new_zeros((count, *rows.shape[1:])).index_add_(0, places, rows)

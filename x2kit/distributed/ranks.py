"""What a task sees of the ranks that measure together. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from x2kit.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """The processes that measure together, seen from one of them. As it stands: one process alone.

    Under torchrun every process runs every task with the same settings on the same records, and what the task
    returns at rank 0 is the result. So a task need not know of them. One that does shares its work:

        mine = [look_at(source[index]) for index in range(ranks.rank, len(source), ranks.count)]
        total = sum(sum(part) for part in ranks.gather(mine))

    All processes make the same calls in the same order; each waits there for the others.

    Attributes:
        rank: number of this process, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    def gather(self, value: Any) -> list[Any]:
        """The value of each process, by rank: any value that can be pickled."""
        return [value]

    def from_rank_zero(self, value: Any) -> Any:
        """What rank 0 has."""
        return value

    def concatenate(self, rows: Tensor | None) -> Tensor:
        """The rows of all processes, those of rank 0 first.

        Args:
            rows: [B, ...], in main memory; of one dtype and width in all processes. None of a process that has none,
                which not all of them may be.
        Returns: [B of all, ...].
        """
        if rows is None:
            raise ShapeError("no process has rows to concatenate")
        return rows

"""Define the ranks that a task sees during evaluation. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from x2kit.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """The ranks that evaluate together, seen from one of them; this base class is a single process.

    Under torchrun every rank runs every task with the same settings on the same records, and the value returned at
    rank 0 is the result. A task may ignore ranks, or divide its work:

        mine = [evaluate(source[index]) for index in range(ranks.rank, len(source), ranks.count)]
        total = sum(sum(part) for part in ranks.gather(mine))

    All ranks make the same calls in the same order; each call waits for the others.

    Attributes:
        rank: of this process, from 0.
        count: number of ranks.
    """

    rank: int = 0
    count: int = 1

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks in rank order; any value that pickle accepts."""
        return [value]

    def from_rank_zero(self, value: Any) -> Any:
        """Broadcast the value of rank 0."""
        return value

    def concatenate(self, rows: Tensor | None) -> Tensor:
        """Concatenate the rows of all ranks in rank order.

        Args:
            rows: [B, ...] on the CPU, with the same dtype and width on all ranks; None on a rank without rows.
        Returns: [sum of all B, ...].
        Raises: ShapeError if no rank has rows.
        """
        if rows is None:
            raise ShapeError("no rank has rows to concatenate")
        return rows

"""Records of several files, or of several sources, counted as one list. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class Chain:
    """Which part a position lies in, and where.

    Args:
        lengths: of the parts, in order.
    """

    def __init__(self, lengths: Iterable[int]) -> None:
        self.first = np.cumsum([0, *lengths])
        """[parts + 1]: the position at which each part begins, and the end of all."""

    def __len__(self) -> int:
        return int(self.first[-1])

    def locate(self, index: int) -> tuple[int, int]:
        """The part, and the position in it. Raises IndexError."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        part = int(np.searchsorted(self.first, index, side="right")) - 1
        return part, index - int(self.first[part])

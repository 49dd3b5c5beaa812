"""Time two implementations in alternation, so that noise of the machine affects both."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple


class Ratio(NamedTuple):
    """Seconds of each round; round i of both ran back to back."""

    plain: list[float]
    ours: list[float]

    @property
    def value(self) -> float:
        """Speed-up: the median over the rounds of plain / ours."""
        return median(plain / ours for plain, ours in zip(self.plain, self.ours, strict=True))

    def lines(self) -> list[str]:
        """Format the last lines of a benchmark."""
        return [
            f"plain: {median(self.plain):.3f} s, median of {len(self.plain)}",
            f"x2kit: {median(self.ours):.3f} s, median of {len(self.ours)}",
            f"ratio: {self.value:.2f}",
        ]


def paired(
    plain: Callable[[], object],
    ours: Callable[[], object],
    rounds: int,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Ratio:
    """Run both in rounds that alternate which is first.

    Args:
        plain: the plain formulation; what it returns is dropped.
        ours: the same work as x2kit does it.
        rounds: pairs of timed runs, best an even number of them.
        warm_up: runs of each before, which do not count.
        clock: gives seconds; `time.process_time` for work on one thread that does not wait, of which it does not count
            what other programs took.
    """
    for _ in range(warm_up):
        plain()
        ours()
    ratio = Ratio([], [])
    for number in range(rounds):
        turns = [(plain, ratio.plain), (ours, ratio.ours)]
        for work, seconds in turns if number % 2 == 0 else turns[::-1]:
            seconds.append(_timed(work, clock))
    return ratio


def _timed(work: Callable[[], object], clock: Callable[[], float]) -> float:
    gc.collect()  # the garbage of one is not to be paid by the other
    start = clock()
    work()
    return clock() - start

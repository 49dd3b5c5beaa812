"""Spans of a run in which the same losses are on. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from x2kit.data.config import DataConfig, LossName


class Phase(NamedTuple):
    """Steps `start` to `stop` (exclusive, counted from 0) with the losses that are on in all of them.

    Attributes:
        losses: of each stream.
        objectives: of each stream, by their names in the recipe.
    """

    start: int
    stop: int
    losses: Mapping[str, tuple[LossName, ...]]
    objectives: Mapping[str, tuple[str, ...]]

    @property
    def steps(self) -> int:
        """Number of steps."""
        return self.stop - self.start

    @property
    def names(self) -> tuple[str, ...]:
        """STREAM.LOSS and STREAM.OBJECTIVE as metrics.jsonl names them, in the order of the recipe."""
        return tuple(
            f"{stream}.{name}"
            for stream, on in self.losses.items()
            for name in (*on, *self.objectives[stream])
        )


def loss_phases(data: DataConfig, steps: int) -> list[Phase]:
    """Split a run of so many steps where losses or objectives start or stop; the phases cover all steps."""
    edges = {0, steps}
    for stream in data.streams.values():
        spans = [(loss.start, loss.stop) for loss in stream.losses.values()]
        spans += [(objective.start, objective.stop) for objective in stream.objectives.values()]
        edges |= {math.ceil(share * steps) for span in spans for share in span}
    found: list[Phase] = []
    for start, stop in pairwise(sorted(edges)):
        losses = {name: stream.losses_on(start, steps) for name, stream in data.streams.items()}
        objectives = {name: stream.objectives_on(start, steps) for name, stream in data.streams.items()}
        if found and (found[-1].losses, found[-1].objectives) == (losses, objectives):
            found[-1] = found[-1]._replace(stop=stop)
        else:
            found.append(Phase(start, stop, losses, objectives))
    return found

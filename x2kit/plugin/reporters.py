"""Contract of reporters, which send the metrics of a run to another service. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

RunStatus: TypeAlias = Literal["finished", "stopped", "failed"]
"""End of a run: all steps completed; stopped on request after saving; ended by an error."""


class RunFacts(NamedTuple):
    """Description of a run.

    Attributes:
        directory: the run directory.
        recipe: the resolved recipe: plain values by key, including defaults.
        step: number of completed steps: 0 in a new run, that of the checkpoint in a resumed one.
        steps: number of steps of the whole run.
    """

    directory: Path
    recipe: Mapping[str, Any]
    step: int
    steps: int

    @property
    def resumed(self) -> bool:
        """Whether the run is resumed from a checkpoint."""
        return self.step > 0


@runtime_checkable
class Reporter(Protocol):
    """Sends the metrics of one run to another service, from rank 0 only.

    An exception of `start` ends a new run. Later exceptions, and those of `start` in a resumed run, are logged once and
    counted, and training continues: the numbers are in metrics.jsonl anyway. Training waits for every call, so `log`
    must not wait for a network.
    """

    def start(self, run: RunFacts, folder: Path) -> None:
        """Called before the first step.

        Args:
            run: description of the run.
            folder: the reporter's folder in the run directory, for the state it needs to resume: empty in a new run,
                unchanged in a resumed one.
        """
        ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log one line of metrics.jsonl, every `training.log_every` steps.

        Args:
            step: number of completed steps. A resumed run repeats steps that were logged after its checkpoint.
            values: finite numbers by the names of metrics.jsonl, such as loss and STREAM.itc.
        """
        ...

    def end(self, status: RunStatus) -> None:
        """Called last, after the final `log`."""
        ...

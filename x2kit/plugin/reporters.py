"""The contract of reporters, which carry the numbers of a run elsewhere. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

RunStatus: TypeAlias = Literal["finished", "stopped", "failed"]
"""How a run ended: all steps are done; it was asked to stop and has saved; an error ended it."""


class RunFacts(NamedTuple):
    """What is told of a run.

    Attributes:
        directory: the run directory.
        recipe: as it was resolved: plain values by key, defaults included.
        step: steps that were done before: 0 in a new run, those of its checkpoint in one that goes on.
        steps: of the whole run.
    """

    directory: Path
    recipe: Mapping[str, Any]
    step: int
    steps: int

    @property
    def resumed(self) -> bool:
        """Whether the run goes on from a checkpoint."""
        return self.step > 0


@runtime_checkable
class Reporter(Protocol):
    """Carries the numbers of one run elsewhere. Only rank 0 has one.

    What `start` raises in a new run ends it, for nothing is lost yet. Whatever is raised later, and by `start` in a run
    that goes on, is said once and counted, and training goes on: the numbers are in metrics.jsonl all the same.
    Training waits for every call, so `log` must not wait for a network.
    """

    def start(self, run: RunFacts, folder: Path) -> None:
        """Before the first step.

        Args:
            run: what is known of it.
            folder: the reporter's own in the run directory, where it keeps what it needs to go on: it is empty in a new
                run and as it was left in one that goes on.
        """
        ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """The numbers of one line of metrics.jsonl, every `training.log_every` steps.

        Args:
            step: steps done. A run that goes on from a checkpoint comes again by steps that were logged before.
            values: finite numbers by the names of metrics.jsonl, such as loss and STREAM.itc.
        """
        ...

    def end(self, status: RunStatus) -> None:
        """After the last call of `log`; nothing is called any more."""
        ...

"""What a person sees while a run goes on: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress

from x2kit.terminal import PlainColumn, PlainConsole

PLAIN_SECONDS = 15.0
"""Seconds between lines where the output is no terminal."""


class StepProgress:
    """Shows steps, losses, speed and time left. Use as a context manager.

    Args:
        steps: of the run.
        done: before it goes on.
        quiet: show nothing, as where another process speaks.
    """

    def __init__(self, steps: int, done: int, quiet: bool = False) -> None:
        self._console = PlainConsole(quiet=quiet)
        self._steps, self._start = steps, done
        self._bar = Progress(
            PlainColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            PlainColumn("{task.fields[values]}"),
            PlainColumn("{task.fields[left]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps, completed=done, values="", left="")
        self._costs: Sequence[tuple[int, float]] = [(steps, 1.0)]

    def __enter__(self) -> Self:
        self._began = self._said = time.monotonic()
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def expect(self, costs: Sequence[tuple[int, float]]) -> None:
        """Estimate the time left from steps that cost unequally.

        Args:
            costs: for each span of the run the step at which it stops (exclusive) and the cost of each of its steps,
                in any unit.
        """
        self._costs = costs

    def advance(self, done: int) -> None:
        """So many steps are done."""
        self._bar.update(self._task, completed=done)

    def show(self, done: int, values: dict[str, float]) -> None:
        """The newest values after so many steps."""
        shown = "  ".join(f"{name} {value:.3g}" for name, value in values.items())
        now = time.monotonic()
        left = f"{self.seconds_left(done, now - self._began) / 60:.1f} min left"
        self._bar.update(self._task, completed=done, values=shown, left=left)
        if self._console.is_terminal or (now - self._said < PLAIN_SECONDS and done < self._steps):
            return
        self._said = now
        speed = (done - self._start) / max(now - self._began, 1e-9)
        self._console.print(
            f"step {done}/{self._steps}  {shown}  {speed:.2f} steps/s  {left}",
            soft_wrap=True,
        )

    def seconds_left(self, done: int, seconds: float) -> float:
        """Estimate the rest of the run, given the seconds that the steps from its start up to `done` took."""
        spent = self._cost(done) - self._cost(self._start)
        return seconds * (self._cost(self._steps) - self._cost(done)) / max(spent, 1e-9)

    def _cost(self, done: int) -> float:
        """The cost of the first steps of the run."""
        starts = [0, *(stop for stop, _ in self._costs)]
        return sum(
            max(0, min(done, stop) - start) * cost
            for start, (stop, cost) in zip(starts, self._costs, strict=False)
        )

    def say(self, message: str) -> None:
        """A line beside the progress."""
        self._bar.console.print(message, soft_wrap=True)

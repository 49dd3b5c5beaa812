"""Show training progress as a live bar on a terminal, else as plain lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress

from x2kit.data.config import DataConfig, Phase
from x2kit.model import X2VLM
from x2kit.terminal import PLAIN_SECONDS, LiveProgress, PlainColumn, PlainConsole
from x2kit.training.profiling.costs import phase_costs


class StepProgress(LiveProgress):
    """Show steps, losses, speed and time left; context manager.

    Args:
        steps: of the run.
        done: steps before this start.
        quiet: print nothing, as on ranks other than 0.
    """

    def __init__(self, steps: int, done: int, quiet: bool = False) -> None:
        self._console = PlainConsole(quiet=quiet)
        self._steps, self._start = steps, done
        super().__init__(
            Progress(
                PlainColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                PlainColumn("{task.fields[values]}"),
                PlainColumn("{task.fields[left]}"),
                console=self._console,
                disable=not self._console.is_terminal,
            )
        )
        self._task = self._bar.add_task("", total=steps, completed=done, values="", left="")
        self._costs: Sequence[tuple[int, float]] = [(steps, 1.0)]

    def __enter__(self) -> Self:
        self._started = self._last_line = time.monotonic()
        return super().__enter__()

    def expect(self, costs: Sequence[tuple[int, float]]) -> None:
        """Set the cost of steps by span, to estimate the time left.

        Args:
            costs: for each span of the run its stop step (exclusive) and the cost of one of its steps, in any unit.
        """
        self._costs = costs

    def advance(self, done: int) -> None:
        """Move the bar to the number of steps done."""
        self._bar.update(self._task, completed=done)

    def show(self, done: int, values: dict[str, float]) -> None:
        """Show the newest values and the time left."""
        shown = "  ".join(f"{name} {value:.3g}" for name, value in values.items())
        now = time.monotonic()
        left = f"{self.seconds_left(done, now - self._started) / 60:.1f} min left"
        self._bar.update(self._task, completed=done, values=shown, left=left)
        if self._console.is_terminal or (now - self._last_line < PLAIN_SECONDS and done < self._steps):
            return
        self._last_line = now
        speed = (done - self._start) / max(now - self._started, 1e-9)
        self.say(f"step {done}/{self._steps}  {shown}  {speed:.2f} steps/s  {left}")

    def show_stage(self, name: str, done: int, total: int) -> None:
        """Show the progress of a validation on the bar."""
        self._bar.update(self._task, values=f"validation, {name}: {done}/{total}")

    def seconds_left(self, done: int, seconds: float) -> float:
        """Estimate the remaining time from the seconds that the steps up to `done` took since this start."""
        spent = self._cost(done) - self._cost(self._start)
        return seconds * (self._cost(self._steps) - self._cost(done)) / max(spent, 1e-9)

    def _cost(self, done: int) -> float:
        """Sum the cost of the first `done` steps of the run."""
        starts = [0, *(stop for stop, _ in self._costs)]
        return sum(
            max(0, min(done, stop) - start) * cost
            for start, (stop, cost) in zip(starts, self._costs, strict=False)
        )

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        self._console.print(message, soft_wrap=True)


def expect_phases(progress: StepProgress, data: DataConfig, phases: Sequence[Phase], model: X2VLM) -> None:
    """Estimate the time left from the operations of each phase of losses."""
    if len(phases) == 1:
        return
    try:
        costs = phase_costs(model, data, phases)
    except Exception as error:  # noqa: BLE001 (an encoder of a plugin may fail on meta tensors)
        progress.say(
            "time left: estimated from equal steps, though losses start or stop later; counting operations failed: "
            f"{type(error).__name__}: {' '.join(str(error).split())}"
        )
        return
    progress.expect([(phase.stop, cost) for phase, cost in zip(phases, costs, strict=True)])

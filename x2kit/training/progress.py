"""What a person sees while a run goes on: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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
        self._console = Console(quiet=quiet)
        self._steps, self._start = steps, done
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[values]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps, completed=done, values="")

    def __enter__(self) -> Self:
        self._began = self._said = time.monotonic()
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, done: int) -> None:
        """So many steps are done."""
        self._bar.update(self._task, completed=done)

    def show(self, done: int, values: dict[str, float]) -> None:
        """The newest values after so many steps."""
        shown = "  ".join(f"{name} {value:.3g}" for name, value in values.items())
        self._bar.update(self._task, completed=done, values=shown)
        now = time.monotonic()
        if self._console.is_terminal or (now - self._said < PLAIN_SECONDS and done < self._steps):
            return
        self._said = now
        speed = (done - self._start) / max(now - self._began, 1e-9)
        left = (self._steps - done) / max(speed, 1e-9)
        self._console.print(
            f"step {done}/{self._steps}  {shown}  {speed:.2f} steps/s  {left / 60:.1f} min left",
            highlight=False,
            soft_wrap=True,
        )

    def say(self, message: str) -> None:
        """A line beside the progress."""
        self._bar.console.print(message, highlight=False, markup=False, soft_wrap=True)

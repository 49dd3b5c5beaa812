"""Terminal output that prints texts literally. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class PlainConsole(Console):
    """Print texts without markup, emoji codes or highlighting.

    Paths, ids and captions come from the user's data: rich would print `a.jsonl:100:` as `a.jsonl💯` and drop `[en]`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)


class PlainColumn(TextColumn):
    """Show a progress column's text without markup or emoji codes."""

    def __init__(self, text_format: str) -> None:
        super().__init__(text_format, markup=False)


PLAIN_SECONDS = 15.0
"""Least seconds between lines where the output is no terminal."""


class TaskProgress:
    """Shows how far the tasks are. Use as a context manager; call it as `TaskContext.progress`.

    Args:
        console: where to; standard error by default, so that the result alone is on standard output.
        clock: seconds, of any beginning.
    """

    def __init__(
        self, console: PlainConsole | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or PlainConsole(stderr=True)
        self._clock = clock
        self._said = clock()
        self._bar = Progress(
            PlainColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("measuring", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """`what` is at `done` of `total`."""
        self._bar.update(self._task, description=what, completed=done, total=total)
        now = self._clock()
        if not self._console.is_terminal and now - self._said >= PLAIN_SECONDS:
            self._said = now
            self._console.print(f"{what}: {done}/{total}")

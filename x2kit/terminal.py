"""Print texts literally on the terminal, with progress bars. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

PLAIN_SECONDS = 15.0
"""Minimum seconds between progress lines if the output is not a terminal."""


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


class LiveProgress:
    """Show a live bar on a terminal; context manager, base class of progress displays.

    Args:
        bar: its console decides whether it is live.
    """

    def __init__(self, bar: Progress) -> None:
        self._bar = bar

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()


class TaskProgress(LiveProgress):
    """Show the progress of evaluation tasks; call it as `TaskContext.progress`.

    Args:
        console: standard error by default, since results go to standard output.
        clock: returns seconds.
    """

    def __init__(
        self, console: PlainConsole | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or PlainConsole(stderr=True)
        self._clock = clock
        self._last_line = clock()
        super().__init__(
            Progress(
                PlainColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
                disable=not self._console.is_terminal,
            )
        )
        self._task = self._bar.add_task("measuring", total=None)

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """Show that `done` of `total` parts of a named task are done; `total` is None if unknown."""
        self._bar.update(self._task, description=name, completed=done, total=total)
        now = self._clock()
        if not self._console.is_terminal and now - self._last_line >= PLAIN_SECONDS:
            self._last_line = now
            self._console.print(f"{name}: {done}" + ("" if total is None else f"/{total}"))


class ByteProgress:
    """Show the progress of downloads and hashes on standard error; nothing before the first call.

    Call it as `x2kit.hub.fetching.Progress`. On a terminal it is a live bar; else a line every 15 seconds.
    """

    def __init__(
        self, console: PlainConsole | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or PlainConsole(stderr=True)
        self._clock = clock
        self._bar: Progress | None = None
        self._last_line = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Show that `done` of `total` bytes are done; `total` is None if unknown."""
        if self._console.is_terminal:
            self._show(stage, done, total)
            return
        now = self._clock()
        if now - self._last_line >= PLAIN_SECONDS:
            self._last_line = now
            whole = "" if total is None else f" of {total / 1e6:.0f}"
            self._console.print(f"{stage}: {done / 1e6:.0f}{whole} MB")

    def _show(self, stage: str, done: int, total: int | None) -> None:
        if self._bar is None:
            columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self._bar = Progress(
                PlainColumn("{task.description}"), *columns, console=self._console, transient=True
            )
            self._task = self._bar.add_task(stage, total=None)
            self._bar.start()
        self._bar.update(self._task, description=stage, completed=done, total=total)

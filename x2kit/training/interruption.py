"""How a run ends before its last step: requests to stop, and errors of plugins. Imports no torch."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from x2kit.errors import PluginError, X2KitError
from x2kit.io.atomic import storage_errors
from x2kit.io.run_directory import TRACEBACK


@contextmanager
def stop_requests(passed_on: bool = False) -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM in a list; a second Ctrl-C interrupts at once.

    Args:
        passed_on: a launcher such as torchrun repeats each Ctrl-C, so the second one is the third signal.
    """
    signals: list[int] = []

    def collect(number: int, frame: FrameType | None) -> None:
        if len(signals) > passed_on and number == signal.SIGINT:
            raise KeyboardInterrupt("stopped at once; the newest checkpoint is kept")
        signals.append(number)

    before = {number: signal.signal(number, collect) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def plugin_traceback(run: Path) -> Iterator[None]:
    """Save the traceback of a plugin's error in the run directory, and name the file in the message."""
    try:
        yield
    except PluginError as error:
        cause = error.__cause__
        if cause is None or isinstance(cause, X2KitError):
            raise
        file = run / TRACEBACK
        with storage_errors(file):
            run.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(traceback.format_exception(cause)), encoding="utf-8")
        raise PluginError(f"{error}\n  traceback: {file}") from cause

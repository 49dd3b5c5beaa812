"""Requests to stop: Ctrl-C, and the SIGTERM of a batch system. Imports no torch."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_requests(passed_on: bool = False) -> Iterator[list[int]]:
    """A list that fills when the process is asked to stop (Ctrl-C, SIGTERM); a second Ctrl-C stops at once.

    Args:
        passed_on: a launcher sends each Ctrl-C once more, as torchrun does, so a second one is the third signal.
    """
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if len(asked) > passed_on and number == signal.SIGINT:
            raise KeyboardInterrupt("stopped at once; the newest checkpoint is kept")
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

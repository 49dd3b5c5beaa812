"""Calls that may take long, one after the other in a thread. Imports no library."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

PATIENCE = 60.0
"""Seconds that the end of a run waits for what was not sent yet."""
MOST = 1000
"""Calls that may wait; those of a server that does not answer would fill the memory."""


class Behind:
    """Makes calls while the caller goes on. What a call raises is raised by a later `call` or by `close`."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "reporter")
        self._waiting: deque[Future[None]] = deque()

    def call(self, function: Callable[[], None]) -> None:
        """Make a call soon. Raises: TimeoutError if too many are waiting; then this one is left out."""
        if len(self._waiting) >= MOST and not self._waiting[0].done():
            raise TimeoutError(f"{MOST} calls wait for an answer; this one is left out")
        self._waiting.append(self._thread.submit(function))
        self._raise_first()

    def close(self, patience: float = PATIENCE) -> None:
        """Wait until all is done. Raises: TimeoutError if that takes too long; what is waiting then is left out."""
        _, late = wait(self._waiting, patience)
        self._thread.shutdown(wait=False, cancel_futures=True)
        if late:
            raise TimeoutError(f"{len(late)} calls had no answer after {patience:g} seconds and are left out")
        while self._waiting:
            self._raise_first()

    def _raise_first(self) -> None:
        while self._waiting and self._waiting[0].done():
            if (error := self._waiting.popleft().exception()) is not None:
                raise error

"""Run slow calls one after the other in a background thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

TIMEOUT = 60.0
"""Seconds to wait for pending calls at the end of a run."""
MAX_PENDING = 1000
"""Limit of pending calls; without it a server that does not answer would fill the memory."""


class BackgroundCalls:
    """Queue of calls in one thread. An error of a call is raised by a later `call` or by `close`."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "reporter")
        self._pending: deque[Future[None]] = deque()

    def call(self, function: Callable[[], None]) -> None:
        """Queue a call. Raises: TimeoutError if too many are pending; then this one is dropped."""
        if len(self._pending) >= MAX_PENDING and not self._pending[0].done():
            raise TimeoutError(f"{MAX_PENDING} calls are pending; this one is dropped")
        self._pending.append(self._thread.submit(function))
        self._raise_first()

    def close(self, timeout: float = TIMEOUT) -> None:
        """Wait for all calls. Raises: TimeoutError after `timeout` seconds; pending calls are dropped."""
        _, late = wait(self._pending, timeout)
        self._thread.shutdown(wait=False, cancel_futures=True)
        if late:
            raise TimeoutError(f"{len(late)} calls not finished after {timeout:g} seconds are dropped")
        while self._pending:
            self._raise_first()

    def _raise_first(self) -> None:
        while self._pending and self._pending[0].done():
            if (error := self._pending.popleft().exception()) is not None:
                raise error

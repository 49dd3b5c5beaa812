"""Parts that reporters share: run ids, flattened results, calls in a background thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

RUN_ID = "run-id.txt"
"""File in a reporter's folder with the id of the run, to resume it or to add results."""
NOT_RESULTS = ("checkpoint", "data", "model", "tasks", "seconds")
"""Parts of evaluation.json that describe the measurement."""
TIMEOUT = 60.0
"""Seconds to wait for pending calls at the end of a run."""
MAX_PENDING = 1000
"""Limit of pending calls; without it a server that does not answer would fill the memory."""


def read_run_id(folder: Path) -> str | None:
    """Read the id of the run of a reporter's folder; None if it was never reported."""
    file = folder / RUN_ID
    return file.read_text(encoding="utf-8").strip() if file.exists() else None


def write_run_id(folder: Path, run_id: str) -> None:
    """Write the id of the run into the reporter's folder."""
    (folder / RUN_ID).write_text(run_id, encoding="utf-8")


def numbers(result: Mapping[str, Any]) -> dict[str, float]:
    """Flatten all numbers to names with slashes: evaluation/test/languages/de/image_to_text/r1."""
    parts = {key: value for key, value in result.items() if key not in NOT_RESULTS}
    return dict(_flatten(parts, f"evaluation/{result['split']}"))


def _flatten(value: Any, prefix: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}/{key}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield prefix, float(value)


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

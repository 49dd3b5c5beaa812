"""Compute results in threads, in order and a bounded number ahead, for encoding and evaluation. Imports no torch.

Threads suffice for images and videos: the decoders of PIL, torchvision and FFmpeg release the interpreter's lock.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

MOST_WORKERS = 16

T = TypeVar("T")
R = TypeVar("R")


def default_workers() -> int:
    """Return the number of decoding threads: one for each core, at most `MOST_WORKERS`."""
    return min(MOST_WORKERS, os.cpu_count() or 1)


def in_threads(
    function: Callable[[T], R], items: Iterable[T], ahead: int, workers: int | None = None
) -> Generator[R]:
    """Yield `function(item)` in the order of the items, which are taken in the caller's thread.

    Args:
        function: called in the threads; safe to call concurrently.
        items: an error of their iterator is raised after the results of the items before it.
        ahead: minimum number of results that wait for the caller; never fewer than one for each thread.
        workers: threads, by default one for each core; 0 for the caller's.
    Raises: the error of the first item that has one.
    """
    workers = default_workers() if workers is None else workers
    if workers == 0:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="x2kit-decode")
    waiting: deque[Future[R]] = deque()
    remaining, failure = iter(items), None
    try:
        while failure is None:
            try:
                waiting.append(pool.submit(function, next(remaining)))
            except Exception as error:  # noqa: BLE001 (raised below, in its turn)
                failure = error
            if len(waiting) >= max(ahead, workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if not isinstance(failure, StopIteration):
            raise failure
    finally:
        pool.shutdown(cancel_futures=True)

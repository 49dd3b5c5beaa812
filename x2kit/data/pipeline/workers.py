"""Run a dataset in data worker processes that end with the main process. Imports torch.

Workers ignore SIGINT and SIGTERM, because a terminal or a batch system sends both to every process of a job and the
main process must save first. They end in one of two ways instead, within milliseconds even in the middle of a batch:
the main process tells them to, or it dies.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import Pipe, parent_process
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from x2kit.errors import DataError
from x2kit.plugin.component_faults import WORKER_GONE

T = TypeVar("T")


@contextmanager
def worker_results(dataset: Dataset[T], keys: Iterable[Any], count: int) -> Iterator[Iterator[T]]:
    """Yield an iterator over `dataset[key]` in the order of the keys, computed in worker processes.

    The workers end with the block, also when an exception leaves it, and at the latest when Python exits.

    Args:
        dataset: its items are passed on unchanged.
        keys: one for each item.
        count: number of workers, at least 1.
    """
    told, telling = Pipe(duplex=False)
    results = iter(
        DataLoader(
            dataset,
            batch_size=None,
            sampler=keys,
            num_workers=count,
            collate_fn=_unchanged,
            worker_init_fn=partial(_start, told),
            generator=torch.Generator(),  # without one the loader would draw from torch's global generator
        )
    )

    def end() -> None:
        telling.send(None)  # never received, so every worker sees that something is there
        results._shutdown_workers()  # type: ignore[attr-defined]

    # A generator that a traceback keeps alive is not closed before multiprocessing joins the workers at exit.
    atexit.register(end)
    try:
        yield results
    finally:
        atexit.unregister(end)
        end()


@contextmanager
def worker_deaths() -> Iterator[None]:
    """Raise DataError for a data worker that was killed while the block runs."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith(WORKER_GONE):
            raise
        raise DataError(
            f"a data worker ended without a message; it was killed, or main memory did not suffice: {error}\n"
            "  each of data.num_workers processes takes memory; try fewer"
        ) from error


def _unchanged(item: Any) -> Any:
    return item


def _start(told: Connection, worker: int) -> None:
    """Prepare a new worker process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    Thread(target=_end_when_told, args=(told,), daemon=True).start()
    # A collection writes into every object that it looks at, and so would copy all that a forked process shares with
    # the main one: some 75 MiB of modules alone.
    gc.freeze()
    torch.set_num_threads(1)


def _end_when_told(told: Connection) -> None:
    parent = parent_process()
    assert parent is not None
    wait([told, parent.sentinel])
    os._exit(0)  # any other status would count as a failed worker

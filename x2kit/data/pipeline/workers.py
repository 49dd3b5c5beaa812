"""Compute results in data workers, which end with the main process. Imports torch.

Workers ignore SIGINT and SIGTERM, because a terminal or a batch system sends both to every process of a job and the
main process must save first. They end instead, within milliseconds even in the middle of a batch, when the main
process asks them to or dies.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import Pipe, parent_process
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import signal_handling

from x2kit.distributed.ranks import Ranks
from x2kit.distributed.worker_ranks import RankGone
from x2kit.errors import DataError, PluginError, X2KitError
from x2kit.plugin.component_faults import WORKER_GONE
from x2kit.plugin.loading.file_modules import WithFilePlugins

END_SECONDS = 2.0
"""Time for a worker to end; a decoder that holds the GIL keeps it from noticing, so it is killed afterwards."""

K = TypeVar("K")
T = TypeVar("T")


@contextmanager
def worker_results(function: Callable[[K], T], keys: Iterable[K], count: int) -> Iterator[Iterator[T]]:
    """Yield an iterator over `function(key)` in the order of the keys, computed in worker processes.

    The workers end with the block, also when an exception leaves it, and at the latest when Python exits.

    Args:
        function: picklable; its results are passed on unchanged.
        keys: one for each result.
        count: number of workers, at least 1.
    Raises: DataError, PluginError or RankGone from the iterator, with the message of an error of x2kit in a worker.
    """
    stop_receiver, stop_sender = Pipe(duplex=False)
    loader = iter(
        DataLoader(
            _Calls(function),
            batch_size=None,
            sampler=keys,
            num_workers=count,
            collate_fn=_unchanged,
            worker_init_fn=partial(_start, stop_receiver),
            generator=torch.Generator(),  # else the loader would draw from torch's global generator
        )
    )

    def end() -> None:
        # Not by the loader's own shutdown: it takes locks that it shares with the workers, and waits for ever for one
        # that a stopped worker held.
        inner: Any = loader
        inner._shutdown = True
        stop_sender.send(None)  # nobody receives it, so that every worker sees it
        if inner._worker_pids_set:  # else torch would report a killed worker as an error
            signal_handling._remove_worker_pids(id(inner))  # type: ignore[attr-defined]
            inner._worker_pids_set = False
        for worker in inner._workers:
            worker.join(END_SECONDS)
            worker.kill()
        for queue in (*inner._index_queues, inner._worker_result_queue):
            queue.cancel_join_thread()
            queue.close()

    # A generator kept alive by a traceback is not closed before multiprocessing joins the workers at exit.
    atexit.register(end)
    try:
        yield _raise_errors(loader)
    finally:
        atexit.unregister(end)
        end()


@contextmanager
def worker_deaths(ranks: Ranks) -> Iterator[None]:
    """Raise DataError, with the rank if there are several, for a data worker that was killed while the block runs."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith(WORKER_GONE):
            raise
        where = f" of rank {ranks.rank}" if ranks.count > 1 else ""
        raise DataError(
            f"a data worker{where} ended without a message; it was killed, or main memory did not suffice: {error}\n"
            "  each of data.num_workers processes takes memory; try fewer"
        ) from error


class _WorkerError(NamedTuple):
    """An error of x2kit as sent to the main process; DataLoader would bury its message in a traceback.

    Attributes:
        message: of the error.
        trace: traceback of a component's error; empty for other errors.
        rank_gone: whether the error is a consequence of another rank's failure.
    """

    message: str
    trace: str = ""
    rank_gone: bool = False

    @classmethod
    def of(cls, error: X2KitError) -> _WorkerError:
        """Keep the picklable parts of an error."""
        if isinstance(error, PluginError) and error.__cause__ is not None:
            return cls(str(error), "".join(traceback.format_exception(error.__cause__)))
        return cls(str(error), rank_gone=isinstance(error, RankGone))

    def error(self) -> X2KitError:
        """Build the error to raise in the main process."""
        if self.rank_gone:
            return RankGone(self.message)
        if not self.trace:
            return DataError(self.message)
        error = PluginError(self.message)
        error.__cause__ = RuntimeError(f"in a data worker:\n{self.trace}")
        return error


class _Calls(WithFilePlugins, Dataset[Any], Generic[K, T]):
    def __init__(self, function: Callable[[K], T]) -> None:
        self._function = function

    def __getitem__(self, key: K) -> T | _WorkerError:
        try:
            return self._function(key)
        except X2KitError as error:
            return _WorkerError.of(error)


def _raise_errors(results: Iterator[T | _WorkerError]) -> Generator[T]:
    for result in results:
        if isinstance(result, _WorkerError):
            raise result.error()
        yield result


def _unchanged(item: Any) -> Any:
    return item


def _start(stop_receiver: Connection, worker: int) -> None:
    """Initialise a worker process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    Thread(target=_exit_on_stop, args=(stop_receiver,), daemon=True).start()
    # The garbage collector writes to every object it visits, and would copy all memory that a forked worker shares
    # with the main process: some 75 MiB of modules alone.
    gc.freeze()
    torch.set_num_threads(1)


def _exit_on_stop(stop_receiver: Connection) -> None:
    parent = parent_process()
    assert parent is not None
    wait([stop_receiver, parent.sentinel])
    os._exit(0)  # any other status would count as a failed worker

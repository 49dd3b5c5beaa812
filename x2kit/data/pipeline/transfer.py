"""Copy the next batch to the device beside the step. Imports torch.

On CUDA a thread takes one batch ahead from the loader, copies it to pinned memory, and from there in one piece to the
device on a stream of its own, so that neither the training thread nor the stream of the step waits for it. Other
devices take batches as they come: a CPU has nothing to copy.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Generic, NamedTuple, TypeVar

import torch

from x2kit.data.pipeline.batch import Batch, to_device
from x2kit.data.pipeline.batch_buffer import BufferedBatch, from_buffer, pinned, to_buffer

END_SECONDS = 5.0
"""Time for the thread to end with the loader; a loader that waits for another rank's workers ends with the process."""

T = TypeVar("T")


class Fed(NamedTuple):
    """A batch in main memory, from which counts are read without waiting for the device, and its copy on the device."""

    host: Batch
    on_device: Batch


def feed(batches: Generator[Batch], device: torch.device) -> Generator[Fed]:
    """Yield each batch with its copy on the device, the next one already on the way; close it to close the loader.

    Raises: the errors of the loader, in order.
    """
    if device.type != "cuda":
        with closing(batches):
            for batch in batches:
                yield Fed(batch, to_device(batch, device))
        return
    copier = _SideStream(device)
    with closing(Ahead(_sent(copier, batches))) as sent:
        for each in sent:
            yield copier.receive(each)


class _Sent(NamedTuple):
    """A batch in pinned memory, and its copy on the device, which is complete when the event has happened."""

    host: BufferedBatch
    on_device: BufferedBatch
    copied: torch.cuda.Event


class _SideStream:
    """Copies batches to a CUDA device on a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(self, batch: Batch) -> _Sent:
        """Start the copy of a batch; called in the thread, whose current device is another one at first."""
        with torch.cuda.stream(self._stream):
            buffered = to_buffer(batch, pinned)
            on_device = buffered._replace(buffer=buffered.buffer.to(self._device, non_blocking=True))
            return _Sent(buffered, on_device, self._stream.record_event())

    def receive(self, sent: _Sent) -> Fed:
        """Let the stream of the step wait for the copy, and keep its memory until the step has used it."""
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(sent.copied)
        sent.on_device.buffer.record_stream(stream)
        return Fed(from_buffer(sent.host), from_buffer(sent.on_device))


class Ahead(Generic[T]):
    """Iterate in a thread that has at most one item ready before it is asked for.

    The first item is made in the caller's thread, as data workers must be started there.

    Args:
        items: closed by the thread that iterates it.
    """

    def __init__(self, items: Generator[T]) -> None:
        self._items = items
        self._ready: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
        self._wanted = Semaphore(0)
        self._closed = False
        self._thread: Thread | None = None

    def __iter__(self) -> Generator[T]:
        """Yield the items. Raises: the errors of their iterator."""
        for first in self._items:
            self._thread = Thread(target=self._run, name="x2kit-feed", daemon=True)
            self._thread.start()
            self._wanted.release()
            yield first
            break
        else:
            return
        while True:
            item, error = self._ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            self._wanted.release()
            yield item  # type: ignore[misc]

    def close(self) -> None:
        """End the thread and close the items."""
        self._closed = True
        if self._thread is None:
            self._items.close()
            return
        self._wanted.release()
        self._thread.join(END_SECONDS)

    def _run(self) -> None:
        with closing(self._items):
            while self._wanted.acquire() and not self._closed:
                try:
                    self._ready.put((next(self._items), None))
                except BaseException as error:  # noqa: BLE001 (raised again in the thread of the caller)
                    self._ready.put((None, error))
                    return


def _sent(copier: _SideStream, batches: Generator[Batch]) -> Generator[_Sent]:
    with closing(batches):
        for batch in batches:
            yield copier.send(batch)

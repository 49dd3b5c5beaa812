"""Join the ranks that torchrun started, and exchange values between them. Imports torch if there are several.

    with started_processes() as processes:      # one process unless started by torchrun
        values = processes.gather(mine)         # one value per rank

Torchrun's environment variables are read only here. Python values travel over gloo on any device; model tensors use
their own group (see `x2kit.training.step.rank_exchange`).

A rank that fails records itself in torchrun's store. The first one prints its message; the others read the store from
a thread and exit at once, even while a collective waits for a rank that is gone.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from x2kit.distributed.ranks import Ranks
from x2kit.distributed.worker_ranks import PATIENCE, RankGone, WorkerRanks
from x2kit.errors import X2KitError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup
    from torch.distributed.distributed_c10d import Store

PARTNER_GONE = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Connection refused",
)
"""Gloo's messages when the other end of a connection has exited."""
FAILED = 2
"""Exit status of a rank that failed or exits because another failed."""
INTERRUPTED = 130
"""Exit status of a rank that was asked to stop."""
POLL_SECONDS = 0.25
GRACE_SECONDS = 1.0
"""How long a rank whose peer is gone waits for the peer's message before it prints its own."""
BROADCAST_BYTES = 2**28
"""Bytes per broadcast, well below the 32-bit limit."""


@dataclass(frozen=True)
class Processes(Ranks):
    """The ranks of a run, seen from one of them.

    Attributes:
        local_rank: rank on this machine; index of the CUDA device.
        messages: process group for Python values; None with one process.
        store: host and port of the run's store.
    """

    local_rank: int = 0
    messages: ProcessGroup | None = None
    store: tuple[str, int] = ("localhost", 0)

    @property
    def several(self) -> bool:
        """Whether there is more than one rank."""
        return self.count > 1

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is rank 0, the one that writes and prints."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks in rank order. Every rank must call this, as the methods below."""
        if not self.several:
            return super().gather(value)
        from torch import distributed

        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value, group=self.messages)
        return values

    def begin_any(self, flag: Callable[[], bool]) -> Callable[[], bool]:
        """Start asking whether the flag is set on any rank, beside other work; call the result for the answer.

        Several ranks read the flag now, one reads it when the answer is called for.
        """
        if not self.several:
            return flag
        import torch
        from torch import distributed

        found = torch.tensor(int(flag()))
        work = distributed.all_reduce(found, distributed.ReduceOp.MAX, group=self.messages, async_op=True)

        def answer() -> bool:
            work.wait()
            return bool(found)

        return answer

    def from_rank_zero(self, value: Any) -> Any:
        """Broadcast the value of rank 0."""
        if not self.several:
            return super().from_rank_zero(value)
        from torch import distributed

        values = [value]
        distributed.broadcast_object_list(values, src=0, group=self.messages)
        return values[0]

    def concatenate(self, rows: Tensor | None) -> Tensor:
        """Concatenate the rows of all ranks without intermediate copies; see `Ranks.concatenate`."""
        if not self.several:
            return super().concatenate(rows)
        import torch
        from torch import distributed

        layouts = self.gather(None if rows is None else (rows.shape, rows.dtype))
        shape, dtype = next(filter(None, layouts), (None, None))
        if shape is None:
            return super().concatenate(None)
        lengths = [layout[0][0] if layout else 0 for layout in layouts]
        joined = torch.empty((sum(lengths), *shape[1:]), dtype=dtype)
        for rank, part in enumerate(torch.split(joined, lengths)):
            if rows is not None and rank == self.rank:
                part.copy_(rows)
            # As bytes, since gloo does not support every dtype.
            for piece in torch.split(part.view(-1).view(torch.uint8), BROADCAST_BYTES):
                if len(piece):
                    distributed.broadcast(piece, rank, group=self.messages)
        return joined

    def of_workers(self) -> Ranks:
        """Return ranks for the processes that load data, which exchange beside all other exchanges; collective."""
        if not self.several:
            return self
        host, port = self.store
        return WorkerRanks(self.rank, self.count, host, port, self.from_rank_zero(uuid.uuid4().hex))

    def wait(self) -> None:
        """Block until all ranks have reached this point."""
        self.gather(None)

    def mean(self, values: Mapping[str, Tensor | float]) -> dict[str, float]:
        """Average each value over the ranks; all ranks have the same names."""
        own = {name: float(value) for name, value in values.items()}
        if not self.several:
            return own
        gathered = self.gather(own)
        return {name: sum(other[name] for other in gathered) / self.count for name in own}


ALONE = Processes()


@contextmanager
def started_processes() -> Iterator[Processes]:
    """Join the ranks that torchrun started while the block runs; yield ALONE without torchrun.

    An error that leaves the block on one rank ends all others within seconds; only the rank that failed first prints
    its message. With several ranks this process exits here after an error; with one the error propagates.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
        yield ALONE
        return
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    store, rank, count = next(rendezvous("env://", timeout=PATIENCE))
    with _FailureRelay(rank, store.clone()):
        yield _init_process_group(store, rank, count)
        distributed.destroy_process_group()


def _init_process_group(store: Any, rank: int, count: int) -> Processes:
    import torch
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore

    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    backend = "cpu:gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    distributed.init_process_group(
        backend, store=PrefixStore("x2kit", store), rank=rank, world_size=count, timeout=PATIENCE
    )
    # A separate group, so that no message can be mistaken for a gradient in flight.
    messages = distributed.new_group(backend="gloo", timeout=PATIENCE)
    return Processes(rank, count, local_rank, messages, (store.host, store.port))


class _FailureRelay:
    """Share the first failure of a run through the store, and exit when another rank failed.

    A context manager that ends this process after an error in the block.

    Args:
        rank: of this process.
        store: a separate connection, since a thread polls it.
    """

    KEY = "failed"

    def __init__(self, rank: int, store: Store) -> None:
        self._rank = rank
        self._store = store
        self._closed = threading.Event()
        self._lock = threading.Lock()  # two threads share the connection

    def __enter__(self) -> Self:
        threading.Thread(target=self._poll, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        if isinstance(error, KeyboardInterrupt):
            if self._rank == 0:  # all ranks stop after the same step with the same message
                sys.stderr.write(f"{str(error) or 'interrupted'}\n")
            _exit(INTERRUPTED)
        elif isinstance(error, Exception):
            if not isinstance(error, X2KitError) or isinstance(error, RankGone):
                self._await_other()
            if self._claim():
                sys.stderr.write(f"{self._message(error)}\n")
            _exit()

    def _await_other(self) -> None:
        """Let another rank report first, in case this error is a consequence of its exit."""
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline and not self._has_failed():
            time.sleep(POLL_SECONDS)

    def _message(self, error: Exception) -> str:
        if isinstance(error, X2KitError):
            return str(error)
        first = str(error).partition("\n")[0]
        if any(sign in str(error) for sign in PARTNER_GONE):
            return (
                f"rank {self._rank}: another rank exited without a message; it was killed or ran out of memory "
                f"({first})"
            )
        return f"rank {self._rank}:\n{''.join(traceback.format_exception(error))}"

    def _claim(self) -> bool:
        """Record this rank as the first that failed; return False if another one was earlier."""
        own = str(self._rank)
        with self._lock:
            return bool(self._store.compare_set(self.KEY, "", own).decode() == own)

    def _has_failed(self) -> bool:
        with self._lock:
            return bool(self._store.check([self.KEY]))

    def _poll(self) -> None:
        while not self._closed.wait(POLL_SECONDS):
            try:
                failed = self._has_failed()
            except RuntimeError:  # the store is gone, and torchrun with it
                failed = True
            if failed and not self._closed.is_set():
                _exit()


def _exit(status: int = FAILED) -> NoReturn:
    """Exit without cleanup, since a thread blocked in a collective cannot be ended otherwise."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

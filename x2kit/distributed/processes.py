"""Which processes make a run: one alone, or those that torchrun started. Imports torch when there are several.

    with started_processes() as processes:      # one process, unless torchrun says otherwise
        values = processes.gather(mine)         # what each process has, by rank

What torchrun tells of them is read here and nowhere else. Messages between processes are Python values, over gloo,
whatever the device; tensors of the model go their own way (see `x2kit.training.step.remote_rows`).

A process that fails leaves its message in torchrun's store. The first to do so is the one whose message a person
reads; the others see it there and end at once, even while they wait for a process that will not come.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from x2kit.distributed.ranks import Ranks
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
"""How gloo says that the other end of a connection is gone."""
FAILED = 2
"""Exit status of a process that ends because of another."""
INTERRUPTED = 130
"""Exit status of a process that was asked to stop."""
LOOK_SECONDS = 0.25
GRACE_SECONDS = 1.0
"""How long a process whose partner is gone waits for the partner's message, before it speaks itself."""
BYTES_AT_ONCE = 2**28
"""Of tensors on their way between processes: far from what overflows a length of 32 bits."""
PATIENCE = timedelta(minutes=30)
"""Longest wait for another process, such as one whose data is slow; a failure is noticed at once, not by this."""


@dataclass(frozen=True)
class Processes(Ranks):
    """The processes of a run, seen from one of them.

    Attributes:
        local_rank: number of this one on its machine; the CUDA device that it uses.
        messages: whom Python values go to; None where there is one process.
    """

    local_rank: int = 0
    messages: ProcessGroup | None = None

    @property
    def several(self) -> bool:
        """Whether there is more than one."""
        return self.count > 1

    @property
    def is_rank_zero(self) -> bool:
        """Whether this is the one that writes and speaks: rank 0."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """The value of each process, by rank. All of them have to call this, as all that follows."""
        if not self.several:
            return super().gather(value)
        from torch import distributed

        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value, group=self.messages)
        return values

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return any(self.gather(flag)) if self.several else flag

    def from_rank_zero(self, value: Any) -> Any:
        """What rank 0 has."""
        if not self.several:
            return super().from_rank_zero(value)
        from torch import distributed

        values = [value]
        distributed.broadcast_object_list(values, src=0, group=self.messages)
        return values[0]

    def concatenate(self, rows: Tensor | None) -> Tensor:
        """The rows of all processes, those of rank 0 first; see `Ranks`. No copy of them is made on the way."""
        if not self.several:
            return super().concatenate(rows)
        import torch
        from torch import distributed

        found = self.gather(None if rows is None else (rows.shape, rows.dtype))
        shape, dtype = next((each for each in found if each), (None, None))
        if shape is None:
            return super().concatenate(None)
        lengths = [each[0][0] if each else 0 for each in found]
        joined = torch.empty((sum(lengths), *shape[1:]), dtype=dtype)
        for rank, part in enumerate(torch.split(joined, lengths)):
            if rows is not None and rank == self.rank:
                part.copy_(rows)
            # As bytes: gloo does not know every dtype.
            for piece in torch.split(part.view(-1).view(torch.uint8), BYTES_AT_ONCE):
                if len(piece):
                    distributed.broadcast(piece, rank, group=self.messages)
        return joined

    def wait(self) -> None:
        """Until all processes have come here."""
        self.gather(None)

    def mean(self, values: Mapping[str, Tensor | float]) -> dict[str, float]:
        """The mean over the processes of each value; all have the same names."""
        own = {name: float(value) for name, value in values.items()}
        if not self.several:
            return own
        found = self.gather(own)
        return {name: sum(other[name] for other in found) / self.count for name in own}


ALONE = Processes()


def launched() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


@contextmanager
def started_processes() -> Iterator[Processes]:
    """The processes of this run, while the block lasts: ALONE, unless torchrun started several.

    An error that leaves the block in one process ends the others too, within seconds. Its message is printed by the
    process that failed first, and by no other.

    Where several processes run, this one ends here after an error; where one runs, the error goes on as it came.
    """
    if not launched():
        yield ALONE
        return
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    store, rank, count = next(rendezvous("env://", timeout=PATIENCE))
    with _Failures(rank, store.clone()):
        yield _join(store, rank, count)
        distributed.destroy_process_group()


def _join(store: Store, rank: int, count: int) -> Processes:
    import torch
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore

    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    backend = "cpu:gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    distributed.init_process_group(
        backend,
        store=PrefixStore("x2kit", store),
        rank=rank,
        world_size=count,
        timeout=PATIENCE,
    )
    # A group of their own: no message can meet one of the gradients on its way.
    return Processes(rank, count, local_rank, distributed.new_group(backend="gloo", timeout=PATIENCE))


class _Failures:
    """The first failure of a run, in the store that all its processes can read.

    As a context manager it ends this process after an error in the block.

    Args:
        rank: of this process.
        store: a connection of its own, for it is read from a thread.
    """

    KEY = "failed"

    def __init__(self, rank: int, store: Store) -> None:
        self._rank = rank
        self._store = store
        self._over = threading.Event()
        self._lock = threading.Lock()  # one connection, used by two threads

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if isinstance(error, KeyboardInterrupt):
            if self._rank == 0:  # all stop after the same step, with the same words
                sys.stderr.write(f"{str(error) or 'interrupted'}\n")
            _leave(INTERRUPTED)
        elif isinstance(error, Exception):
            if not isinstance(error, X2KitError):
                self._await_other()
            if self._is_first():
                sys.stderr.write(f"{self._message(error)}\n")
            _leave()

    def _await_other(self) -> None:
        """Let another process speak, if this one's error came of its end."""
        waited = 0.0
        while waited < GRACE_SECONDS and not self._known():
            time.sleep(LOOK_SECONDS)
            waited += LOOK_SECONDS

    def _message(self, error: Exception) -> str:
        if isinstance(error, X2KitError):
            return str(error)
        first = str(error).partition("\n")[0]
        if any(sign in str(error) for sign in PARTNER_GONE):
            return (
                f"rank {self._rank}: another process of the run has ended without a message; it was killed, or ran "
                f"out of memory ({first})"
            )
        return f"rank {self._rank}:\n{''.join(traceback.format_exception(error))}"

    def _is_first(self) -> bool:
        own = str(self._rank)
        with self._lock:
            return bool(self._store.compare_set(self.KEY, "", own).decode() == own)

    def _known(self) -> bool:
        with self._lock:
            return bool(self._store.check([self.KEY]))

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            try:
                failed = self._known()
            except RuntimeError:  # the store has gone, and torchrun with it
                failed = True
            if failed and not self._over.is_set():
                _leave()


def _leave(status: int = FAILED) -> NoReturn:
    """End at once: who waits for a message that will not come can be ended in no other way."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

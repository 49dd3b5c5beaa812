"""Exchange values between the data workers of all ranks. Imports torch at the first exchange.

Worker w of every rank loads the same steps. Those workers form a group of their own over gloo, so that loading needs
neither the training process nor its groups.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from x2kit.distributed.ranks import Ranks
from x2kit.errors import X2KitError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.distributed_c10d import Store

PATIENCE = timedelta(minutes=30)
"""Longest wait for a slow rank, such as one loading data; failures are found by the store, not by this."""
ROLL_CALL_SECONDS = 1.0
"""Time in which all living ranks notice that an exchange failed: each leaves the group, which its neighbours see."""


class RankGone(X2KitError):
    """An exchange failed because another rank is gone; the failure of that rank is the cause to report."""


@dataclass(frozen=True)
class WorkerRanks(Ranks):
    """The ranks seen from a process that loads data: a data worker, or without workers the training process.

    Can be pickled until it is used; connects at the first exchange.

    Attributes:
        host, port: of the run's TCPStore.
        name: of the exchange, equal on all ranks and used for no other.
    """

    host: str = "localhost"
    port: int = 0
    name: str = ""
    _connected: list[_Connection] = field(default_factory=list, init=False, repr=False, compare=False)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks in rank order; worker w of every rank must call this equally often.

        Raises: RankGone, with the ranks that are gone, if the exchange fails.
        """
        import torch

        own = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)
        with self._roll_call():
            lengths = [int(length) for length in self._all_gather(torch.tensor([len(own)]))]
            padded = torch.nn.functional.pad(own, (0, max(lengths) - len(own)))  # gloo needs equal shapes
            found = self._all_gather(padded)
        return [
            pickle.loads(part[:length].numpy().tobytes()) for part, length in zip(found, lengths, strict=True)
        ]

    def _all_gather(self, own: Tensor) -> list[Tensor]:
        import torch

        found = [torch.empty_like(own) for _ in range(self.count)]
        if not self._connected:
            self._connected.append(self._connect())
        self._connected[0].group.allgather([found], [own]).wait()
        return found

    def _connect(self) -> _Connection:
        from torch.distributed import (  # type: ignore[attr-defined]
            PrefixStore,
            ProcessGroupGloo,
            TCPStore,
        )

        client = TCPStore(self.host, self.port, is_master=False, wait_for_workers=False, timeout=PATIENCE)
        store = PrefixStore(f"{self.name}/{_place()}", client)
        return _Connection(store, ProcessGroupGloo(store, self.rank, self.count, PATIENCE))

    @contextmanager
    def _roll_call(self) -> Iterator[None]:
        """Turn a failed exchange into an error that names the ranks that do not answer."""
        try:
            yield
        except RuntimeError as error:
            first = str(error).partition("\n")[0]
            stores = [connection.store for connection in self._connected]
            self._connected.clear()  # closes the group, so that the neighbours' exchanges fail, too
            gone = [rank for store in stores for rank in _missing(store, self.rank, self.count)]
            who = f"rank{'s' * (len(gone) > 1)} {', '.join(map(str, gone))}" if gone else "another rank"
            raise RankGone(
                f"{who} ended while the {_place()} of rank {self.rank} waited for its rows; it was killed, ran out of "
                f"memory, or failed with a message of its own ({first})"
            ) from error


class _Connection(NamedTuple):
    store: Store
    group: Any  # ProcessGroupGloo, whose collectives have no types


def _missing(store: Store, rank: int, count: int) -> list[int]:
    """Return the ranks that do not leave the group within `ROLL_CALL_SECONDS`; none if the store is gone."""
    key = "left/{}".format
    try:
        store.set(key(rank), "")
        time.sleep(ROLL_CALL_SECONDS)
        return [other for other in range(count) if not store.check([key(other)])]
    except RuntimeError:
        return []


def _place() -> str:
    """Name this process among those of its rank that load data."""
    from torch.utils.data import get_worker_info

    info = get_worker_info()
    return "training process" if info is None else f"data worker {info.id}"

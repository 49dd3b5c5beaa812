"""Measure the peak of bytes that tensors hold, without the allocator's reserve."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Count memory that operations allocate inside the block while it is alive; earlier memory is ignored.

    Attributes:
        now: bytes.
        peak: the most of `now`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {
            self._address(value) for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)
        }
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, torch.Tensor) and self._address(value) not in given | self._known:
                self._note(value)
        return out

    @staticmethod
    def _address(value: torch.Tensor) -> int:
        return value.untyped_storage().data_ptr()

    def _note(self, value: torch.Tensor) -> None:
        storage, address = value.untyped_storage(), self._address(value)
        size = storage.nbytes()
        self._known.add(address)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, address, size)

    def _gone(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.now -= size

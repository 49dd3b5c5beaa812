"""Lay all tensors of a batch into one buffer, which crosses processes and devices in one piece. Imports torch.

A tensor that a data worker sends costs a file descriptor and some tenths of a millisecond in the training process, and
a copy to a device some microseconds; a batch of several streams has dozens, most of them small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from x2kit.data.pipeline.batch import Batch, map_leaves

ALIGNMENT = 64
"""Each tensor starts at a multiple of this many bytes: of its own number, and of a line of the cache."""


@dataclass(frozen=True)
class Slot:
    """Place of a tensor in a buffer: its first byte, shape and dtype."""

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    def of(self, buffer: Tensor) -> Tensor:
        """Return the tensor, a view of the buffer."""
        size = prod(self.shape) * self.dtype.itemsize
        return buffer[self.start : self.start + size].view(self.dtype).view(self.shape)


class BufferedBatch(NamedTuple):
    """A batch in one buffer.

    Attributes:
        buffer: [n] uint8.
        layout: the batch, with a `Slot` in place of each tensor.
    """

    buffer: Tensor
    layout: Batch


def to_buffer(batch: Batch, allocate: Callable[[int], Tensor]) -> BufferedBatch:
    """Copy the tensors of a batch on the CPU into one buffer.

    Args:
        allocate: makes the buffer: [n] uint8 for a number of bytes.
    """
    tensors: list[tuple[Slot, Tensor]] = []
    size = 0

    def place(tensor: Tensor) -> Slot:
        nonlocal size
        slot = Slot(size, tuple(tensor.shape), tensor.dtype)
        tensors.append((slot, tensor))
        size += -(-tensor.numel() * tensor.itemsize // ALIGNMENT) * ALIGNMENT
        return slot

    layout = map_leaves(batch, Tensor, place)
    buffer = allocate(size)
    for slot, tensor in tensors:
        slot.of(buffer).copy_(tensor)
    return BufferedBatch(buffer, layout)


def from_buffer(buffered: BufferedBatch) -> Batch:
    """Return the batch, whose tensors are views of the buffer."""
    return map_leaves(buffered.layout, Slot, lambda slot: slot.of(buffered.buffer))


def shared(size: int) -> Tensor:
    """Allocate a buffer in the memory that processes share."""
    buffer: Tensor = torch.empty(size, dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
    return buffer


def pinned(size: int) -> Tensor:
    """Allocate a buffer from which CUDA copies without waiting."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=True)

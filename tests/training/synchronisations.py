"""Count the operations of training steps that make the host wait for the device: python -m … RECIPE FILE STEPS.

On a CPU nothing waits, so the operations are counted by name, in the forward and the backward pass: reading a number,
copying to host memory, and results whose shape depends on values. Uploads of Python numbers, which block as well, and
collectives are counted apart.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.training.miniature import ROOT, read_miniature
from x2kit.distributed.processes import ALONE, Processes, started_processes
from x2kit.training.stepper import Stepper, assemble

READS = {
    *("tolist", "cpu", "numpy", "__array__", "__bool__", "__int__", "__float__", "__index__", "item"),
    *("is_nonzero", "__contains__"),
}
"""Methods of tensors that read values on the host; some never reach the dispatcher on a CPU."""
UPLOADS = {"tensor", "as_tensor", "asarray", "from_numpy"}
"""Functions that copy Python numbers to the device."""
DEPENDENT = {
    *("_local_scalar_dense", "nonzero", "masked_select", "_unique", "_unique2", "unique_dim"),
    *("unique_consecutive", "unique_dim_consecutive", "equal", "bincount", "histc"),
}
"""Operations whose result is read by the host, or has a shape that depends on values."""
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
COLLECTIVES = "c10d"
MESSAGES = ("distribute.py", "average")
"""File and function of messages between hosts."""
PINNED = ("packing.py", "on_device")


class Synchronisations:
    """Count within a block what would synchronise a device.

    Attributes:
        waits: by operation and line.
        uploads: by operation and line.
        collectives: by operation.
        bytes: sent into collectives by this rank, by operation.
        messages: operations on host memory in which ranks tell each other which gradients they have, beside the
            backward pass.
    """

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()
        self.collectives: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        self._modes = (_Functions(self), _Operations(self))

    def __enter__(self) -> Synchronisations:
        for mode in self._modes:
            mode.__enter__()
        return self

    def wait(self, operation: str) -> None:
        """Count an operation that waits for the device, or for other hosts."""
        (self.messages if _within(MESSAGES) else self.waits)[f"{operation} {_line()}"] += 1

    def upload(self, operation: str) -> None:
        """Count a copy of Python numbers to the device, unless it is from pinned memory and waits for nothing."""
        if not _within(PINNED) and not _within(MESSAGES):
            self.uploads[f"{operation} {_line()}"] += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(kind, error, trace)


class _Functions(TorchFunctionMode):
    """Count calls from Python."""

    def __init__(self, counts: Synchronisations) -> None:
        super().__init__()
        self._counts = counts

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(function, "__name__", "")
        if name in READS and args and isinstance(args[0], Tensor):
            self._counts.wait(name)
        elif name in UPLOADS:
            self._counts.upload(name)
        return function(*args, **(kwargs or {}))


class _Operations(TorchDispatchMode):
    """Count operations, also those of autograd and of C++ code."""

    def __init__(self, counts: Synchronisations) -> None:
        super().__init__()
        self._counts = counts

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = operation._schema.name.partition("::")[2]
        kwargs = kwargs or {}
        if operation.namespace == COLLECTIVES:
            self._counts.collectives[name] += 1
            self._counts.bytes[name] += _sent(name, args)
        elif name in DEPENDENT or (name in INDEXING and _by_mask(args[1])) or _repeats(name, args, kwargs):
            self._counts.wait(name)
        return operation(*args, **kwargs)


def _by_mask(indices: Sequence[Tensor | None]) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


def _repeats(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    by_tensor = name == "repeat_interleave" and isinstance(args[-1], Tensor)
    return by_tensor and kwargs.get("output_size") is None


def _sent(name: str, args: Sequence[Any]) -> int:
    """Return the bytes of the inputs of a collective; its outputs come first, if they are others."""
    given = args[0] if name in ("allreduce_", "broadcast_") else args[1]
    tensors = [given] if isinstance(given, Tensor) else [each for each in given if isinstance(each, Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _within(place: tuple[str, str]) -> bool:
    """Whether a function of a file is being run."""
    return any((Path(frame.filename).name, frame.name) == place for frame in traceback.extract_stack())


@contextmanager
def host_without_access() -> Iterator[None]:
    """Let the step believe that the host cannot read the device's memory, though it runs on a CPU."""
    readers = [module for module in list(sys.modules.values()) if "host_reads" in vars(module)]
    with ExitStack() as stack:
        for module in readers:
            stack.enter_context(patch.object(module, "host_reads", lambda device: False))
        yield


def _line() -> str:
    """Return the innermost line of x2kit or a plugin, else of a library, outside this module."""
    frames = [frame for frame in traceback.extract_stack() if frame.filename != __file__]
    own = [frame for frame in frames if frame.filename.startswith((f"{ROOT}/x2kit", f"{ROOT}/plugins"))]
    frame = (own or frames)[-1]
    inner = frames[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} ({Path(inner.filename).name}:{inner.lineno})"


def counts_of_steps(file: Path, steps: int, processes: Processes = ALONE) -> dict[str, dict[str, int]]:
    """Make steps of a miniature recipe; count in all after the first, in which wrappers set themselves up."""
    torch.set_num_threads(1)
    recipe = read_miniature(file).recipe
    stepper = Stepper(recipe, assemble(recipe, lambda message: None, processes)[0], 0)
    batches = stepper.batches.iterate(0)
    with host_without_access():
        stepper.step(next(batches))
    counts = Synchronisations()
    for _ in range(steps):
        batch = next(batches)
        stepper.done += 1
        with host_without_access(), counts:
            stepper.step(batch)
    names = ("waits", "uploads", "collectives", "bytes", "messages")
    return {name: dict(getattr(counts, name)) for name in names} | {"search": _search(stepper)}


def _search(stepper: Stepper) -> dict[str, int]:
    """Return how many numbers DDP's search for unused parameters reads in a step; it waits for the device once."""
    forward = None if stepper.distributed is None else stepper.distributed.forward
    searches = getattr(forward, "find_unused_parameters", False) and not getattr(
        forward, "static_graph", False
    )
    learned = [parameter for parameter in stepper.model.parameters() if parameter.requires_grad]
    return {"reads": len(learned) if searches else 0}


if __name__ == "__main__":
    with started_processes() as processes:
        *files, target, steps = sys.argv[1:]
        counts = {file: counts_of_steps(Path(file), int(steps), processes) for file in files}
        of_ranks = processes.gather(counts)
        if processes.is_rank_zero:
            Path(target).write_text(json.dumps(of_ranks), encoding="utf-8")

"""Time the parts of a training step, and name them in a trace. Imports torch.

Methods and functions are replaced by name while the block runs, so the step itself holds no code for measuring:

    timeline = Timeline(device)
    with measured_ranges(stepper, timeline):
        ...                     # steps
    timeline.seconds()          # by part

On an accelerator the ends of parts are events in the stream: nothing waits for the device within a step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from importlib import import_module
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.profiler import record_function

from x2kit.distributed.gather import ALL_GATHER
from x2kit.training.stepper import Stepper

PARTS = (
    "data",
    "vision",
    "text",
    "fusion",
    "losses",
    "other",
    "backward",
    "communication",
    "optimiser",
)
"""Of the time of a step; "other" is the rest: metrics, copies to the device, row numbers."""
PREFIX = "x2kit."
"""Of the names of ranges in a trace."""

MODEL_METHODS = {
    "encode_images": "vision",
    "encode_regions": "vision",
    "encode_texts": "text",
    "prepare_patches": "fusion",
    "fuse": "fusion",
}
FUNCTIONS = {
    "x2kit.training.step.losses": {
        "contrastive_losses": "losses",
        "objective_losses": "losses",
        "fused_losses": "losses",
    },
    "x2kit.training.step.accumulation": {
        "contrastive_losses": "losses",
        "objective_losses": "losses",
        "fused_losses": "losses",
    },
    "x2kit.training.stepper": {"clip_gradients": "optimiser"},
    "torch.distributed": dict.fromkeys(
        (
            "all_gather",
            ALL_GATHER,
            "all_gather_object",
            "all_reduce",
            "all_to_all",
            "all_to_all_single",
            "barrier",
            "broadcast",
            "broadcast_object_list",
            "reduce_scatter_tensor",
        ),
        "communication",
    ),
}
"""Names that callers look up in a module at each call, and their parts."""


class Timeline:
    """Attribute the time of a loop to parts; a part within another one interrupts it.

    Args:
        device: whose streams are timed; the clock of the processor for a CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stack = ["other"]
        self._marks: list[tuple[str, Any]] = []

    def start(self) -> None:
        """Forget what was measured, and begin with "other"."""
        self._stack, self._marks = ["other"], []
        self._mark()

    def enter(self, part: str) -> None:
        """Begin a part."""
        self._stack.append(part)
        self._mark()

    def leave(self) -> None:
        """End the innermost part; the one around it goes on."""
        self._stack.pop()
        self._mark()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Attribute the block to a part, and make it a range of the trace."""
        if _in_thread():  # parts beside the step are not parts of its time
            yield
            return
        with record_function(PREFIX + name):
            self.enter(name)
            yield
            self.leave()

    def seconds(self) -> dict[str, float]:
        """Sum the time since `start` by part; waits for the device."""
        self._mark()
        spent = dict.fromkeys(PARTS, 0.0)
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)
        for (part, begin), (_, end) in pairwise(self._marks):
            spent[part] += (end - begin) if isinstance(end, float) else begin.elapsed_time(end) / 1000
        return spent

    def _mark(self) -> None:
        if self._device.type == "cpu":
            now: Any = time.perf_counter()
        else:
            now = torch.get_device_module(self._device).Event(enable_timing=True)
            now.record()
        self._marks.append((self._stack[-1], now))


def _in_thread() -> bool:
    """Whether a thread of this program runs beside the step; autograd's threads, for which it waits, do not."""
    thread = threading.current_thread()
    return thread is not threading.main_thread() and not isinstance(thread, threading._DummyThread)


@contextmanager
def measured_ranges(stepper: Stepper, timeline: Timeline) -> Iterator[None]:
    """Book the parts of the steps in the block to a timeline.

    The end of the backward pass that waits for the gradients of other ranks is communication.

    Raises: AttributeError if a name of this module no longer exists.
    """
    with ExitStack() as stack:

        def measure(owner: Any, parts: Mapping[str, str]) -> None:
            for name, part in parts.items():
                stack.enter_context(replaced(owner, name, _ranged(getattr(owner, name), part, timeline)))

        measure(stepper.model, MODEL_METHODS)
        measure(stepper.guard, {"update": "optimiser"})
        for module, parts in FUNCTIONS.items():
            measure(import_module(module), parts)
        measure(distributed.Work, {"wait": "communication"})
        several = stepper.processes.several
        backward = _backward(torch.autograd.backward, timeline, several)
        stack.enter_context(replaced(torch.autograd, "backward", backward))
        yield


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Replace an attribute of an object, class or module inside the block."""
    before, own = getattr(owner, name), name in vars(owner)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def _ranged(function: Callable[..., Any], part: str, timeline: Timeline) -> Callable[..., Any]:
    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        with timeline.part(part):
            return function(*arguments, **named)

    return call


def _backward(function: Callable[..., Any], timeline: Timeline, several: bool) -> Callable[..., Any]:
    """Time `torch.autograd.backward`, which `Tensor.backward` calls too."""

    @wraps(function)
    def backward(tensors: Tensor | Sequence[Tensor], *arguments: Any, **named: Any) -> None:
        waiting: list[bool] = []

        def wait() -> None:
            # Autograd runs the callbacks in the order in which they were queued, after the last gradient; those of
            # DDP and FSDP2, which wait for the reduction of the gradients, are queued later than this one.
            waiting.append(True)
            timeline.enter("communication")

        def queue(gradient: Tensor) -> None:
            torch.autograd.Variable._execution_engine.queue_callback(wait)

        first = tensors if isinstance(tensors, Tensor) else tensors[0]
        hook = None
        if several and first.requires_grad:
            hook = first.register_hook(queue)  # type: ignore[no-untyped-call]
        with timeline.part("backward"):
            function(tensors, *arguments, **named)
            if waiting:
                timeline.leave()
        if hook is not None:
            hook.remove()

    return backward

"""What a training step of a recipe costs on this machine, and in which part of it. Imports torch.

A few steps of each phase of the recipe are made from fresh weights and timed part by part; on an accelerator each part
is waited for, so a run is a little faster than what is measured. Nothing is written.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, NamedTuple

import torch
from torch import Tensor

from x2kit.data.config import DataConfig, Phase, StreamConfig, loss_phases
from x2kit.data.pipeline.batch import Batch, ParallelRows, Rows, Texts
from x2kit.model.device import choose_device, describe_device
from x2kit.training.profiling.costs import count_operations
from x2kit.training.stepper import Recipe, Stepper, assemble

PARTS = ("data", "vision", "text", "fusion", "other forward", "backward", "optimiser")
_METHODS = {
    "vision": ("encode_images", "encode_regions"),
    "text": ("encode_texts",),
    "fusion": ("fuse",),
}
WARM_UP = 1
"""Steps before the clock runs: the first ones allocate memory and choose kernels."""
MIN_GAIN = 1.05
"""A larger batch is worth its memory only if it makes samples faster by this factor."""
_MAX_DOUBLINGS = 6


class MeasuredPhase(NamedTuple):
    """Cost of a step in a phase of the run.

    Attributes:
        phase: its steps and losses.
        seconds: a step, data included.
        samples: records a second.
        tokens: of texts a second, without padding.
        shares: of the time, by part; they sum to 1.
        flops: floating point operations a second in the step, data left out; those of `count_operations`.
        memory: peak in bytes: of the device's memory, or on a CPU of the whole process so far.
    """

    phase: Phase
    seconds: float
    samples: float
    tokens: float
    shares: dict[str, float]
    flops: float
    memory: int


class Measured(NamedTuple):
    """Cost of a run.

    Attributes:
        device: and precision, for people.
        rows: texts and pairs a step, by stream.
        phases: at least one, in order.
        peak_flops: floating point operations a second of one large matrix product.
    """

    device: str
    rows: dict[str, int]
    phases: list[MeasuredPhase]
    peak_flops: float

    @property
    def run_seconds(self) -> float:
        """All steps of the run, without checkpoints and start."""
        return sum(one.seconds * one.phase.steps for one in self.phases)

    @property
    def samples(self) -> float:
        """Records a second over the whole run."""
        return sum(one.samples * one.seconds * one.phase.steps for one in self.phases) / self.run_seconds

    @property
    def memory(self) -> int:
        """Largest peak in bytes."""
        return max(one.memory for one in self.phases)

    def utilisation(self, one: MeasuredPhase) -> float:
        """Share of the peak that a step of a phase reaches."""
        return one.flops / self.peak_flops


class _Clock:
    """Seconds by part, on a device whose work may lag behind."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.reset()

    def reset(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)

    def now(self) -> float:
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)
        return time.perf_counter()

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        began = self.now()
        yield
        self.seconds[part] += self.now() - began


class _TimedStepper(Stepper):
    """Notes when the forward pass ends."""

    forward_ended: Callable[[], None]

    def total(self, losses: dict[str, dict[str, Tensor]]) -> Tensor:
        total = super().total(losses)
        self.forward_ended()
        return total


def bench(recipe: Recipe, steps: int) -> Measured:
    """Time steps of each phase of a recipe's run, a phase being a span in which the same losses are on.

    Args:
        recipe: resolved, with at least one stream.
        steps: that are timed in each phase.
    Raises: X2KitError as training does.
    """
    config = recipe.training
    phases = loss_phases(recipe.data, config.steps)
    total, starts = _with_room(recipe.data, config.steps, phases, WARM_UP + steps + 1)
    recipe = _changed(recipe, training=config.model_copy(update={"steps": total}))
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    parts, _ = assemble(recipe, lambda switched_on: None)
    stepper = _TimedStepper(recipe, parts, 0)
    clock = _Clock(parts.device)
    _watch(stepper, clock)
    measured = []
    for phase, stepper.done in zip(phases, starts, strict=True):
        measured.append(_measure(stepper, phase, steps, clock))
    return Measured(
        describe_device(parts.device, stepper.precision),
        {name: stream.batch_size for name, stream in recipe.data.streams.items()},
        measured,
        matmul_peak(parts.device, stepper.precision),
    )


def _with_room(data: DataConfig, steps: int, phases: Sequence[Phase], needed: int) -> tuple[int, list[int]]:
    """Find a longer run in which each phase has the steps needed: its steps, and where the phases start in it."""
    while True:
        longest = {one.names: one for one in sorted(loss_phases(data, steps), key=lambda one: one.steps)}
        found = [longest[phase.names] for phase in phases]
        if min(one.steps for one in found) >= needed:
            return steps, [one.start for one in found]
        steps *= 2


def _measure(stepper: _TimedStepper, phase: Phase, steps: int, clock: _Clock) -> MeasuredPhase:
    """Time the steps from `stepper.done` on."""
    _reset_memory(stepper.device)
    source = stepper.batches.iterate(stepper.done)
    for _ in range(WARM_UP):
        _step(stepper, next(source), clock)
    clock.reset()
    samples = tokens = 0
    for _ in range(steps):
        with clock.on("data"):
            batch = next(source)
        samples += sum(map(len, batch.records.values()))
        tokens += sum(int(texts.mask.sum()) for rows in batch.streams.values() for texts in _texts(rows))
        _step(stepper, batch, clock)
    spent = dict(clock.seconds)  # of these steps alone: the next one is slow, since it is counted
    seconds = sum(spent.values())
    with count_operations() as counter:
        stepper.step(next(source))
    return MeasuredPhase(
        phase,
        seconds / steps,
        samples / seconds,
        tokens / seconds,
        {part: time_in / seconds for part, time_in in spent.items()},
        counter.get_total_flops() * steps / (seconds - spent["data"]),
        _memory(stepper.device),
    )


def find_batch_size(recipe: Recipe, steps: int) -> Iterator[tuple[int, Measured]]:
    """Double all streams' batches as long as samples get faster and the memory lasts.

    Yields: the factor and what was measured, from 1 on.
    """
    best, memory = 0.0, _memory_in_all(choose_device(recipe.training.device))
    for doublings in range(_MAX_DOUBLINGS):
        factor = 2**doublings
        try:
            measured = bench(_changed(recipe, data=larger(recipe.data, factor)), steps)
        except torch.OutOfMemoryError:
            return
        yield factor, measured
        # twice the rows take up to twice the memory, and a CPU's does not end in an error but in swapping
        if measured.samples < MIN_GAIN * best or 2 * measured.memory > memory:
            return
        best = measured.samples


def larger(data: DataConfig, factor: int) -> DataConfig:
    """The streams with so many times the rows."""

    def of(stream: StreamConfig) -> StreamConfig:
        counts = ("batch_size", "max_images", "fusion_rows")
        found = {name: getattr(stream, name) for name in counts}
        return stream.model_copy(
            update={name: count * factor for name, count in found.items() if count is not None}
        )

    return data.model_copy(update={"streams": {name: of(stream) for name, stream in data.streams.items()}})


def matmul_peak(device: torch.device, precision: str, repeats: int = 5) -> float:
    """Floating point operations a second of the best of some large square matrix products."""
    # long enough for the clock that a step runs at, not of a burst
    side = 2048 if device.type == "cpu" else 8192
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    clock, best = _Clock(device), float("inf")
    for _ in range(1 + repeats):
        began = clock.now()
        left @ right
        best = min(best, clock.now() - began)
    return 2 * side**3 / best


def _changed(recipe: Recipe, **sections: Any) -> Recipe:
    changed: Recipe = recipe.model_copy(update=sections)  # type: ignore[attr-defined]
    return changed


def _step(stepper: _TimedStepper, batch: Batch, clock: _Clock) -> None:
    """One step, its time booked to parts; what is in no encoder's call is the other forward pass."""
    inside = sum(clock.seconds[part] for part in _METHODS)
    marks = {"start": clock.now()}

    def mark(name: str) -> Callable[..., None]:
        return lambda *_: marks.__setitem__(name, clock.now())

    stepper.forward_ended = mark("forward")
    hooks = (
        stepper.optimizer.register_step_pre_hook(mark("backward")),
        stepper.optimizer.register_step_post_hook(mark("optimiser")),
    )
    stepper.step(batch)
    stepper.done += 1
    for hook in hooks:
        hook.remove()
    inside = sum(clock.seconds[part] for part in _METHODS) - inside
    clock.seconds["other forward"] += marks["forward"] - marks["start"] - inside
    clock.seconds["backward"] += marks["backward"] - marks["forward"]
    clock.seconds["optimiser"] += marks["optimiser"] - marks["backward"]


def _watch(stepper: Stepper, clock: _Clock) -> None:
    """Book the calls of the model's encoders to their parts."""
    for part, names in _METHODS.items():
        for name in names:
            setattr(stepper.model, name, _timed(getattr(stepper.model, name), part, clock))


def _timed(method: Callable[..., Any], part: str, clock: _Clock) -> Callable[..., Any]:
    @wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        with clock.on(part):
            return method(*arguments, **named)

    return call


def _texts(rows: Rows) -> list[Texts]:
    if isinstance(rows, ParallelRows):
        return [rows.first, rows.second]
    return [rows.texts]


def _reset_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _memory_in_all(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

"""Measure time and memory of a recipe's training steps, part by part. Imports torch.

A few steps of each phase of the recipe run from fresh weights. On an accelerator every part is synchronised, so a run
is slightly faster than measured. No files are written.
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
from x2kit.data.pipeline.batch import Batch
from x2kit.model.device import choose_device, describe_device
from x2kit.plugin.tasks import PretrainingConfig
from x2kit.training.profiling.costs import count_operations
from x2kit.training.step.encoder_passes import clean_texts
from x2kit.training.stepper import Recipe, Stepper, assemble

PARTS = ("data", "vision", "text", "fusion", "other forward", "backward", "optimiser")
_METHODS = {
    "vision": ("encode_images", "encode_regions"),
    "text": ("encode_texts",),
    "fusion": ("fuse",),
}
WARM_UP = 1
"""Untimed steps at the start of a phase: the first steps allocate memory and choose kernels."""
MIN_GAIN = 1.05
"""Smallest gain in samples a second for which a larger batch is worth its memory."""
_MAX_DOUBLINGS = 6


class PhaseResult(NamedTuple):
    """Cost of a step in a phase of the run.

    Attributes:
        phase: steps and losses.
        seconds: per step, data included.
        samples: records a second.
        tokens: text tokens a second, without padding.
        shares: of the time, by part; they sum to 1.
        flops: floating-point operations a second, data excluded; counted by `count_operations`.
        memory: peak in bytes: of the device, or on a CPU of the process so far.
    """

    phase: Phase
    seconds: float
    samples: float
    tokens: float
    shares: dict[str, float]
    flops: float
    memory: int


class BenchResult(NamedTuple):
    """Cost of a run.

    Attributes:
        device: description, with the precision.
        rows: texts and pairs per step, by stream.
        phases: at least one, in order.
        peak_flops: floating-point operations a second of a large matrix product.
    """

    device: str
    rows: dict[str, int]
    phases: list[PhaseResult]
    peak_flops: float

    @property
    def run_seconds(self) -> float:
        """Duration of all steps of the run, without start and checkpoints."""
        return sum(phase.seconds * phase.phase.steps for phase in self.phases)

    @property
    def samples(self) -> float:
        """Records a second over the whole run."""
        records = (phase.samples * phase.seconds * phase.phase.steps for phase in self.phases)
        return sum(records) / self.run_seconds

    @property
    def memory(self) -> int:
        """Largest peak in bytes."""
        return max(phase.memory for phase in self.phases)

    def utilisation(self, phase: PhaseResult) -> float:
        """Share of the peak that the steps of a phase reach."""
        return phase.flops / self.peak_flops


class _Clock:
    """Sum seconds by part, synchronising the device."""

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
    def time(self, part: str) -> Iterator[None]:
        start = self.now()
        yield
        self.seconds[part] += self.now() - start


class _TimedStepper(Stepper):
    """Call back at the end of the forward pass."""

    on_forward_end: Callable[[], None]

    def total(self, losses: dict[str, dict[str, Tensor]]) -> Tensor:
        total = super().total(losses)
        self.on_forward_end()
        return total


def bench(recipe: Recipe, steps: int) -> BenchResult:
    """Time steps of each phase of a run; within a phase the same losses are on.

    Args:
        recipe: resolved, with at least one stream.
        steps: timed steps of each phase.
    Raises: X2KitError as training does.
    """
    config = recipe.training
    phases = loss_phases(recipe.data, config.steps)
    total, starts = _lengthen(recipe.data, config.steps, phases, WARM_UP + steps + 1)
    recipe = _replace(recipe, training=config.model_copy(update={"steps": total}))
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    parts, _ = assemble(recipe, lambda message: None)
    stepper = _TimedStepper(recipe, parts, 0)
    clock = _Clock(parts.device)
    for part, names in _METHODS.items():
        for name in names:
            setattr(stepper.model, name, _timed(getattr(stepper.model, name), part, clock))
    measured = []
    for phase, stepper.done in zip(phases, starts, strict=True):
        measured.append(_measure(stepper, phase, steps, clock))
    return BenchResult(
        describe_device(parts.device, stepper.precision),
        {name: stream.batch_size for name, stream in recipe.data.streams.items()},
        measured,
        matmul_peak(parts.device, stepper.precision),
    )


def _lengthen(data: DataConfig, steps: int, phases: Sequence[Phase], needed: int) -> tuple[int, list[int]]:
    """Double a run until each phase has the steps needed. Returns: its steps, and the first step of each phase."""
    while True:
        longest = {phase.names: phase for phase in sorted(loss_phases(data, steps), key=lambda p: p.steps)}
        long = [longest[phase.names] for phase in phases]
        if min(phase.steps for phase in long) >= needed:
            return steps, [phase.start for phase in long]
        steps *= 2


def _measure(stepper: _TimedStepper, phase: Phase, steps: int, clock: _Clock) -> PhaseResult:
    """Time the steps from `stepper.done` on."""
    if stepper.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(stepper.device)
    source = stepper.batches.iterate(stepper.done)
    for _ in range(WARM_UP):
        _step(stepper, next(source), clock)
    clock.reset()
    samples = tokens = 0
    for _ in range(steps):
        with clock.time("data"):
            batch = next(source)
        samples += sum(map(len, batch.records.values()))
        tokens += sum(int(texts.mask.sum()) for rows in batch.streams.values() for texts in clean_texts(rows))
        _step(stepper, batch, clock)
    spent = dict(clock.seconds)  # before the next step, which counting slows down
    seconds = sum(spent.values())
    with count_operations() as counter:
        stepper.step(next(source))
    return PhaseResult(
        phase,
        seconds / steps,
        samples / seconds,
        tokens / seconds,
        {part: time_in / seconds for part, time_in in spent.items()},
        counter.get_total_flops() * steps / (seconds - spent["data"]),
        _peak_memory(stepper.device),
    )


def find_batch_size(recipe: Recipe, steps: int) -> Iterator[tuple[int, BenchResult]]:
    """Double all batches while samples a second rise and the memory suffices.

    Yields: the factor, from 1 on, and its measurement.
    """
    best, memory = 0.0, _total_memory(choose_device(recipe.training.device))
    for doublings in range(_MAX_DOUBLINGS):
        factor = 2**doublings
        try:
            measured = bench(_replace(recipe, data=scale_batches(recipe.data, factor)), steps)
        except torch.OutOfMemoryError:
            return
        yield factor, measured
        # Twice the rows take up to twice the memory; without memory a CPU swaps instead of raising an error.
        if measured.samples < MIN_GAIN * best or 2 * measured.memory > memory:
            return
        best = measured.samples


def scale_batches(data: DataConfig, factor: int) -> DataConfig:
    """Multiply the rows and images of all streams."""

    def scaled(stream: StreamConfig) -> StreamConfig:
        counts = {name: getattr(stream, name) for name in ("batch_size", "fusion_rows")}
        update: dict[str, Any] = {name: count * factor for name, count in counts.items() if count is not None}
        if isinstance(stream.task, PretrainingConfig):
            update["task"] = stream.task.scaled(factor)
        return stream.model_copy(update=update)

    streams = {name: scaled(stream) for name, stream in data.streams.items()}
    return data.model_copy(update={"streams": streams})


def matmul_peak(device: torch.device, precision: str, repeats: int = 5) -> float:
    """Return floating-point operations a second of the fastest of some large square matrix products."""
    # Long enough to leave the burst clock of the processor.
    side = 2048 if device.type == "cpu" else 8192
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    clock, best = _Clock(device), float("inf")
    for _ in range(1 + repeats):
        start = clock.now()
        left @ right
        best = min(best, clock.now() - start)
    return 2 * side**3 / best


def _replace(recipe: Recipe, **sections: Any) -> Recipe:
    replaced: Recipe = recipe.model_copy(update=sections)  # type: ignore[attr-defined]
    return replaced


def _step(stepper: _TimedStepper, batch: Batch, clock: _Clock) -> None:
    """Make one step and book its time to parts; forward time outside the encoders is "other forward"."""
    before = sum(clock.seconds[part] for part in _METHODS)
    marks = {"start": clock.now()}

    def mark(name: str) -> Callable[..., None]:
        return lambda *_: marks.__setitem__(name, clock.now())

    stepper.on_forward_end = mark("forward")
    hooks = (
        stepper.optimizer.register_step_pre_hook(mark("backward")),
        stepper.optimizer.register_step_post_hook(mark("optimiser")),
    )
    stepper.step(batch)
    stepper.done += 1
    for hook in hooks:
        hook.remove()
    encoders = sum(clock.seconds[part] for part in _METHODS) - before
    clock.seconds["other forward"] += marks["forward"] - marks["start"] - encoders
    clock.seconds["backward"] += marks["backward"] - marks["forward"]
    clock.seconds["optimiser"] += marks["optimiser"] - marks["backward"]


def _timed(method: Callable[..., Any], part: str, clock: _Clock) -> Callable[..., Any]:
    @wraps(method)
    def call(*arguments: Any, **named: Any) -> Any:
        with clock.time(part):
            return method(*arguments, **named)

    return call


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _total_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

"""Find the fastest batch size: double all batches while it pays and fits. Imports torch."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from x2kit.data.config import DataConfig, StreamConfig
from x2kit.distributed.processes import ALONE, Processes
from x2kit.errors import X2KitError
from x2kit.plugin.tasks import PretrainingConfig
from x2kit.training.profiling.bench import BenchResult, bench, replace_sections
from x2kit.training.stepper import Recipe

MIN_GAIN = 1.05
"""Smallest gain in samples a second for which a larger batch is worth its memory."""
_MAX_DOUBLINGS = 6

Measure = Callable[[int], BenchResult | None]
"""Measures batches of a factor times the recipe's rows; None if they do not fit into memory."""


def find_batch_size(measure: Measure) -> Iterator[tuple[int, BenchResult]]:
    """Double all batches while samples a second rise and the memory suffices.

    Yields: the factor, from 1 on, and its measurement.
    """
    best = 0.0
    for doublings in range(_MAX_DOUBLINGS):
        factor = 2**doublings
        measured = measure(factor)
        if measured is None:
            return
        yield factor, measured
        # Twice the rows take up to twice the memory; without memory a CPU swaps instead of raising an error.
        if measured.samples < MIN_GAIN * best or 2 * measured.memory > measured.capacity:
            return
        best = measured.samples


def measure_in_process(recipe: Recipe, steps: int, processes: Processes = ALONE) -> Measure:
    """Return a function that measures in this process, on all ranks that it belongs to.

    With several ranks it raises X2KitError instead of returning None: a rank without memory leaves the others in a
    collective, so all of them end.
    """
    return partial(_measure, recipe, steps, processes)


def _measure(recipe: Recipe, steps: int, processes: Processes, factor: int) -> BenchResult | None:
    try:
        return bench(scale_recipe(recipe, factor), steps, processes)
    except torch.OutOfMemoryError as error:
        if processes.several:
            raise out_of_memory(processes.rank, factor) from error
        return None
    finally:
        free_memory()


def out_of_memory(rank: int, factor: int) -> X2KitError:
    """Describe batches that do not fit."""
    return X2KitError(
        f"rank {rank}: out of memory with {factor} times the rows of the recipe; the ranks cannot go on after it; "
        "use smaller batches, or let bench start the ranks itself (--ranks N), which tries each size in new processes"
    )


def free_memory() -> None:
    """Return the memory of what is no longer used to the device."""
    gc.collect()
    if torch.accelerator.is_available():
        torch.get_device_module().empty_cache()


def scale_recipe(recipe: Recipe, factor: int) -> Recipe:
    """Multiply the batches of a recipe."""
    return replace_sections(recipe, data=scale_batches(recipe.data, factor))


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

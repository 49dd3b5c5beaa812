"""Measure a recipe on the ranks of torchrun, or on ranks that are started for it. Imports torch."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import jsonargparse
import torch

from x2kit.cli.recipe_keys import read
from x2kit.distributed.launch import RanksFailed, run_ranks
from x2kit.distributed.processes import Processes, started_processes
from x2kit.training.profiling.batch_size import Measure, out_of_memory, scale_recipe
from x2kit.training.profiling.bench import BenchResult, bench


def measure(options: jsonargparse.Namespace, processes: Processes, factor: int = 1) -> BenchResult:
    """Measure the recipe of the options on all ranks of this process's run; collective.

    Args:
        options: of the command.
        processes: the ranks.
        factor: of all batch sizes.
    """
    recipe = scale_recipe(read(options, [options.recipe] if options.recipe else []).recipe, factor)
    return bench(recipe, options.steps, processes, Path(options.trace) if options.trace else None)


def measure_on(
    count: int,
    options: jsonargparse.Namespace,
    *,
    share: int | None = None,
    factor: int = 1,
    full: Path | None = None,
) -> BenchResult:
    """Start ranks on this machine and measure on them.

    Args:
        count: of ranks.
        options: of the command.
        share: each rank has the threads of a CPU divided by this number; `count` by default. Measurements that are
            compared have the same.
        factor: of all batch sizes.
        full: file that a rank creates if its memory does not suffice.
    Raises: RanksFailed if a rank failed, with its message printed.
    """
    threads = max(1, torch.get_num_threads() // (share or count))
    return run_ranks(_measure_as_rank, (options, threads, factor, full), count)[0]


def _measure_as_rank(
    options: jsonargparse.Namespace, threads: int, factor: int, full: Path | None
) -> BenchResult:
    torch.set_num_threads(threads)
    with started_processes() as processes:
        try:
            return measure(options, processes, factor)
        except torch.OutOfMemoryError as error:
            if full is None:
                raise
            full.touch()
            raise out_of_memory(processes.rank, factor) from error


def fitting_on(count: int, options: jsonargparse.Namespace) -> Measure:
    """Return a function that measures batches of a factor on new ranks, or returns None if a rank lacks memory."""
    return partial(_fitting, count, options)


def _fitting(count: int, options: jsonargparse.Namespace, factor: int) -> BenchResult | None:
    with TemporaryDirectory() as folder:
        full = Path(folder) / "out-of-memory"
        try:
            return measure_on(count, options, factor=factor, full=full)
        except RanksFailed:
            if full.exists():
                return None
            raise

"""`x2kit bench`: measure time and memory of a recipe's training step, on one rank or several."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import jsonargparse

from x2kit.cli.bench.tables import as_json, notes, ranks_table, sizes_table, table
from x2kit.cli.key_help import print_help
from x2kit.cli.recipe_keys import add_recipe_arguments, read
from x2kit.distributed.processes import Processes, started_processes
from x2kit.errors import X2KitError
from x2kit.recipe.schema import SECTIONS
from x2kit.terminal import PlainConsole

if TYPE_CHECKING:
    from x2kit.training.profiling.bench import BenchResult

HELP = "measure speed and peak memory of a recipe's training step on this machine"
RECIPE_KEYS = SECTIONS
EXAMPLES = """\
examples:
  x2kit bench quickstart/multilingual
  x2kit bench my_recipe.yaml --training.precision bf16 --steps 20 --json
  x2kit bench my_recipe.yaml --ranks 8 --trace traces
  x2kit bench my_recipe.yaml --ranks 1,2,4,8
  x2kit bench my_recipe.yaml --ranks 8 --find-batch-size
  torchrun --nnodes 2 --nproc-per-node 8 ... -m x2kit bench my_recipe.yaml
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add recipe, steps, ranks and output options."""
    add_recipe_arguments(parser)
    parser.add_argument(
        "--steps", type=int, default=5, metavar="N", help="steps to time in each phase of active losses"
    )
    parser.add_argument(
        "--ranks",
        type=str,
        metavar="N[,N...]",
        help="start so many ranks on this machine, which share each batch; several numbers are measured in turn",
    )
    parser.add_argument(
        "--trace",
        type=str,
        metavar="DIR",
        help="write a trace of two steps of each phase and rank, for Perfetto or chrome://tracing",
    )
    parser.add_argument(
        "--find-batch-size", action="store_true", help="double all batch sizes while throughput increases"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")


def run(options: jsonargparse.Namespace) -> int:
    """Resolve the recipe, measure it and print the result on one rank."""
    if options.recipe_keys.help:
        return print_help(options, [options.recipe] if options.recipe else [])
    if options.trace:
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler would report its start and end
    with started_processes() as processes:
        _require_sense(options, processes)
        if options.ranks is not None:
            return _run_counts(options, [int(count) for count in options.ranks.split(",")])
        if options.find_batch_size:
            tried = dict(_sizes(options, processes))
            if processes.is_rank_zero:
                _print_sizes(options, tried)
            return 0
        from x2kit.cli.bench.ranks import measure  # imports torch

        measured = measure(options, processes)
        if processes.is_rank_zero:
            _print_one(options, measured)
    return 0


def _require_sense(options: jsonargparse.Namespace, processes: Processes) -> None:
    """Raise X2KitError for options that exclude each other, and RecipeError for a faulty recipe."""
    if options.steps < 1:
        raise X2KitError(f"--steps: should be 1 or more, found {options.steps}")
    if options.ranks is not None:
        counts = options.ranks.split(",")
        if not all(count.isdecimal() and int(count) for count in counts):
            raise X2KitError(f"--ranks: numbers of 1 or more, such as 4 or 1,2,4; found {options.ranks}")
        if processes.several:
            raise X2KitError("--ranks: torchrun has started the ranks already; leave the option out")
        if options.find_batch_size and len(counts) > 1:
            raise X2KitError(f"--find-batch-size needs one number of ranks, found --ranks {options.ranks}")
    if options.find_batch_size and options.trace:
        raise X2KitError("--find-batch-size and --trace exclude each other; trace the size that you choose")
    names = [options.recipe] if options.recipe else []
    if not read(options, names).recipe.data.streams:
        raise X2KitError("data.streams: the recipe has no stream, so there is no step to measure; add one")


def _run_counts(options: jsonargparse.Namespace, counts: list[int]) -> int:
    """Measure with each number of ranks, started here."""
    from x2kit.cli.bench.ranks import measure_on  # imports torch
    from x2kit.distributed.launch import RanksFailed

    try:
        if options.find_batch_size:
            _print_sizes(options, dict(_sizes(options, count=counts[0])))
            return 0
        measured = [measure_on(count, options, share=max(counts)) for count in counts]
    except RanksFailed:  # the rank that failed has said why
        return 2
    if len(measured) == 1:
        _print_one(options, measured[0])
    elif options.json:
        print(json.dumps({"ranks": [as_json(one) for one in measured]}, indent=2))
    else:
        PlainConsole().print(ranks_table(measured))
        print(*notes(measured[-1]), sep="\n")
    return 0


def _sizes(
    options: jsonargparse.Namespace, processes: Processes | None = None, count: int = 1
) -> Iterator[tuple[int, BenchResult]]:
    from x2kit.cli.bench.ranks import fitting_on  # imports torch
    from x2kit.training.profiling.batch_size import find_batch_size, measure_in_process

    if processes is None:
        yield from find_batch_size(fitting_on(count, options))
        return
    recipe = read(options, [options.recipe] if options.recipe else []).recipe
    yield from find_batch_size(measure_in_process(recipe, options.steps, processes))


def _print_one(options: jsonargparse.Namespace, measured: BenchResult) -> None:
    if options.json:
        print(json.dumps(as_json(measured), indent=2))
        return
    PlainConsole().print(table(measured))
    print(*notes(measured), sep="\n")
    if options.trace:
        print(f"trace: {options.trace}/phase-*-rank-*.json.gz; open one in https://ui.perfetto.dev")


def _print_sizes(options: jsonargparse.Namespace, tried: dict[int, BenchResult]) -> None:
    if not tried:
        raise X2KitError(
            "out of memory with the rows of the recipe; use a smaller batch_size, training.precision bf16, "
            "training.activation_checkpointing true or training.accumulation 2"
        )
    best = max(tried, key=lambda factor: tried[factor].samples)
    if options.json:
        result = {"best": best, "tried": {factor: as_json(measured) for factor, measured in tried.items()}}
        print(json.dumps(result, indent=2))
        return
    PlainConsole().print(sizes_table(tried, best))
    for name, rows in tried[best].rows.items():
        print(f"--data.streams.{name}.batch_size {rows}")

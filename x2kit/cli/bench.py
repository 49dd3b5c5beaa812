"""`x2kit bench`: measure time and memory of a recipe's training step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import jsonargparse
from rich.table import Table

from x2kit.cli.key_help import print_help
from x2kit.cli.recipe_keys import add_recipe_arguments, read
from x2kit.errors import X2KitError
from x2kit.recipe.schema import SECTIONS
from x2kit.terminal import PlainConsole

if TYPE_CHECKING:
    from x2kit.training.profiling.bench import BenchResult, PhaseResult

HELP = "measure speed and peak memory of a recipe's training step on this machine"
RECIPE_KEYS = SECTIONS
EXAMPLES = """\
examples:
  x2kit bench quickstart/multilingual
  x2kit bench my_recipe.yaml --training.precision bf16 --steps 20 --json
  x2kit bench my_recipe.yaml --find-batch-size
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add recipe, steps and output options."""
    add_recipe_arguments(parser)
    parser.add_argument(
        "--steps", type=int, default=5, metavar="N", help="steps to time in each phase of active losses"
    )
    parser.add_argument(
        "--find-batch-size", action="store_true", help="double all batch sizes while throughput increases"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")


def run(options: jsonargparse.Namespace) -> int:
    """Resolve the recipe, measure it and print the result."""
    names = [options.recipe] if options.recipe else []
    if options.recipe_keys.help:
        return print_help(options, names)
    if options.steps < 1:
        raise X2KitError(f"--steps: should be 1 or more, found {options.steps}")
    recipe = read(options, names).recipe
    if not recipe.data.streams:
        raise X2KitError("data.streams: the recipe has no stream, so there is no step to measure; add one")
    from x2kit.training.profiling.bench import bench, find_batch_size  # imports torch

    if not options.find_batch_size:
        measured = bench(recipe, options.steps)
        if options.json:
            print(json.dumps(_facts(measured), indent=2))
        else:
            PlainConsole().print(_table(measured))
            print(*_notes(measured), sep="\n")
        return 0
    tried = dict(find_batch_size(recipe, options.steps))
    best = max(tried, key=lambda factor: tried[factor].samples)
    if options.json:
        result = {"best": best, "tried": {factor: _facts(measured) for factor, measured in tried.items()}}
        print(json.dumps(result, indent=2))
        return 0
    PlainConsole().print(_sizes(tried, best))
    for name, rows in tried[best].rows.items():
        print(f"--data.streams.{name}.batch_size {rows}")
    return 0


def _facts(measured: BenchResult) -> dict[str, Any]:
    return {
        "device": measured.device,
        "rows": measured.rows,
        "run_seconds": measured.run_seconds,
        "samples_per_second": measured.samples,
        "peak_flops_per_second": measured.peak_flops,
        "peak_memory_bytes": measured.memory,
        "phases": [
            {
                "first_step": one.phase.start + 1,
                "last_step": one.phase.stop,
                "losses": list(one.phase.names),
                "seconds_per_step": one.seconds,
                "samples_per_second": one.samples,
                "tokens_per_second": one.tokens,
                "shares": one.shares,
                "flops_per_second": one.flops,
                "utilisation": measured.utilisation(one),
                "peak_memory_bytes": one.memory,
            }
            for one in measured.phases
        ],
    }


def _table(measured: BenchResult) -> Table:
    phases = measured.phases
    columns = [f"steps {one.phase.start + 1}-{one.phase.stop}" for one in phases]
    table = Table("measure", *(columns if len(phases) > 1 else ["value"]), title=measured.device)
    table.add_row("seconds per step", *(f"{one.seconds:.3g}" for one in phases))
    table.add_row("samples/s", *(f"{one.samples:.1f}" for one in phases))
    table.add_row("tokens/s", *(f"{one.tokens:.0f}" for one in phases))
    for part in phases[0].shares:
        table.add_row(f"  {part}", *(f"{one.shares[part]:.1%}" for one in phases))
    table.add_row("GFLOP/s in the step", *(f"{one.flops / 1e9:.1f}" for one in phases))
    table.add_row("share of matmul peak", *(f"{measured.utilisation(one):.0%}" for one in phases))
    table.add_row("peak memory", *(f"{one.memory / 2**20:.0f} MiB" for one in phases))
    return table


def _notes(measured: BenchResult) -> Iterator[str]:
    """Yield the notes below the table: batch, losses that each phase changes, run time."""
    yield f"rows per step: {', '.join(f'{name} {rows}' for name, rows in measured.rows.items())}"
    yield f"matmul peak: {measured.peak_flops / 1e9:.1f} GFLOP/s"
    for before, one in pairwise(measured.phases):
        for verb, names in (("starts", _only_in(one, before)), ("stops", _only_in(before, one))):
            if names:
                yield f"step {one.phase.start + 1} {verb} {', '.join(names)}"
    yield f"run: {measured.phases[-1].phase.stop} steps in about {measured.run_seconds / 60:.1f} minutes"


def _only_in(one: PhaseResult, other: PhaseResult) -> list[str]:
    return [name for name in one.phase.names if name not in other.phase.names]


def _sizes(tried: dict[int, BenchResult], best: int) -> Table:
    table = Table("batches", "samples/s", "peak memory", "")
    for factor, measured in tried.items():
        memory = f"{measured.memory / 2**20:.0f} MiB"
        table.add_row(f"× {factor}", f"{measured.samples:.1f}", memory, "best" if factor == best else "")
    return table

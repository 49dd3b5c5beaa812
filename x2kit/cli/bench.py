"""`x2kit bench`: what a training step of a recipe costs on this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import jsonargparse
from rich.console import Console
from rich.table import Table

from x2kit.cli.key_help import print_help
from x2kit.cli.recipe_keys import add_recipe_arguments, read
from x2kit.errors import X2KitError
from x2kit.recipe.shapes import SECTIONS

if TYPE_CHECKING:
    from x2kit.training.bench import Measured

HELP = "measure what a training step of a recipe costs here"
RECIPE_KEYS = SECTIONS
EXAMPLES = """\
examples:
  x2kit bench quickstart/multilingual
  x2kit bench my_recipe.yaml --training.precision bf16 --steps 20 --json
  x2kit bench my_recipe.yaml --find-batch-size
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Recipe, steps, form of the result."""
    add_recipe_arguments(parser)
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="steps that are timed")
    parser.add_argument(
        "--find-batch-size", action="store_true", help="double the batches while that makes samples faster"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")


def run(options: jsonargparse.Namespace) -> int:
    """Resolve the recipe, measure, show."""
    names = [options.recipe] if options.recipe else []
    if options.recipe_keys.help:
        return print_help(options, names)
    if options.steps < 1:
        raise X2KitError(f"--steps: at least 1 step must be timed, found {options.steps}")
    recipe = read(options, names).recipe
    if not recipe.data.streams:
        raise X2KitError("the recipe has no stream of data, so there is no step to measure; see data.streams")
    from x2kit.training.bench import bench, find_batch_size  # torch enters here

    if not options.find_batch_size:
        measured = bench(recipe, options.steps)
        if options.json:
            print(json.dumps(_facts(measured), indent=2))
        else:
            Console().print(_table(measured))
        return 0
    tried = dict(find_batch_size(recipe, options.steps))
    best = max(tried, key=lambda factor: tried[factor].samples)
    if options.json:
        found = {"best": best, "tried": {factor: _facts(measured) for factor, measured in tried.items()}}
        print(json.dumps(found, indent=2))
        return 0
    Console().print(_sizes(tried, best))
    for name, rows in tried[best].rows.items():
        print(f"--data.streams.{name}.batch_size {rows}")
    return 0


def _facts(measured: Measured) -> dict[str, Any]:
    return {
        "device": measured.device,
        "rows": measured.rows,
        "seconds_per_step": measured.seconds,
        "samples_per_second": measured.samples,
        "tokens_per_second": measured.tokens,
        "shares": measured.shares,
        "flops_per_second": measured.flops,
        "peak_flops_per_second": measured.peak_flops,
        "utilisation": measured.utilisation,
        "peak_memory_bytes": measured.memory,
    }


def _table(measured: Measured) -> Table:
    table = Table("measure", "value", title=measured.device)
    table.add_row("rows a step", ", ".join(f"{name} {rows}" for name, rows in measured.rows.items()))
    table.add_row("seconds a step", f"{measured.seconds:.3g}")
    table.add_row("samples/s", f"{measured.samples:.1f}")
    table.add_row("tokens/s", f"{measured.tokens:.0f}")
    for part, share in measured.shares.items():
        table.add_row(f"  {part}", f"{share:.1%}")
    table.add_row("GFLOP/s in the step", f"{measured.flops / 1e9:.1f}")
    table.add_row("GFLOP/s of a matrix product", f"{measured.peak_flops / 1e9:.1f}")
    table.add_row("share of that peak", f"{measured.utilisation:.0%}")
    table.add_row("peak memory", f"{measured.memory / 2**20:.0f} MiB")
    return table


def _sizes(tried: dict[int, Measured], best: int) -> Table:
    table = Table("batches", "samples/s", "peak memory", "")
    for factor, measured in tried.items():
        memory = f"{measured.memory / 2**20:.0f} MiB"
        table.add_row(f"× {factor}", f"{measured.samples:.1f}", memory, "best" if factor == best else "")
    return table

"""`x2kit evaluate`: measure trained weights."""

from __future__ import annotations

import json
from pathlib import Path

import jsonargparse

from x2kit.cli.key_help import print_help
from x2kit.cli.recipe_keys import add_overlay_arguments
from x2kit.cli.run_directory import same_model, stored_recipe
from x2kit.distributed.processes import Processes, started_processes
from x2kit.terminal import PlainConsole

HELP = "measure trained weights: retrieval in every language, boxes"
RECIPE_KEYS = ("evaluation",)
EXAMPLES = """\
examples:
  x2kit evaluate runs/mine
  x2kit evaluate runs/mine --split validation --evaluation.languages '[en, de]'
  x2kit evaluate runs/mine/weights --evaluation.tasks.retrieval.top_k 32 --output retrieval.json
  torchrun --nproc-per-node 8 -m x2kit evaluate runs/mine
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Run, split, where the result goes."""
    parser.add_argument("run", help="a run directory, or a weights directory")
    parser.add_argument(
        "--split", type=str, metavar="NAME", help="part of the records; the recipe's by default"
    )
    parser.add_argument(
        "--output", type=str, metavar="FILE", help="the result; evaluation.json in RUN by default"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")
    add_overlay_arguments(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Read the stored recipe, measure, show; in one process, or in those that torchrun started."""
    with started_processes() as processes:
        return _run(options, processes)


def _run(options: jsonargparse.Namespace, processes: Processes) -> int:
    directory = Path(options.run)
    if options.recipe_keys.help:
        return print_help(options, [directory / "recipe.yaml"], saved=True)
    keys = list(options.recipe_keys.values)
    if options.split:
        keys.append(("evaluation.split", options.split))
    resolved = stored_recipe(directory, options.config, keys, options.plugin)
    same_model(stored_recipe(directory, plugins=options.plugin, checks="none"), resolved)
    from x2kit.evaluation import evaluate  # torch enters here
    from x2kit.evaluation.table import render
    from x2kit.terminal import TaskProgress

    output = Path(options.output) if options.output else None
    with TaskProgress(None if processes.is_rank_zero else PlainConsole(quiet=True)) as progress:
        result = evaluate(
            directory,
            resolved.recipe,
            resolved.plugins,
            options.split,
            output,
            progress=progress,
            processes=processes,
        )
    if not processes.is_rank_zero:
        return 0
    if options.json:
        print(json.dumps(result, ensure_ascii=False, indent=2))
    else:
        PlainConsole().print(render(result))
    return 0

"""`x2kit evaluate`: evaluate trained weights on the tasks of a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import jsonargparse

from x2kit.cli.key_help import print_help
from x2kit.cli.recipe_keys import add_overlay_arguments
from x2kit.cli.run_directory import require_same_model, stored_recipe
from x2kit.distributed.processes import Processes, started_processes
from x2kit.terminal import PlainConsole

HELP = "evaluate trained weights on the tasks of their recipe: retrieval by language, grounding"
RECIPE_KEYS = ("evaluation",)
EXAMPLES = """\
examples:
  x2kit evaluate runs/mine
  x2kit evaluate runs/mine --split validation --evaluation.languages '[en, de]'
  x2kit evaluate runs/mine/weights --evaluation.tasks.retrieval.top_k 32 --output retrieval.json
  torchrun --nproc-per-node 8 -m x2kit evaluate runs/mine
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add run, split, output and overlay options."""
    parser.add_argument("run", help="a run directory, or a weights directory")
    parser.add_argument(
        "--split", type=str, metavar="NAME", help="split to evaluate; evaluation.split by default"
    )
    parser.add_argument(
        "--output", type=str, metavar="FILE", help="result file; RUN/evaluation.json by default"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")
    add_overlay_arguments(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Evaluate the stored recipe and print the result; runs on all ranks of torchrun."""
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
    require_same_model(stored_recipe(directory, plugins=options.plugin, checks="none"), resolved)
    from x2kit.evaluation import evaluate  # imports torch
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

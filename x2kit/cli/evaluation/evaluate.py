"""`x2kit evaluate`: evaluate trained weights on the tasks of a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import jsonargparse

from x2kit.cli.key_help import print_help
from x2kit.cli.recipe_keys import add_overlay_arguments
from x2kit.cli.run_directory import require_same_model, stored_recipe
from x2kit.distributed.processes import Processes, started_processes
from x2kit.errors import CheckpointError
from x2kit.recipe.catalogue import shipped
from x2kit.terminal import PlainConsole

HELP = "evaluate trained weights on the tasks of their recipe: retrieval by language, grounding"
RECIPE_KEYS = ("evaluation", "model")
INIT_FROM = "model.init_from"
EXAMPLES = """\
examples:
  x2kit evaluate runs/mine
  x2kit evaluate runs/mine --split validation --evaluation.languages '[en, de]'
  x2kit evaluate weights/x2vlm-base --recipe evaluate/retrieval-coco
  x2kit evaluate evaluate/retrieval-coco --model.init_from weights/x2vlm-base      # the same
  x2kit evaluate runs/mine/weights --evaluation.tasks.retrieval.top_k 32 --output retrieval.json
  torchrun --nproc-per-node 8 -m x2kit evaluate runs/mine
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add run, recipe, split, output and overlay options."""
    parser.add_argument(
        "run", help=f"a run or weights directory; or a recipe, with the weights in --{INIT_FROM}"
    )
    parser.add_argument(
        "--recipe", type=str, metavar="NAME", help="a recipe whose evaluation replaces that of the weights"
    )
    parser.add_argument(
        "--split", type=str, metavar="NAME", help="split to evaluate; evaluation.split by default"
    )
    parser.add_argument(
        "--output",
        type=str,
        metavar="FILE",
        help="result file; RUN/evaluation.json by default, RUN/evaluation-NAME.json with --recipe",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")
    add_overlay_arguments(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Evaluate the stored recipe and print the result; runs on all ranks of torchrun."""
    with started_processes() as processes:
        return _run(options, processes)


def _run(options: jsonargparse.Namespace, processes: Processes) -> int:
    directory, recipe, keys = _weights_and_recipe(options)
    if options.recipe_keys.help:
        return print_help(options, [directory / "recipe.yaml"], saved=True)
    if options.split:
        keys.append(("evaluation.split", options.split))
    resolved = stored_recipe(directory, options.config, keys, options.plugin, evaluation_of=recipe)
    require_same_model(stored_recipe(directory, plugins=options.plugin, checks="none"), resolved)
    from x2kit.evaluation import evaluate  # imports torch
    from x2kit.evaluation.table import render
    from x2kit.terminal import TaskProgress

    output = Path(options.output) if options.output else None
    if output is None and recipe is not None:
        name = "-".join(["evaluation", Path(recipe).stem, *([options.split] if options.split else [])])
        output = directory / f"{name}.json"
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


def _weights_and_recipe(options: jsonargparse.Namespace) -> tuple[Path, str | None, list[tuple[str, str]]]:
    """Return the directory of the weights, the recipe to evaluate with unless it is theirs, and the other keys.

    Raises: CheckpointError for a recipe without weights, or weights given twice.
    """
    keys = list(options.recipe_keys.values)
    weights = [value for key, value in keys if key == INIT_FROM]
    if not weights:
        if not Path(options.run).exists() and options.run in [file.name for file in shipped()]:
            raise CheckpointError(
                f"{options.run}: is a recipe; give the weights to evaluate: x2kit evaluate DIR --recipe {options.run}"
            )
        return Path(options.run), options.recipe, keys
    if options.recipe is not None:
        raise CheckpointError(f"--recipe and --{INIT_FROM}: give one of them; see x2kit evaluate --help")
    return Path(weights[-1]), options.run, [(key, value) for key, value in keys if key != INIT_FROM]

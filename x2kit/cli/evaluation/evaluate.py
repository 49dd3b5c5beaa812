"""`x2kit evaluate`: evaluate trained weights on the tasks of a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import jsonargparse

from x2kit.cli.key_help import print_help
from x2kit.cli.model_names import INIT_FROM, NAMES, directory_of
from x2kit.cli.recipe_keys import add_overlay_arguments
from x2kit.cli.run_directory import require_same_model, stored_recipe
from x2kit.distributed.processes import Processes, started_processes
from x2kit.errors import CheckpointError
from x2kit.evaluation.config import require_evaluation
from x2kit.hub.names import is_local
from x2kit.recipe.catalogue import shipped
from x2kit.terminal import PlainConsole

HELP = "evaluate trained weights on the tasks of their recipe: retrieval by language, grounding"
RECIPE_KEYS = ("evaluation", "model")
EXAMPLES = """\
examples:
  x2kit evaluate runs/mine
  x2kit evaluate runs/mine --split validation --evaluation.languages '[en, de]'
  x2kit evaluate weights/x2vlm-base --recipe evaluate/retrieval-coco
  x2kit evaluate evaluate/retrieval-coco --model.init_from weights/x2vlm-base      # the same
  x2kit evaluate cclm-x2vlm-base --recipe evaluate/retrieval-xflickrco             # a published model
  x2kit evaluate runs/mine/weights --evaluation.tasks.retrieval.top_k 32 --output retrieval.json
  torchrun --nproc-per-node 8 -m x2kit evaluate runs/mine
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add run, recipe, split, output and overlay options."""
    parser.add_argument("run", help=f"{NAMES}; or a recipe, with the model in --{INIT_FROM}")
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
        help="result file; RUN/evaluation.json by default, RUN/evaluation-NAME.json with --recipe; in the working "
        "directory if the model is not a local directory",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of a table")
    add_overlay_arguments(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Evaluate the stored recipe and print the result; runs on all ranks of torchrun."""
    with started_processes() as processes:
        return _run(options, processes)


def _run(options: jsonargparse.Namespace, processes: Processes) -> int:
    name, recipe, keys = _weights_and_recipe(options)
    directory = directory_of(name, options.plugin, processes)
    if options.recipe_keys.help:
        return print_help(options, [directory / "recipe.yaml"], saved=True)
    if options.split:
        keys.append(("evaluation.split", options.split))
    resolved = stored_recipe(directory, options.config, keys, options.plugin, evaluation_of=recipe)
    require_same_model(stored_recipe(directory, plugins=options.plugin, checks="none"), resolved)
    from x2kit.evaluation import evaluate  # imports torch
    from x2kit.evaluation.harness import result_name
    from x2kit.evaluation.table import render
    from x2kit.terminal import TaskProgress

    local = is_local(name)
    folder = directory if local else Path()  # the cache is no place for results
    output = Path(options.output) if options.output else None
    if output is None and recipe is not None:
        parts = ["evaluation", Path(recipe).stem, *([options.split] if options.split else [])]
        output = folder / f"{'-'.join(parts)}.json"
    elif output is None and not local:
        output = folder / result_name(directory, options.split or require_evaluation(resolved.recipe).split)
    with TaskProgress(None if processes.is_rank_zero else PlainConsole(quiet=True)) as progress:
        result = evaluate(
            directory,
            resolved.recipe,
            resolved.plugins,
            options.split,
            output,
            name=None if local else name,
            progress=progress,
            processes=processes,
        )
    if not processes.is_rank_zero:
        return 0
    if options.json:
        print(json.dumps(result, ensure_ascii=False, indent=2))
    else:
        PlainConsole().print(render(result))
        if output is not None and not local:
            print(f"result: {output}")
    return 0


def _weights_and_recipe(options: jsonargparse.Namespace) -> tuple[str, str | None, list[tuple[str, str]]]:
    """Return the name of the model, the recipe to evaluate with unless it is theirs, and the other keys.

    Raises: CheckpointError for a recipe without weights, or weights given twice.
    """
    keys = list(options.recipe_keys.values)
    weights = [value for key, value in keys if key == INIT_FROM]
    if not weights:
        if not Path(options.run).exists() and options.run in [file.name for file in shipped()]:
            raise CheckpointError(
                f"{options.run}: is a recipe; give the weights to evaluate: x2kit evaluate DIR --recipe {options.run}"
            )
        return options.run, options.recipe, keys
    if options.recipe is not None:
        raise CheckpointError(f"--recipe and --{INIT_FROM}: give one of them; see x2kit evaluate --help")
    return weights[-1], options.run, [(key, value) for key, value in keys if key != INIT_FROM]

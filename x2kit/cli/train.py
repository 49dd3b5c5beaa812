"""`x2kit train`: train a model from a recipe, or resume a run."""

from __future__ import annotations

from pathlib import Path

import jsonargparse

from x2kit.cli.key_help import print_help
from x2kit.cli.model_names import INIT_FROM, fetch_initial_weights
from x2kit.cli.recipe_keys import add_recipe_arguments, print_warnings, read
from x2kit.cli.run_directory import new_run_directory, prepare_run_directory, require_same_run, stored_recipe
from x2kit.distributed.processes import Processes, started_processes
from x2kit.errors import CheckpointError
from x2kit.recipe.reading import ResolvedRecipe
from x2kit.recipe.schema import SECTIONS

HELP = "train a model from a recipe, or resume a run"
RECIPE_KEYS = SECTIONS
EXAMPLES = """\
examples:
  x2kit train quickstart/multilingual
  x2kit train quickstart/multilingual --model.text XLMRoberta --training.steps 200 --run-dir runs/mine
  x2kit train my_recipe.yaml --config overlays/bf16 --plugin my_encoder.py
  x2kit train quickstart/multilingual --model.text XLMRoberta --print_config > mine.yaml
  x2kit train --resume --run-dir runs/mine
  torchrun --nproc-per-node 8 -m x2kit train my_recipe.yaml --run-dir runs/mine
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add recipe, run directory, and options to resume or restart."""
    add_recipe_arguments(parser)
    parser.add_argument(
        "--run-dir", type=str, metavar="DIR", help="run directory; a new one in runs/ by default"
    )
    parser.add_argument("--print_config", action="store_true", help="print the whole recipe as YAML and exit")
    parser.add_argument("--resume", action="store_true", help="resume the run in --run-dir")
    parser.add_argument("--restart", action="store_true", help="delete the run in --run-dir and start over")


def run(options: jsonargparse.Namespace) -> int:
    """Resolve the recipe, prepare the run directory and train, on all ranks of torchrun."""
    with started_processes() as processes:
        return _run(options, processes)


def _run(options: jsonargparse.Namespace, processes: Processes) -> int:
    names = [options.recipe] if options.recipe else []
    if options.recipe_keys.help:
        return print_help(options, names)
    if options.resume and options.restart:
        raise CheckpointError("--resume and --restart exclude each other; give one of them")
    if options.print_config:
        print(read(options, names).to_yaml(), end="")
        return 0
    if options.resume:
        resolved, directory = _resumed(options, names, processes)
        fetch_initial_weights(resolved, processes)
    else:
        resolved = read(options, names)
        fetch_initial_weights(resolved, processes)
        directory = Path(options.run_dir) if options.run_dir else new_run_directory(resolved.label)
        directory = processes.from_rank_zero(
            directory
        )  # its name has the time, which may differ between ranks
        message = prepare_run_directory(directory, options.restart) if processes.is_rank_zero else None
        processes.wait()
        if message:
            print(message)
    if processes.is_rank_zero:
        print_warnings(resolved, but=INIT_FROM)
    from x2kit.training import train  # imports torch, after the recipe was checked

    validator = None
    if resolved.recipe.evaluation is not None and resolved.recipe.evaluation.every is not None:
        from x2kit.evaluation import Validator

        validator = Validator(resolved.recipe, processes)
    train(resolved.recipe, resolved.plugins, directory, options.resume, processes, validator)
    if processes.is_rank_zero:
        print(f"next: x2kit evaluate {directory}")
    return 0


def _resumed(
    options: jsonargparse.Namespace, names: list[str], processes: Processes
) -> tuple[ResolvedRecipe, Path]:
    if not options.run_dir:
        raise CheckpointError("--resume needs the run directory: --run-dir DIR")
    directory = Path(options.run_dir)
    # Read the user's recipe first: plugins that it loads need no consent in the stored one.
    wanted = read(options, names) if names else None
    stored = stored_recipe(directory, plugins=options.plugin, checks="none")
    wanted = wanted or stored_recipe(
        directory, options.config, options.recipe_keys.values, options.plugin, checks="all"
    )
    for line in require_same_run(stored, wanted):
        if processes.is_rank_zero:
            print(line)
    return wanted, directory

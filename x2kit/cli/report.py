"""`x2kit report`: a run as one HTML file."""

from __future__ import annotations

from pathlib import Path

import jsonargparse

from x2kit.cli.key_help import print_help
from x2kit.cli.recipe_keys import add_overlay_arguments
from x2kit.cli.run_directory import same_model, stored_recipe

HELP = "write report.html of a run: curves, tables, images"
RECIPE_KEYS = ("evaluation",)
EXAMPLES = """\
examples:
  x2kit report runs/mine
  x2kit report weights/x2vlm-base --config my_evaluation.yaml
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """The run, and what is laid over its recipe: converted weights do not say what they are measured on."""
    parser.add_argument("run", help="a run directory that was trained and evaluated, or a weights directory")
    add_overlay_arguments(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Write the report and say where it is."""
    directory = Path(options.run)
    if options.recipe_keys.help:
        return print_help(options, [directory / "recipe.yaml"], saved=True)
    resolved = stored_recipe(directory, options.config, options.recipe_keys.values, options.plugin)
    same_model(stored_recipe(directory, plugins=options.plugin, checks="none"), resolved)
    from x2kit.evaluation.report import write_report  # torch enters here

    print(write_report(directory, resolved.recipe, resolved.plugins))
    return 0

"""`x2kit report`: write the curves, results and examples of a run to one HTML file."""

from __future__ import annotations

import jsonargparse

from x2kit.cli.key_help import print_help
from x2kit.cli.model_names import require_directory
from x2kit.cli.recipe_keys import add_overlay_arguments
from x2kit.cli.run_directory import require_same_model, stored_recipe

HELP = "write the curves, result tables and example images of a run to report.html"
RECIPE_KEYS = ("evaluation",)
EXAMPLES = """\
examples:
  x2kit report runs/mine
  x2kit report runs/mine --evaluation.split validation
  x2kit report runs/mine --plugin my_encoder.py
  x2kit report weights/x2vlm-base --config my_evaluation.yaml
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add the run and the overlay options, which give converted weights an evaluation."""
    parser.add_argument("run", help="a trained and evaluated run directory, or a weights directory")
    add_overlay_arguments(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Write the report into the directory and print its path.

    Raises: WeightsError for the name of a published model, whose place is the cache.
    """
    directory = require_directory(options.run, "x2kit report")
    if options.recipe_keys.help:
        return print_help(options, [directory / "recipe.yaml"], saved=True)
    resolved = stored_recipe(directory, options.config, options.recipe_keys.values, options.plugin)
    require_same_model(stored_recipe(directory, plugins=options.plugin, checks="none"), resolved)
    from x2kit.evaluation.report import write_report  # imports torch

    print(write_report(directory, resolved.recipe, resolved.plugins))
    return 0

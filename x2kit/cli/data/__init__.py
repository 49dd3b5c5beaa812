"""`x2kit data`: check a recipe's data, or show a training batch."""

from __future__ import annotations

import jsonargparse

from x2kit.cli.data import check as data_check
from x2kit.cli.data import show as data_show
from x2kit.cli.key_help import print_help
from x2kit.cli.parser import ArgumentParser
from x2kit.cli.recipe_keys import add_recipe_arguments, read
from x2kit.errors import X2KitError
from x2kit.recipe.schema import SECTIONS

HELP = "check the records of a recipe, or show the batch of a step"
RECIPE_KEYS = SECTIONS
ACTIONS = {"check": data_check, "show": data_show}
EXAMPLES = """\
examples:
  x2kit data check my_recipe.yaml
  x2kit data check my_recipe.yaml --limit 1000 --workers 4 --json
  x2kit data show quickstart/multilingual
  x2kit data show my_recipe.yaml --step 500 --output step-500.html --data.streams.regions.task.max_regions 3

exit status of check: 0 no problem, 1 too many broken records or another problem, 2 invalid recipe or missing file
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add the actions."""
    actions = parser.add_subcommands(dest="action", title="actions", description="")
    for name, module in ACTIONS.items():
        action = ArgumentParser(description=module.HELP)
        actions.add_subcommand(name, action, help=module.HELP)
        add_recipe_arguments(action)
        module.add_arguments(action)


def run(options: jsonargparse.Namespace) -> int:
    """Resolve the recipe and run the action."""
    chosen = options[options.action]
    chosen.recipe_keys = options.recipe_keys
    names = [chosen.recipe] if chosen.recipe else []
    if options.recipe_keys.help:
        return print_help(chosen, names)
    resolved = read(chosen, names)
    if not resolved.recipe.data.streams:
        raise X2KitError("data.streams: the recipe has no stream, so there is no data to read; add one")
    status: int = ACTIONS[options.action].run(resolved, chosen)
    return status

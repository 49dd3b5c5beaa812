"""`x2kit data`: look at a recipe's data before a run does."""

from __future__ import annotations

import jsonargparse

from x2kit.cli.data import check as data_check
from x2kit.cli.data import show as data_show
from x2kit.cli.key_help import print_help
from x2kit.cli.parser import ArgumentParser
from x2kit.cli.recipe_keys import add_recipe_arguments, read
from x2kit.errors import X2KitError
from x2kit.recipe.shapes import SECTIONS

HELP = "check a recipe's data, or show what the model will see"
RECIPE_KEYS = SECTIONS
ACTIONS = {"check": data_check, "show": data_show}
EXAMPLES = """\
examples:
  x2kit data check my_recipe.yaml
  x2kit data check my_recipe.yaml --limit 1000 --workers 4 --json
  x2kit data show quickstart/multilingual
  x2kit data show my_recipe.yaml --step 500 --output step-500.html --data.streams.regions.max_regions 3

exit status of check: 0 sound, 1 too many broken records or another problem, 2 a wrong recipe or a missing file
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Two actions."""
    actions = parser.add_subcommands(dest="action", title="actions", description="")
    for name, module in ACTIONS.items():
        action = ArgumentParser(description=module.HELP, allow_abbrev=False)
        actions.add_subcommand(name, action, help=module.HELP)
        add_recipe_arguments(action)
        module.add_arguments(action)


def run(options: jsonargparse.Namespace) -> int:
    """Resolve the recipe, then the action."""
    chosen = options[options.action]
    chosen.recipe_keys = options.recipe_keys
    names = [chosen.recipe] if chosen.recipe else []
    if options.recipe_keys.help:
        return print_help(chosen, names)
    resolved = read(chosen, names)
    if not resolved.recipe.data.streams:
        raise X2KitError("the recipe has no stream of data, so there is nothing to look at; see data.streams")
    status: int = ACTIONS[options.action].run(resolved, chosen)
    return status

"""`x2kit search`: index folders of images and query them by text, image or region."""

from __future__ import annotations

from importlib import import_module

import jsonargparse

from x2kit.cli.parser import ArgumentParser, HelpFormatter

HELP = "index folders of images and videos, and search them by text in any language, image or region"
ACTIONS = ("index", "query", "status", "remove", "export", "build", "evaluate", "serve")
EXAMPLES = """\
examples:
  x2kit search index photos --model runs/mine --index photos.index
  x2kit search query photos.index "ein Affe neben einem Klavier"
  x2kit search query photos.index "a dog" --minus "snow" --where "modified > '2024'" --html dogs.html
  x2kit search query photos.index --image holiday.jpg -k 20 --paths
  x2kit search status photos.index
  x2kit search serve photos.index
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add the actions."""
    actions = parser.add_subcommands(dest="action", title="actions", description="")
    for name in ACTIONS:
        module = import_module(f"x2kit.cli.search.{name}")
        action = ArgumentParser(
            description=module.HELP, epilog=module.EXAMPLES, formatter_class=HelpFormatter, print_config=None
        )
        actions.add_subcommand(name, action, help=module.HELP)
        module.add_arguments(action)


def run(options: jsonargparse.Namespace) -> int:
    """Run the action."""
    module = import_module(f"x2kit.cli.search.{options.action}")
    status: int = module.run(options[options.action])
    return status

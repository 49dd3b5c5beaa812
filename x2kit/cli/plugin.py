"""`x2kit plugin`: write a plugin to begin with, and check one against its contract."""

from __future__ import annotations

import jsonargparse

from x2kit.cli import plugin_check, plugin_new

HELP = "write a plugin to begin with, and check one against its contract"
EXAMPLES = """\
examples:
  x2kit plugin new my-encoder --kind vision          # a distribution in ./my-encoder that passes its tests
  x2kit plugin new my-data --kind source --directory work/my-data
  x2kit plugin check my_encoder                      # an installed plugin, by its own or its distribution's name
  x2kit plugin check my_encoder.py --json            # a file; exit status 1 if a check fails
  x2kit plugin check x2kit_data --component JsonLines --set 'files=[train.jsonl]'
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """The actions."""
    actions = parser.add_subcommands(dest="action", title="actions", description="")
    for name, module in (("new", plugin_new), ("check", plugin_check)):
        action = jsonargparse.ArgumentParser(description=module.TEXT, allow_abbrev=False)
        actions.add_subcommand(name, action, help=module.TEXT)
        module.add_arguments(action)


def run(options: jsonargparse.Namespace) -> int:
    """Dispatch to the action."""
    status: int = {"new": plugin_new, "check": plugin_check}[options.action].run(options[options.action])
    return status

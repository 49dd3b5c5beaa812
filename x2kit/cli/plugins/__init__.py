"""`x2kit plugins`: list plugins, write one to begin with, and check one against its contract."""

from __future__ import annotations

import jsonargparse

from x2kit.cli.parser import ArgumentParser
from x2kit.cli.plugins import check as plugin_check
from x2kit.cli.plugins import list as plugin_list
from x2kit.cli.plugins import new as plugin_new

HELP = "list plugins and their components, write a new plugin, check one against its contract"
ACTIONS = {"list": plugin_list, "new": plugin_new, "check": plugin_check}
EXAMPLES = """\
examples:
  $ x2kit plugins list --kind fusion
  NAME          KIND    PLUGIN        DISTRIBUTION  STATUS
  CrossBert     fusion  x2kit_fusion  x2kit 0.1.0   active
  LightCross    fusion  x2kit_fusion  x2kit 0.1.0   active
  PreNormCross  fusion  x2kit_fusion  x2kit 0.1.0   active
  $ x2kit plugins                                      # the same as x2kit plugins list
  $ x2kit plugins list --plugin my_encoder.py          # does my plugin work?
  $ x2kit plugins list --plugin my.py --strict         # stop at its error, with a traceback and exit status 2
  $ x2kit plugins list --json                          # for machines, with tracebacks
  $ x2kit plugins new my-encoder --kind vision         # a distribution in ./my-encoder that passes its tests
  $ x2kit plugins new my-encoder --kind vision --file  # one file, ./my_encoder.py
  $ x2kit plugins new my-data --kind source --directory work/my-data
  $ x2kit plugins check my_encoder                     # an installed plugin, by its own or its distribution's name
  $ x2kit plugins check my_encoder.py --json           # a file; exit status 1 if a check fails
  $ x2kit plugins check x2kit_data --component JsonLines --set 'files=[train.jsonl]'
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """The actions; without one the plugins are listed."""
    actions = parser.add_subcommands(dest="action", required=False, title="actions", description="")
    for name, module in ACTIONS.items():
        action = ArgumentParser(description=module.TEXT, allow_abbrev=False)
        actions.add_subcommand(name, action, help=module.TEXT)
        module.add_arguments(action)


def run(options: jsonargparse.Namespace) -> int:
    """Dispatch to the action."""
    if options.action is None:
        plain = ArgumentParser()
        plugin_list.add_arguments(plain)
        return plugin_list.run(plain.parse_args([]))
    status: int = ACTIONS[options.action].run(options[options.action])
    return status

"""`x2kit plugins`: list, create and check plugins."""

from __future__ import annotations

import jsonargparse

from x2kit.cli.parser import ArgumentParser
from x2kit.cli.plugins import check as plugin_check
from x2kit.cli.plugins import list as plugin_list
from x2kit.cli.plugins import new as plugin_new

HELP = "list plugins and their components, create a plugin, or check one against its contract"
ACTIONS = {"list": plugin_list, "new": plugin_new, "check": plugin_check}
EXAMPLES = """\
examples:
  $ x2kit plugins list --kind fusion
  NAME          KIND    PLUGIN        DISTRIBUTION  STATUS
  CrossBert     fusion  x2kit_fusion  x2kit 0.1.0   active
  DoubledCross  fusion  x2kit_fusion  x2kit 0.1.0   active
  LightCross    fusion  x2kit_fusion  x2kit 0.1.0   active
  PreNormCross  fusion  x2kit_fusion  x2kit 0.1.0   active
  $ x2kit plugins                                      # same as x2kit plugins list
  $ x2kit plugins list --plugin my_encoder.py          # does my plugin load?
  $ x2kit plugins list --plugin my.py --strict         # exit with status 2 and a traceback on error
  $ x2kit plugins list --json                          # JSON with tracebacks
  $ x2kit plugins new my-encoder --kind vision         # a tested distribution in ./my-encoder
  $ x2kit plugins new my-encoder --kind vision --file  # one file, ./my_encoder.py
  $ x2kit plugins new my-data --kind source --directory work/my-data
  $ x2kit plugins check my_encoder                     # an installed plugin or distribution
  $ x2kit plugins check my_encoder.py --json           # a file; exit status 1 if a check fails
  $ x2kit plugins check my_task.py --records sample.jsonl --heads '{extra: {mine: MyHead}}'
  $ x2kit plugins check x2kit_data --component JsonLines --set 'files=[train.jsonl]'
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add the actions; without one, plugins are listed."""
    actions = parser.add_subcommands(dest="action", required=False, title="actions", description="")
    for name, module in ACTIONS.items():
        action = ArgumentParser(description=module.HELP)
        actions.add_subcommand(name, action, help=module.HELP)
        module.add_arguments(action)


def run(options: jsonargparse.Namespace) -> int:
    """Run the action."""
    if options.action is None:
        plain = ArgumentParser()
        plugin_list.add_arguments(plain)
        return plugin_list.run(plain.parse_args([]))
    status: int = ACTIONS[options.action].run(options[options.action])
    return status
